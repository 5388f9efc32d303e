"""A training run in a folder: its progress, its files, when to draw, and how to go on with it. What the examples share.

    losses.csv             one row an epoch, current to the last whole one
    model.npz              the model after the last whole epoch, which a resumed run goes on from
    losses.png, samples.png, manifold.png, latent.png, reconstructions.png      redrawn by the clock
    config.json            what the run was started with

Every file is replaced in one step, so it may be looked at, and the run stopped with Ctrl-C, at any time. Of the first two
losses.csv is written first: a run that was killed in between has a row more than its model has epochs, and the resumed one
drops it and computes it again. What can go wrong, and what is left then:

    what happens                     what the user sees                       what is kept
    Ctrl-C, SIGTERM                  figures once more; status 130, 143       every whole epoch; --resume goes on
    SIGKILL, a crash, a power cut    what the system says                     every whole epoch; --resume goes on
    a full disk, a lost folder       one sentence naming the file; status 1   every whole epoch; --resume goes on
    a loss or parameter not finite   phase, epoch and step; status 1          every epoch before it
    a folder that holds a run        one sentence; status 2                   all of that run
    two runs in one folder           one sentence for the second; status 2    all of the first
    a flag that contradicts the run  both values; status 2                    all of that run
    a damaged model.npz or data      file and fault; status 1                 nothing is touched
    a download that fails            what was tried; status 1, or the sample  nothing half-loaded is trusted
"""

import argparse
import csv
import hashlib
import io
import json
import os
import platform
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from math import isfinite
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any, Self, TextIO

from tqdm import tqdm

from . import data
from .checkpoint import upgraded
from .errors import BadFile, CannotWrite, Diverged, InvalidInput, Unavailable, one_line
from .files import remove_partial, replacing
from .interrupts import uninterrupted
from .model import AdversarialAutoencoder
from .training import Record

try:
    import fcntl
except ImportError:  # on Windows two runs in one folder are not told apart
    fcntl = None  # type: ignore[assignment]

LOSSES, MODEL, CONFIG = "losses.csv", "model.npz", "config.json"
FIGURES = ("losses", "samples", "manifold", "latent", "reconstructions")
FILES = (LOSSES, MODEL, CONFIG, *(f"{name}.png" for name in FIGURES))
# At most this share of the wall time goes into figures while a run lasts, so that with the last ones, which are always
# drawn, it stays below a tenth of any run that is not itself shorter than ten drawings.
DRAWING_SHARE = 0.05
FIRST_DRAWING = 1.0  # seconds, what a first set of figures is taken to cost before one was drawn


class Run:
    """The folder of one run, as a context: `progress` shows the epochs, `record` keeps one, `draw` and `save` end the run.

    flags: what `command_line.parse_flags` returns. Ctrl-C and SIGTERM inside the context say where things are and draw once
    more, from the last whole epoch. Whatever ends the training, losses.csv and model.npz hold every whole epoch.

    Raises InvalidInput where the folder holds a run already and neither flags.resume nor flags.overwrite is set, or where
    the run to go on with had other data or has more epochs; BadFile where its files are damaged; and CannotWrite.
    """

    def __init__(self, name: str, flags: argparse.Namespace, model: AdversarialAutoencoder, dataset: data.Dataset) -> None:
        self.flags, self.model, self.dataset = flags, model, dataset
        import_plots()  # which may fail: better now than after the training
        self.name, self.folder = name, _folder(name, flags.out)
        self.history: list[Record] = []
        self._start = time.perf_counter()
        self._drawing_seconds, self._last_drawing = 0.0, FIRST_DRAWING
        self._lock = _locked(self.folder)
        try:
            self._begin()
        except BaseException:
            self._lock.close()
            raise

    def _begin(self) -> None:
        taken = [name for name in FILES if (self.folder / name).exists()]
        if self.flags.resume:
            self._take_up()
        elif taken and not self.flags.overwrite:
            raise InvalidInput(
                f"{self.folder} holds a run already, with its {taken[0]}; go on with it by --resume, discard it by "
                "--overwrite, or name another folder with --out"
            )
        remove_partial(self.folder, FILES)
        for _ in range(2):  # the second time beside the first, as every epoch will: now is the time to find the disk full
            self.save()
        self._write_losses(self.history)
        self._write_config()
        if self.flags.overwrite:
            for name in (*(f"{figure}.png" for figure in FIGURES), "explore.html"):  # of the run that was discarded
                (self.folder / name).unlink(missing_ok=True)

    def _take_up(self) -> None:
        """Take up a run where it stopped: check that this is that run, and read its history."""
        config = read_config(self.folder)
        if config["name"] != self.name:
            raise InvalidInput(f"{self.folder} holds a run of {config['name']}, and this is {self.name}; name another folder")
        _refuse_other_model(self.folder, config, self.model)
        _refuse_other_data(self.folder, config, self.dataset)
        if self.flags.epochs < self.model.epoch:
            raise InvalidInput(
                f"--epochs {self.flags.epochs} came, and the run in {self.folder} has {self.model.epoch} already; "
                "ask for as many or more"
            )
        self.history = read_history(self.folder / LOSSES, self.model)

    @property
    def epochs_left(self) -> int:
        """How many epochs there are to train: all of them, or, of a run that is resumed, the rest."""
        return int(self.flags.epochs) - self.model.epoch

    def __enter__(self) -> Self:
        n, m = len(self.dataset.train_images), len(self.dataset.test_images)
        begin = f"Going on after {self._epochs_done()}" if self.flags.resume else "Training"
        print(f"{begin} on {self.dataset.source}: {n:,} images, {m:,} to test. Results go to {self.folder}", flush=True)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            self._end(kind)
        finally:
            self._lock.close()

    def _end(self, kind: type[BaseException] | None) -> None:
        if kind is None:
            elapsed, drawing = time.perf_counter() - self._start, self._drawing_seconds
            print(f"{self._epochs_done()} in {elapsed:.0f} s, {drawing:.1f} s of it drawing. Results are in {self.folder}")
            return
        go_on = "" if issubclass(kind, Diverged) else f"; --resume --out {self.folder} goes on with them"
        print(f"Stopped after {self._epochs_done()}. Results are in {self.folder}{go_on}", flush=True)
        if issubclass(kind, KeyboardInterrupt):
            print("Drawing the last whole epoch", flush=True)
            # The step under way may have been cut in the middle of an update: what was saved was not.
            self.model = AdversarialAutoencoder.load(self.folder / MODEL, prior=self.model.prior)
            self.draw()

    def progress(self, records: Iterable[Record]) -> Iterator[Record]:
        """Pass the records on, showing a bar with losses and time left on a terminal, and one line an epoch in a log."""
        hidden = self.flags.no_progress or not _is_terminal(sys.stderr)
        lines = hidden or not _is_terminal(sys.stdout)
        epochs = self.flags.epochs
        with tqdm(total=epochs, initial=self.model.epoch, unit="epoch", disable=hidden, dynamic_ncols=True) as bar:
            for record in records:
                R, D, G = (f"{loss:.4f}" for loss in record[1:4])
                bar.set_postfix_str(f"R {R}  D {D}  G {G}", refresh=False)  # short enough for 80 columns
                bar.update()
                if lines:
                    losses = f"reconstruction {R}  discriminator {D}  generator {G}"
                    print(f"epoch {record.epoch}/{epochs}  {losses}  {record.seconds:.2f} s", flush=True)
                yield record

    def record(self, record: Record) -> None:
        """Keep an epoch: its row in losses.csv and the model, both or, with a Ctrl-C in between, still both; and draw the
        figures if that leaves them, the last ones included, within their share of the wall time. The last epoch's figures
        are left to `draw`.
        """
        with uninterrupted():
            self._write_losses([*self.history, record])
            self.save()
            self.history.append(record)
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
        self.model.save(self.folder / MODEL)

    def _epochs_done(self) -> str:
        return f"{len(self.history)} epoch{'' if len(self.history) == 1 else 's'}"

    def _write_losses(self, history: Sequence[Record]) -> None:
        text = io.StringIO()
        table = csv.writer(text, lineterminator="\n")
        table.writerow(_columns(self.model.latent))
        for record in history:  # every digit of every number, so that a resumed run has the same history
            table.writerow([*record[:5], *record.code_mean, *record.code_std, f"{record.seconds:.3f}"])
        with replacing(self.folder / LOSSES) as file:
            file.write(text.getvalue().encode())

    def _write_figures(self) -> None:
        plots = import_plots()
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

        flags = vars(self.flags).items()
        config = {
            "name": self.name,
            "flags": {name: str(value.absolute()) if isinstance(value, Path) else value for name, value in flags},
            "model": self.model.config,
            "data": self.dataset.source,
            "data_sha256": _digest(self.dataset),
            "train_images": len(self.dataset.train_images),
            "test_images": len(self.dataset.test_images),
            "array_module": f"{self.model.xp.__name__} {self.model.xp.__version__}",
            "npaae": __version__,
            "python": platform.python_version(),
        }
        with replacing(self.folder / CONFIG) as file:
            file.write((json.dumps(config, indent=2) + "\n").encode())


def read_config(folder: Path) -> dict[str, Any]:
    """What the run in `folder` was started with: its config.json.

    Raises InvalidInput where the folder holds no run, and BadFile where its config.json is damaged.
    """
    path = folder / CONFIG
    if not path.is_file():
        raise InvalidInput(f"{folder} holds no run, for it has no {CONFIG}; name the folder of one, or start one there")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        kinds = {"name": str, "flags": dict, "model": dict, "data": str, "data_sha256": str}
        if wrong := [name for name, kind in kinds.items() if not isinstance(config[name], kind)]:
            raise ValueError(f"its {wrong[0]} is no {kinds[wrong[0]].__name__}")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise BadFile(f"{path} is damaged: {one_line(error)}; train anew in another folder") from error
    return dict(config)


def reopen(
    folder: Path, data_dir: Path | None = None, *, backend: str = "numpy"
) -> tuple[str, AdversarialAutoencoder, data.Dataset]:
    """(name, model, data set) of the run in `folder`, finished or not, as its last whole epoch left them.

    The data set is the one that the run was trained on, found as the run found it, or in `data_dir`.

    Raises InvalidInput where the folder holds no run, or the data found are others than the run's; BadFile where a file is
    damaged; Unavailable where the data cannot be had; and OSError where something cannot be read.
    """
    config = read_config(folder)
    name, trained_on = config["name"], config["flags"].get("data_dir")
    if name not in ("mnist", "fashion-mnist") or not isinstance(trained_on, str | None):
        raise BadFile(f"{folder / CONFIG} is damaged: its name is {name!r}, its data_dir {trained_on!r}; use another run")
    model = AdversarialAutoencoder.load(folder / MODEL, backend=backend)
    _refuse_other_model(folder, config, model)
    dataset = data.mnist_sample() if name == "mnist" and data_dir is None else None
    if dataset is None or config["data_sha256"] != _digest(dataset):
        load = data.mnist if name == "mnist" else data.fashion_mnist
        dataset = load(data_dir or trained_on)
        _refuse_other_data(folder, config, dataset)
    return name, model, dataset


def _refuse_other_model(folder: Path, config: Mapping[str, Any], model: AdversarialAutoencoder) -> None:
    if upgraded(config["model"]) != json.loads(json.dumps(model.config)):
        raise BadFile(f"{folder} is damaged: its {MODEL} and its {CONFIG} are of two runs; train anew in another folder")


def _refuse_other_data(folder: Path, config: Mapping[str, Any], dataset: data.Dataset) -> None:
    if config["data_sha256"] != _digest(dataset):
        raise InvalidInput(
            f"{dataset.source} came, and the run in {folder} was trained on {config['data']}, with other "
            "content; name that data again, or name another folder"
        )


def read_history(path: Path, model: AdversarialAutoencoder) -> list[Record]:
    """The records, in a run's losses.csv, of the epochs that its model has been trained for.

    Raises BadFile where the file is damaged or lacks one of them.
    """
    latent = model.latent
    try:
        header, *rows = [*csv.reader(path.read_text(encoding="utf-8").splitlines())] or [[]]
        numbers = [[float(value) for value in row] for row in rows[: model.epoch]]
        if any(len(row) != len(header) for row in numbers):
            raise ValueError("it has a row of another length than its header")
        if not all(isfinite(number) for row in numbers for number in row):
            raise ValueError("it has a number that is not finite")
        if header != _columns(latent) or [row[0] for row in numbers] != list(range(1, model.epoch + 1)):
            raise ValueError(f"it lacks some of the {model.epoch} epochs of {MODEL}")
        return [
            Record(int(epoch), a, b, c, d, tuple(rest[:latent]), tuple(rest[latent:-1]), rest[-1])
            for epoch, a, b, c, d, *rest in numbers
        ]
    except (ValueError, csv.Error, FileNotFoundError) as error:
        raise BadFile(f"{path} is damaged: {one_line(error)}; train anew in another folder") from error


def _columns(latent: int) -> list[str]:
    means, stds = ([f"code_{what}_{i}" for i in range(latent)] for what in ("mean", "std"))
    return ["epoch", "reconstruction", "discriminator", "generator", "test_reconstruction", *means, *stds, "seconds"]


def _digest(dataset: data.Dataset) -> str:
    """SHA-256 of a data set's images and labels: where they lie may change between two runs, what they are may not."""
    digest = hashlib.sha256()
    for array in dataset[:4]:
        digest.update(f"{array.shape}".encode())
        digest.update(array.data)
    return digest.hexdigest()


def _folder(name: str, out: Path | None) -> Path:
    """The folder `out`, made if need be; without it the first of runs/name-1, -2, … that did not exist."""
    try:
        if out is not None:
            out.mkdir(parents=True, exist_ok=True)
            return out
        number = 1
        while (folder := Path("runs") / f"{name}-{number}").exists():
            number += 1
        folder.mkdir(parents=True)
        return folder
    except FileExistsError as error:
        if out is None:  # another run took the number in between
            return _folder(name, out)
        raise CannotWrite(f"{out} is a file, where a folder is wanted; name another with --out") from error
    except OSError as error:
        raise CannotWrite(f"{out or Path('runs')} cannot be made ({error.strerror}); name another folder with --out") from error


def import_plots() -> ModuleType:
    """The module `plots`, imported when a run needs it; raises Unavailable where matplotlib refuses its user's settings."""
    try:
        with uninterrupted():  # matplotlib does not survive an import that was cut short
            from . import plots
    except ValueError as error:
        raise Unavailable(f"matplotlib cannot be used: {error}; mend MPLBACKEND or your matplotlibrc") from error
    return plots


def _locked(folder: Path) -> ExitStack:
    """Keep the folder for this run until what is returned is closed, or the process ends, however it ends."""
    lock = ExitStack()
    if fcntl is None:
        return lock
    descriptor = os.open(folder, os.O_RDONLY)
    lock.callback(os.close, descriptor)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        lock.close()
        raise InvalidInput(
            f"{folder} is in use by another run; wait for it to end, or name another folder with --out"
        ) from error
    return lock


def _is_terminal(stream: TextIO | None) -> bool:
    """Whether a bar can be drawn there: not where the stream was closed (2>&-), nor on a terminal that has no size."""
    try:
        return stream is not None and stream.isatty() and os.get_terminal_size(stream.fileno()).columns > 0
    except OSError:
        return False
