"""Imported first by the programs here: until they run, Ctrl-C ends them in silence with status 130.

Importing NumPy takes a tenth of a second, and an interrupted import prints a traceback.
"""

import os
import signal
import sys


def _folder(file: str) -> str:
    return os.path.dirname(os.path.realpath(file))


program = getattr(sys.modules["__main__"], "__file__", None)
if (
    program
    and _folder(program) == _folder(__file__)  # not the tests or a notebook
    and signal.getsignal(signal.SIGINT) is signal.default_int_handler
):
    signal.signal(signal.SIGINT, lambda *_: os._exit(130))  # there is nothing to clean up yet
