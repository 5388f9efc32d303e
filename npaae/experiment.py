"""A training run in a folder: its flags, its progress, its files, and when to draw. What the examples share.

    losses.csv             one row an epoch, current to the last whole one
    model.npz              the model after the last whole epoch
    losses.png, samples.png, manifold.png, latent.png, reconstructions.png      redrawn by the clock
    config.json            what the run was started with

Every file is replaced in one step, so it may be looked at, and the run stopped with Ctrl-C, at any time.
"""

import argparse
import csv
import io
import json
import platform
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any, NoReturn, Self

from tqdm import tqdm

from . import data
from .errors import InvalidInput, Unavailable, UserError, learning_rate, positive_number, whole_number
from .files import replacing
from .model import AdversarialAutoencoder
from .priors import gaussian
from .training import Record

FIGURES = ("losses", "samples", "manifold", "latent", "reconstructions")
# At most this share of the wall time goes into figures while a run lasts, so that with the last ones, which are always
# drawn, it stays below a tenth of any run that is not itself shorter than ten drawings.
DRAWING_SHARE = 0.05
FILES = ("losses.csv", "model.npz", "config.json", *(f"{name}.png" for name in FIGURES))
FIRST_DRAWING = 1.0  # seconds, what a first set of figures is taken to cost before one was drawn


# The command line


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one sentence; argparse would print all flags first."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message}; --help lists the flags\n")


def parse_flags(description: str | None, *, epochs: int, sample: bool = False) -> argparse.Namespace:
    """The flags of an example, from the command line; `epochs` is their default, `sample` whether there is a bundled sample."""
    parser = _Parser(description=description)

    def add(flag: str, meaning: str, **options: Any) -> None:
        parser.add_argument(flag, help=f"{meaning} (default: %(default)s)", **options)

    add("--epochs", "passes over the training set", type=_whole(1), default=epochs)
    add("--batch-size", "images a step", type=_whole(1), default=100)
    add("--hidden", "widths of the hidden layers", type=_whole(1), nargs="+", default=[256, 128])
    add("--latent", "dimensions of the code", type=_whole(1), default=2)
    add("--prior-std", "standard deviation of the Gaussian prior", type=_positive, default=5.0)
    add("--lr-reconstruction", "Adam's step size in phase 1", type=_rate, default=5e-4)
    add("--lr-regularization", "Adam's step size in phases 2 and 3", type=_rate, default=1e-4)
    add("--seed", "fixes weights, order, masks and draws", type=_whole(0), default=0)
    add("--backend", "auto: CuPy if there is a GPU", choices=("numpy", "cupy", "auto"), default="numpy")
    add("--dtype", "precision", choices=("float32", "float64"), default="float32")
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--data-dir", type=Path, help="folder of the data set's four IDX files, gzipped or not")
    if sample:
        source.add_argument("--sample", action="store_true", help="train on the bundled sample, even with the full set at hand")
    parser.add_argument("--out", type=Path, help="folder for the results; by default a new one in runs/")
    parser.add_argument("--no-progress", action="store_true", help="print one line an epoch in place of the bar")
    return parser.parse_args()


def _whole(least: int) -> Callable[[str], int]:
    return _as_flag(lambda text: whole_number("", int(text), least), f"a whole number of at least {least}")


def _as_flag(convert: Callable[[str], Any], wanted: str) -> Callable[[str], Any]:
    def parse(text: str) -> Any:
        try:
            return convert(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"{text!r} came, {wanted} is wanted") from error

    return parse


_positive = _as_flag(lambda text: positive_number("", float(text)), "a positive, finite number")
_rate = _as_flag(lambda text: learning_rate("", float(text)), "a number above 0 and at most 1")


def launch(main: Callable[[], None]) -> None:
    """Run `main` as a program: what its user can mend is one sentence on stderr and a status of 2, or 1 where the machine
    lacks something; Ctrl-C is a status of 130. A defect keeps its traceback.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal that knows no "σ" is no reason to stop
    try:
        main()
    except (UserError, OSError) as error:
        sys.exit(_say_error(error, status=2 if isinstance(error, InvalidInput) else 1))
    except MemoryError as error:
        what = f"out of memory ({error}); " if str(error) else "out of memory; "
        sys.exit(_say_error(what + "make --hidden, --latent or --batch-size smaller", status=1))
    except KeyboardInterrupt:
        sys.exit(130)


def _say_error(error: object, status: int) -> int:
    print(f"{Path(sys.argv[0]).name}: error: {error}", file=sys.stderr)
    return status


# Data and model


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
    """The model that the flags describe."""
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


# The run


class Run:
    """The folder of one run, as a context: `progress` shows the epochs, `record` keeps one, `draw` and `save` end the run.

    Ctrl-C inside the context draws once more from the last whole epoch, says where things are, and exits with 130; an
    error that ends the training (it diverged, the disk is full) also leaves the files of the last whole epoch.

    Raises InvalidInput where the folder holds a run already, OSError where it cannot be written.
    """

    def __init__(self, name: str, flags: argparse.Namespace, model: AdversarialAutoencoder, dataset: data.Dataset) -> None:
        self.flags, self.model, self.dataset = flags, model, dataset
        _plots()  # which may fail: better now than after the training
        self.folder = _new_folder(Path("runs"), name) if flags.out is None else flags.out
        self.folder.mkdir(parents=True, exist_ok=True)
        if taken := [name for name in FILES if (self.folder / name).exists()]:
            raise InvalidInput(f"{self.folder} holds a run already, with its {taken[0]}; name another folder with --out")
        self.history: list[Record] = []
        self._start = time.perf_counter()
        self._drawing_seconds, self._last_drawing = 0.0, FIRST_DRAWING
        self._write_config()
        self._write_losses()
        self.save()

    def __enter__(self) -> Self:
        n, m = len(self.dataset.train_images), len(self.dataset.test_images)
        print(f"Training on {self.dataset.source}: {n:,} images, {m:,} to test. Results go to {self.folder}", flush=True)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is None:
            elapsed, drawing = time.perf_counter() - self._start, self._drawing_seconds
            print(f"{self._epochs_done()} in {elapsed:.0f} s, {drawing:.1f} s of it drawing. Results are in {self.folder}")
            return
        if kind is KeyboardInterrupt:
            print("Interrupted: drawing the last whole epoch", flush=True)
            # The step under way may have been cut in the middle of an update: what was saved was not.
            self.model = AdversarialAutoencoder.load(self.folder / "model.npz", prior=self.model.prior)
            self.draw()
        print(f"Stopped after {self._epochs_done()}. Results are in {self.folder}", flush=True)
        if kind is KeyboardInterrupt:
            sys.exit(130)

    def progress(self, records: Iterable[Record]) -> Iterator[Record]:
        """Pass the records on, showing a bar with losses and time left on a terminal, and one line an epoch elsewhere."""
        hide = self.flags.no_progress or not (sys.stderr and sys.stderr.isatty())  # None where it was closed: 2>&-
        epochs = self.flags.epochs
        with tqdm(total=epochs, unit="epoch", disable=hide, dynamic_ncols=True) as bar:
            for record in records:
                bar.set_postfix_str(_losses_in_words(record), refresh=False)
                bar.update()
                if hide:
                    print(f"epoch {record.epoch}/{epochs}  {_losses_in_words(record)}  {record.seconds:.2f} s", flush=True)
                yield record

    def record(self, record: Record) -> None:
        """Keep an epoch: its row in losses.csv and the model, both or, with a Ctrl-C in between, still both; and draw the
        figures if that leaves them, the last ones included, within their share of the wall time. The last epoch's figures
        are left to `draw`.
        """
        with _uninterrupted():
            self.history.append(record)
            self._write_losses()
            self.save()
        elapsed = time.perf_counter() - self._start
        in_time = self._drawing_seconds + 2 * self._last_drawing <= DRAWING_SHARE * elapsed
        if in_time and record.epoch < self.flags.epochs:
            self.draw()

    def draw(self) -> None:
        """Draw every figure, from the model as it stands."""
        start = time.perf_counter()
        self._write_figures()
        self._last_drawing = time.perf_counter() - start
        self._drawing_seconds += self._last_drawing

    def save(self) -> None:
        """Write model.npz."""
        self.model.save(self.folder / "model.npz")

    def _epochs_done(self) -> str:
        return f"{len(self.history)} epoch{'' if len(self.history) == 1 else 's'}"

    def _write_losses(self) -> None:
        dimensions = range(self.model.latent)
        text = io.StringIO()
        table = csv.writer(text, lineterminator="\n")
        table.writerow(
            ["epoch", "reconstruction", "discriminator", "generator", "test_reconstruction"]
            + [f"code_mean_{i}" for i in dimensions]
            + [f"code_std_{i}" for i in dimensions]
            + ["seconds"]
        )
        for record in self.history:
            numbers = (*record[1:5], *record.code_mean, *record.code_std)
            table.writerow([record.epoch, *(f"{number:.6f}" for number in numbers), f"{record.seconds:.3f}"])
        with replacing(self.folder / "losses.csv") as file:
            file.write(text.getvalue().encode())

    def _write_figures(self) -> None:
        plots = _plots()
        images, labels = self.dataset.test_images, self.dataset.test_labels
        with plots.style.context("default"):  # the same pictures on every machine, whatever its user's matplotlibrc says
            figures = {
                "losses": plots.losses(self.history),
                "samples": plots.samples(self.model),
                "manifold": plots.manifold(self.model),
                "latent": plots.latent(self.model, images, labels, self.dataset.label_names),
                "reconstructions": plots.reconstructions(self.model, images),
            }
            for name, figure in figures.items():
                with replacing(self.folder / f"{name}.png") as file:
                    figure.savefig(file, format="png", dpi=100)

    def _write_config(self) -> None:
        from . import __version__

        config = {
            "flags": {name: str(value) if isinstance(value, Path) else value for name, value in vars(self.flags).items()},
            "model": self.model.config,
            "data": self.dataset.source,
            "train_images": len(self.dataset.train_images),
            "test_images": len(self.dataset.test_images),
            "array_module": f"{self.model.xp.__name__} {self.model.xp.__version__}",
            "npaae": __version__,
            "python": platform.python_version(),
        }
        with replacing(self.folder / "config.json") as file:
            file.write((json.dumps(config, indent=2) + "\n").encode())


def _new_folder(parent: Path, name: str) -> Path:
    """The first of parent/name-1, -2, … that did not exist, made."""
    parent.mkdir(parents=True, exist_ok=True)
    number = 1
    while True:
        folder = parent / f"{name}-{number}"
        try:
            folder.mkdir()
            return folder
        except FileExistsError:
            number += 1


def _plots() -> ModuleType:
    """The module `plots`, imported when a run needs it; raises Unavailable where matplotlib refuses its user's settings."""
    try:
        with _uninterrupted():  # matplotlib does not survive an import that was cut short
            from . import plots
    except ValueError as error:
        raise Unavailable(f"matplotlib cannot be used: {error}; mend MPLBACKEND or your matplotlibrc") from error
    return plots


def _losses_in_words(record: Record) -> str:
    names = ("reconstruction", "discriminator", "generator")
    return "  ".join(f"{name} {getattr(record, name):.4f}" for name in names)


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Make Ctrl-C wait for the end of the block."""
    came: list[tuple[Any, ...]] = []
    if threading.current_thread() is not threading.main_thread():  # where Ctrl-C never comes, nor handlers may be set
        yield
        return
    previous = signal.signal(signal.SIGINT, lambda *arguments: came.append(arguments))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)
    if came and callable(previous):
        previous(*came[0])
