"""The exceptions of npaae."""

from npaae import errors
from npaae.errors import UserError


def test_every_exception_is_a_users_error_and_a_built_in_one():
    kinds = {kind for kind in vars(errors).values() if isinstance(kind, type)} - {UserError}
    assert len(kinds) == 5
    assert all(issubclass(kind, UserError) for kind in kinds)
    assert all(kind.__bases__[1].__module__ == "builtins" for kind in kinds)
