"""What the property tests draw: seeds and shapes, from which each test makes its own arrays."""

from hypothesis import reject
from hypothesis import strategies as st

from npaae import gradcheck

seeds = st.integers(0, 2**32 - 1)
sizes = st.integers(1, 6)
shapes = st.tuples(sizes, sizes)
scales = st.sampled_from([0.01, 1.0, 100.0])
rates = st.floats(0, 0.95)


def off_kinks(check, *arguments, **options):
    """A check's error; an example whose difference straddles a kink says nothing, and another is drawn in its place."""
    try:
        return check(*arguments, **options)
    except gradcheck.Kink:
        reject()
