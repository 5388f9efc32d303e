"""The exceptions of npaae, and where its warnings point."""

import pickle

import pytest

import npaae
from npaae import errors
from npaae.errors import CannotWrite, InvalidInput, UserError


def test_every_exception_is_a_users_error_and_a_built_in_one():
    kinds = {kind for kind in vars(errors).values() if isinstance(kind, type)} - {UserError}
    assert len(kinds) == 5
    assert all(issubclass(kind, UserError) for kind in kinds)
    assert all(kind.__bases__[1].__module__ == "builtins" for kind in kinds)


@pytest.mark.parametrize("kind", [InvalidInput, CannotWrite])
def test_a_message_is_one_printable_line_whatever_value_it_quotes(kind):
    message = str(kind("name must be plain, got größe \x1b[2J\r\n\u202e\udc80"))
    assert message.startswith("name must be plain, got größe ")
    assert message.isprintable()


def test_a_long_value_is_cut_out_of_a_message_but_neither_the_argument_nor_the_advice():
    message = str(InvalidInput(f"name must be short, got {'x' * 300_000}; choose another"))
    assert len(message) <= 2_000
    assert message.startswith("name must be short, got x")
    assert message.endswith("x; choose another")


@pytest.mark.parametrize("message", ["name must\n", "x" * 10_000])
def test_an_exception_survives_pickling(message):
    error = InvalidInput(message)
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_a_warning_names_the_line_that_discards_training(small_model, rng):
    with pytest.warns(RuntimeWarning) as caught:
        npaae.train(small_model(), rng.random((4, 9)))
    assert caught[0].filename == __file__
