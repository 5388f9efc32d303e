"""The program around the library: flags, the folder of a run, and how a program ends.

The examples share it; `examples/mnist.py` uses all of it. Nothing in npaae outside
this folder imports from it.

    Parser, training_flags      the command line; ALL stands for all labels
    load_data                   a data set by name, or the bundled sample
    Run                         the folder of a run: progress, losses, checkpoints, figures
    reopen, read_config, read_history     an existing run
    locked                      keeps other programs from writing to a folder
    figures_of_a_run            the figures of `examples/mnist.py`
    import_plots                `npaae.plots`, or a clear error if matplotlib cannot be used
    launch                      runs `main` as a program that reports a user's mistake in a sentence
"""

from .flags import ALL, Parser, training_flags
from .run import (
    Run,
    check_run,
    figures_of_a_run,
    import_plots,
    load_data,
    locked,
    read_config,
    read_history,
    reopen,
)
from .signals import launch

__all__ = [
    "ALL",
    "Parser",
    "Run",
    "check_run",
    "figures_of_a_run",
    "import_plots",
    "launch",
    "load_data",
    "locked",
    "read_config",
    "read_history",
    "reopen",
    "training_flags",
]
