"""The program around the library: flags, the folder of a run, and how a program ends.

The examples share it, and `examples/mnist.py` shows all of it at work. Nothing in npaae outside
this folder imports from it.

    Parser, training_flags      the command line
    load_data                   a data set by its name, or the bundled sample
    Run                         the folder of a run: progress, losses, checkpoints, figures
    reopen, read_history        a run that exists already
    import_plots                `npaae.plots`, or one sentence if matplotlib cannot be used
    launch                      runs `main` as a program: a user's mistake is one sentence
"""

from .flags import Parser, training_flags
from .run import Run, import_plots, load_data, read_history, reopen
from .signals import launch

__all__ = [
    "Parser",
    "Run",
    "import_plots",
    "launch",
    "load_data",
    "read_history",
    "reopen",
    "training_flags",
]
