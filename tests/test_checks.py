"""What users pass: what is accepted, as what, and that all else is refused by its name."""

import numpy as np
import pytest

from npaae import checks
from npaae.errors import InvalidInput

NAN, INF, HUGE = float("nan"), float("inf"), 10**400
NOT_NUMBERS = [None, "1", True, 1j, [1], np.zeros(2)]


@pytest.mark.parametrize(
    ("check", "accepted", "refused"),
    [
        (lambda *a: checks.integer(*a, 0), [0, np.int8(3), np.array(3)], [-1, 0.5, 1.0, NAN]),
        (lambda *a: checks.integer(*a, 1), [1, HUGE], [0, -1, np.bool_(True)]),
        (checks.positive, [1e-300, np.float32(2), 1e300], [0, -1, NAN, INF, HUGE]),
        (checks.learning_rate, [1e-9, 1], [0, 1.001, -0.1, NAN, HUGE]),
        (checks.fraction, [0, 0.999], [1, -1e-9, NAN, HUGE]),
    ],
    ids=["non-negative", "positive integer", "positive", "learning rate", "fraction"],
)
def test_a_number_in_its_range_is_taken_and_all_else_refused_by_name(check, accepted, refused):
    for value in accepted:
        number = check("argument", value)
        assert number == value
        assert type(number) in (int, float)
    for value in refused + NOT_NUMBERS:
        with pytest.raises(InvalidInput, match="argument must"):
            check("argument", value)


class Unconvertible:
    """As another library's array that lies on a GPU or carries a gradient."""

    def __array__(self, dtype=None, copy=None):
        raise RuntimeError("call detach\nfirst")


@pytest.mark.parametrize("values", [[[1], [1, 2]], Unconvertible()], ids=["ragged", "foreign"])
def test_what_cannot_be_an_array_is_refused_in_one_line(values):
    with pytest.raises(InvalidInput, match="rows must") as caught:
        checks.host_array("rows", values)
    assert "\n" not in str(caught.value)
