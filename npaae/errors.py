"""The exceptions that npaae raises.

Every exception derives from `UserError`, so that a program can tell a user's mistake (print the
message) from a bug (show the traceback). Each also derives from the built-in exception that a
Python programmer expects.
"""


class UserError(Exception):
    """A mistake that the user can fix; the message names the argument or file, rule and value."""

    def __init__(self, message: str) -> None:
        super().__init__(printable(message))


class InvalidInput(UserError, ValueError):
    """An argument outside its range, or an array of the wrong shape, type or values."""


class BadFile(UserError, ValueError):
    """A file that is truncated, altered or in another format."""


class CannotWrite(UserError, OSError):
    """A file that cannot be written, for example on a full disk."""


class Unavailable(UserError, RuntimeError):
    """A data set or an array library that this machine does not have."""


class Diverged(UserError, ArithmeticError):
    """A loss or a parameter has become NaN or infinite during training."""


def one_line(error: Exception) -> str:
    """The message of an exception on one line."""
    return f"{error} is missing" if isinstance(error, KeyError) else " ".join(str(error).split())


_LONGEST = 2_000  # characters of a message; a file may hold a value of any length


def printable(message: str) -> str:
    """The message, shortened in the middle if it is long, with control characters escaped."""
    if len(message) > _LONGEST:
        message = f"{message[: _LONGEST - 500]} … {message[-490:]}"
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in message)
