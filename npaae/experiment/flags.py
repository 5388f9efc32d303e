"""The command line of the examples: flags, the data and the model that they ask for, and how a program ends."""

import argparse
import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from . import data, experiment, metrics
from .backend import HostArray
from .errors import BadFile, InvalidInput, Unavailable, UserError, learning_rate, positive_number, whole_number
from .interrupts import Terminated, heed_sigterm
from .model import AdversarialAutoencoder
from .priors import gaussian


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one sentence; argparse would print all flags first."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message}; --help lists the flags\n")


def parse_flags(description: str | None, *, epochs: int, sample: bool = False) -> argparse.Namespace:
    """The flags of an example, from the command line; `epochs` is their default, `sample` whether there is a bundled sample.

    With --resume and --evaluate, what is left out is as the run in --out had it, and what contradicts it is refused.
    """
    parser = Parser(description=description)

    def add(flag: str, meaning: str, **options: Any) -> None:
        parser.add_argument(flag, help=f"{meaning} (default: %(default)s)", **options)

    add("--epochs", "passes over the training set", type=whole(1), default=epochs)
    add("--batch-size", "images a step", type=whole(1), default=100)
    add("--hidden", "widths of the hidden layers", type=whole(1), nargs="+", default=[256, 128])
    add("--latent", "dimensions of the code", type=whole(1), default=2)
    add("--prior-std", "standard deviation of the Gaussian prior", type=positive, default=5.0)
    add("--lr-reconstruction", "Adam's step size in phase 1", type=_rate, default=5e-4)
    add("--lr-regularization", "Adam's step size in phases 2 and 3", type=_rate, default=1e-4)
    add("--seed", "fixes weights, order, masks and draws", type=whole(0), default=0)
    add("--backend", "auto: CuPy if there is a GPU", choices=("numpy", "cupy", "auto"), default="numpy")
    add("--dtype", "precision", choices=("float32", "float64"), default="float32")
    add_source(parser, sample=sample)
    parser.add_argument("--out", type=_folder, help="folder for the results; by default a new one in runs/")
    existing = parser.add_mutually_exclusive_group()
    existing.add_argument("--resume", action="store_true", help="go on with the run in --out, from its last whole epoch")
    existing.add_argument("--overwrite", action="store_true", help="discard the run that is in --out")
    existing.add_argument("--evaluate", action="store_true", help="train no more: print how well the run in --out does")
    parser.add_argument("--no-progress", action="store_true", help="print one line an epoch in place of the bar")
    flags = parser.parse_args()
    named = [name for name in ("resume", "overwrite", "evaluate") if getattr(flags, name)]
    if named and flags.out is None:
        parser.error(f"--{named[0]} came without --out; name the folder of the run")
    if flags.resume or flags.evaluate:
        before = _flags_of_the_run(flags)
        parser.set_defaults(**before)
        flags = parser.parse_args()
        _refuse_contradictions(flags, before)
    return flags


def add_source(parser: argparse.ArgumentParser, *, sample: bool) -> None:
    """Add the flags that say where the data are: --data-dir, and where there is a bundled sample, --sample."""
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--data-dir", type=_folder, help="folder of the data set's four IDX files, gzipped or not")
    if sample:
        source.add_argument("--sample", action="store_true", help="train on the bundled sample, even with the full set at hand")


def _flags_of_the_run(flags: argparse.Namespace) -> dict[str, Any]:
    """The flags that the run in flags.out was started with, for those that are left out now."""
    before = dict(experiment.read_config(flags.out)["flags"])
    source = {"data_dir", "sample"}
    of_each_call = {"out", "resume", "overwrite", "evaluate", "no_progress"}
    if any(getattr(flags, name, None) for name in source):  # named anew: the old one is no default
        of_each_call |= source
    before = {name: value for name, value in before.items() if name not in of_each_call}
    for name, value in before.items():
        if not hasattr(flags, name):
            raise InvalidInput(f"{flags.out} holds a run of another example, which has a flag {name}; name another folder")
        if name == "data_dir":
            before[name] = None if value is None else Path(str(value))
        elif type(value) is not type(getattr(flags, name, None)):
            raise BadFile(
                f"{flags.out / experiment.CONFIG} is damaged: its flag {name} is {value!r}; train anew in another folder"
            )
    return before


def _refuse_contradictions(flags: argparse.Namespace, before: dict[str, Any]) -> None:
    # A run may be trained for longer; another backend computes the same; the data are compared by their content, in `Run`.
    free = {"backend", "data_dir", "sample"} | ({"epochs"} if flags.resume else set())
    for name in sorted(before.keys() - free):
        if (now := getattr(flags, name)) != before[name]:
            flag = f"--{name.replace('_', '-')}"
            raise InvalidInput(
                f"{flag} {_in_words(now)} came, and the run in {flags.out} has {flag} {_in_words(before[name])}; "
                "leave the flag out to have that run, or name another folder"
            )


def _in_words(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def whole(least: int) -> Callable[[str], int]:
    """For `type=` of a flag: a whole number of at least `least`."""
    return _as_flag(lambda text: whole_number("", int(text), least), f"a whole number of at least {least}")


def _as_flag(convert: Callable[[str], Any], wanted: str) -> Callable[[str], Any]:
    def parse(text: str) -> Any:
        try:
            return convert(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"{text!r} came, {wanted} is wanted") from error

    return parse


def _folder(text: str) -> Path:
    if not text:  # which Path would take for the folder that the user stands in
        raise argparse.ArgumentTypeError("'' came, the name of a folder is wanted")
    return Path(text)


positive = _as_flag(lambda text: positive_number("", float(text)), "a positive, finite number")
_rate = _as_flag(lambda text: learning_rate("", float(text)), "a number above 0 and at most 1")


def mnist(flags: argparse.Namespace) -> data.Dataset:
    """MNIST as the flags want it: the sample with --sample; else the full set; else, where that cannot be had and no folder
    was named, the sample, saying why.
    """
    if flags.sample:
        return data.mnist_sample()
    try:
        return data.mnist(flags.data_dir)
    except Unavailable as error:
        if flags.data_dir is not None:
            raise
        print(f"Training on the bundled sample of 10,000 digits: {error}", file=sys.stderr)
        return data.mnist_sample()


def build(flags: argparse.Namespace) -> AdversarialAutoencoder:
    """The model that the flags describe; with --resume, as the run in --out left it."""
    if flags.resume:
        return AdversarialAutoencoder.load(flags.out / experiment.MODEL, backend=flags.backend)
    return AdversarialAutoencoder(
        hidden=flags.hidden,
        latent=flags.latent,
        prior=gaussian(flags.prior_std),
        lr_reconstruction=flags.lr_reconstruction,
        lr_regularization=flags.lr_regularization,
        backend=flags.backend,
        dtype=flags.dtype,
        seed=flags.seed,
    )


def print_metrics(flags: argparse.Namespace) -> None:
    """Print how well the run in flags.out does, as `metrics.report` measures it."""
    name, model, dataset = experiment.reopen(flags.out, flags.data_dir, backend=flags.backend)
    n = len(dataset.test_images)
    print(f"The run of {name} in {flags.out} after {model.epoch} epochs, on {dataset.source}: {n:,} test images", flush=True)
    found = metrics.report(model, dataset)
    distance, threshold, _ = found.energy
    verdict = "above" if distance > threshold else "below"
    rows = {
        "reconstruction, BCE a pixel": f"{found.reconstruction:.4f} nats",
        "codes' mean": f"{_numbers(found.code_mean)}, the prior's {_numbers(found.prior_mean)}",
        "codes' covariance": f"{_matrix(found.code_covariance)}, the prior's {_matrix(found.prior_covariance)}",
        "energy distance to the prior": f"{distance:.4f}, {verdict} the {threshold:.4f} that chance stays below in 95 of 100",
        "10-nearest-neighbour accuracy": f"{100 * found.neighbour_accuracy:.1f} %",
        "Parzen log-likelihood": _parzen(found.parzen),
        "  of training images instead": _parzen(found.training_parzen),
    }
    for what, value in rows.items():
        print(f"{what:30}{value}")


def _parzen(score: metrics.Parzen) -> str:
    edge = ", at the edge of those tried" if score.width in (metrics.WIDTHS[0], metrics.WIDTHS[-1]) else ""
    return f"{score.mean:.1f} ± {score.error:.1f} nats an image, window {score.width:.2f}{edge}"


def _numbers(vector: HostArray) -> str:
    return "(" + ", ".join(f"{number:.2f}" for number in vector) + ")"


def _matrix(rows: HostArray) -> str:
    return "(" + ", ".join(map(_numbers, rows)) + ")"


def launch(main: Callable[[], None]) -> None:
    """Run `main` as a program: what its user can mend is one sentence on stderr and a status of 2, or 1 where the machine
    lacks something; Ctrl-C is a status of 130, SIGTERM one of 143. A defect keeps its traceback.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal that knows no "σ" is no reason to stop
    heed_sigterm()
    try:
        main()
    except UserError as error:
        _fail(str(error), status=2 if isinstance(error, InvalidInput) else 1)
    except BrokenPipeError:
        _fail("what read the output has ended; leave it running, or write to a file")
    except OSError as error:
        _fail(f"{error.filename or 'a file'} cannot be used ({error.strerror or error}); mend that, or name another")
    except MemoryError as error:
        what = f" ({error})" if str(error) else ""
        _fail(f"out of memory{what}; make --hidden, --latent or --batch-size smaller")
    except KeyboardInterrupt as stop:
        sys.exit(143 if isinstance(stop, Terminated) else 130)


def _fail(message: str, status: int = 1) -> NoReturn:
    print(f"{Path(sys.argv[0]).name}: error: {message}", file=sys.stderr)
    sys.exit(status)
