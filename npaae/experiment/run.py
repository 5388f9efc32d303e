"""A training run in a folder: its progress, its files, and how to continue it.

    losses.csv     one row per complete epoch
    model.npz      the model after the last complete epoch, from which a resumed run continues
    losses.png, samples.png, …     the figures
    config.json    the settings of the run, and checksums of itself, losses.csv and the parameters
    .lock          empty, and locked while a program trains in the folder

Every file is replaced atomically, so you can read it, and stop the run with Ctrl-C, at any time.
An epoch is written to losses.csv, config.json and model.npz in this order. If a run is killed in
between, losses.csv has one row more than the model has epochs; the resumed run drops that row and
computes it again.

    what happens                     what the user sees                       what is kept
    Ctrl-C, SIGTERM, SIGHUP          figures drawn; status 130, 143, 129      every complete epoch
    a pipe whose reader ends         figures drawn; one sentence; status 1    every complete epoch
    both (… | tee log, then Ctrl-C)  as Ctrl-C; what is left goes to stderr   every complete epoch
    SIGKILL, a crash, a power cut    the system's message                     every complete epoch
    a full disk, a lost folder       one sentence naming the file; status 1   every complete epoch
    files removed, but not .lock     they are back after the next epoch       every complete epoch
    its folder emptied or moved      one sentence; status 1                   all that was moved
    killed before config.json        nothing; the same command starts anew    there was no epoch
    a loss or parameter not finite   phase, epoch and step; status 1          every epoch before it
    a folder that holds a run        one sentence; status 2                   all of that run
    two runs in one folder           one sentence for the second; status 2    all of the first
    a flag that contradicts the run  both values; status 2                    all of that run
    a damaged or altered file        file and fault; status 1                 all files, unchanged
    a download that fails            what was tried; status 1, or the sample  only verified files

After each of the first five, --resume continues the run, and it ends as if it had never stopped.
"""

import hashlib
import json
import os
import re
import shlex
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, Self, TextIO

import numpy as np
from filelock import FileLock, Timeout
from tqdm import tqdm

from .. import __version__, checkpoint, checks, data, parallel
from ..backend import to_host
from ..checkpoint import remove_partial, replacing
from ..errors import BadFile, CannotWrite, Diverged, InvalidInput, Unavailable, one_line
from ..formats import opened
from ..model import AdversarialAutoencoder
from ..training import Record
from .signals import say, uninterrupted

STOPPED = (KeyboardInterrupt, BrokenPipeError)  # by the user, who may want to continue
LOSSES, MODEL, CONFIG, LOCK = "losses.csv", "model.npz", "config.json", ".lock"
FIGURES = ("losses.png", "samples.png", "manifold.png", "latent.png", "reconstructions.png")
FIGURES_OF_CATEGORIES = ("style.png", "clusters.png", "plane.png")
FILES = (LOSSES, MODEL, CONFIG, *FIGURES, *FIGURES_OF_CATEGORIES)


@dataclass(eq=False)
class Run:
    """The folder of one run, as a context manager in which a model is trained.

        with Run(out, "MNIST", model, digits, epochs=100, batch_size=100) as run:
            for record in run.progress(npaae.train(…, epochs=run.epochs_left)):
                run.record(record)
            run.draw()

    out: the folder, or None for a new one in runs/. name: of the data set or of the kind of
    training. dataset: inside the block, it has the form that `data.Dataset` describes. epochs,
    batch_size: of the whole run. resume: continue the run in the folder, from which `model` was
    loaded. overwrite: discard the run in the folder. bar: show a progress bar on a terminal or in a
    notebook. figures: a function that draws the run's figures, by file name; by default
    `figures_of_a_run`. more: further settings for config.json.

    However the block ends, losses.csv and model.npz hold every complete epoch. After Ctrl-C,
    SIGTERM or SIGHUP, the figures of the last one are drawn. If several ranks train the model,
    all enter the block, and only rank 0 writes to the folder. An error before the end of the
    first epoch leaves nothing behind.

    Entering raises InvalidInput if the data do not fit the model, if the folder holds another run
    or is in use by one, or if the run to resume has other data or more epochs; BadFile if its files
    are damaged; and OSError.
    """

    out: Path | None
    name: str
    model: AdversarialAutoencoder
    dataset: data.Dataset
    epochs: int = field(kw_only=True)
    batch_size: int = field(kw_only=True)
    resume: bool = field(default=False, kw_only=True)
    overwrite: bool = field(default=False, kw_only=True)
    bar: bool = field(default=True, kw_only=True)
    figures: Callable[["Run"], Mapping[str, Any]] | None = field(default=None, kw_only=True)
    more: Mapping[str, Any] = field(default_factory=dict, kw_only=True)
    history: list[Record] = field(default_factory=list, init=False)

    def __enter__(self) -> Self:
        self._mine = not self.model.ranks or self.model.ranks.rank == 0
        if not self._mine:  # another rank writes, prints and draws
            return self
        import_plots()  # if this fails, it fails before the training
        self.dataset = data.usable(self.dataset, self.model.visible)
        self._start, self._drawing_seconds = time.perf_counter(), 0.0
        self.folder = _new_folder(self.name) if self.out is None else self.out
        made = self.out is None or not self.folder.exists()
        self.folder.mkdir(parents=True, exist_ok=True)
        self._begun: list[Path] = [self.folder / LOCK, self.folder] if made else []
        with ExitStack() as stack:
            stack.push(self._undo)
            stack.enter_context(locked(self.folder / LOCK))
            self._lock = os.stat(self.folder / LOCK)
            self._begin()
            self._exit_stack = stack.pop_all()
        begin = f"Continuing after {self._epochs_done()}" if self.resume else "Training"
        print(f"{begin} on {_described(self.dataset)}. Results go to {self.folder}", flush=True)
        return self

    def _begin(self) -> None:
        if self.resume:
            self._continue()
        elif not self.overwrite:
            _require_no_run(self.folder)
        own = [self.folder / name for name in FILES]
        if not (self.resume or self.overwrite):
            self._begun[:0] = own
        self._data_sha256 = _sha256(self.dataset)
        self._theta_sha256 = [_sha256_of_theta(self.model)]
        remove_partial(self.folder, iter(FILES))
        with replacing(self.folder / MODEL) as file:
            checkpoint.write(self.model, file)
            if self.overwrite:  # there is room for the new run: the old one ends, config.json first
                file.flush()
                (self.folder / CONFIG).unlink(missing_ok=True)
        self.model.save(self.folder / MODEL)  # is there room for a second one, as in every epoch?
        if self.resume:  # losses.csv may hold one epoch more than the model
            self._write_config(self.history)
            self._write_losses(self.history)
        else:  # config.json last: with it, the folder holds a run
            self._write_losses(self.history)
            self._write_config(self.history)
        if self.overwrite:
            self._begun[:0] = own  # from here on, the discarded run is lost
            for name in (*FIGURES, *FIGURES_OF_CATEGORIES, "explore.html"):  # of the discarded run
                (self.folder / name).unlink(missing_ok=True)

    def _continue(self) -> None:
        check_run(self.folder, self.model, self.dataset)
        if self.epochs < self.model.epoch:
            raise InvalidInput(
                f"--epochs must be at least {self.model.epoch}, the epochs that the run in "
                f"{self.folder} already has, got {self.epochs}"
            )
        self.history = read_history(self.folder, self.model)

    @property
    def epochs_left(self) -> int:
        """The number of epochs that remain: all of them, or the rest of a resumed run."""
        return self.epochs - self.model.epoch

    def progress(self, records: Iterable[Record]) -> Iterator[Record]:
        """Pass the records on; show a bar on a terminal or in a notebook, and lines in a log."""
        bar = self.bar and _can_show_a_bar(sys.stderr)
        lines = not (bar and _can_show_a_bar(sys.stdout))
        options: dict[str, Any] = {"unit": "epoch", "disable": not bar, "dynamic_ncols": True}
        with tqdm(total=self.epochs, initial=self.model.epoch, **options) as shown:
            for record in records:
                phases = {name: getattr(record, name) for name in self.model.phases}
                digits = 4 if len(phases) == 3 else 2  # fits 80 columns
                short = "  ".join(f"{name[0].upper()} {x:.{digits}f}" for name, x in phases.items())
                shown.set_postfix_str(short, refresh=False)
                shown.update()
                if lines:
                    losses = "  ".join(f"{name} {x:.4f}" for name, x in phases.items())
                    epoch = f"epoch {record.epoch}/{self.epochs}"
                    print(f"{epoch}  {losses}  {record.seconds:.2f} s", flush=True)
                yield record

    def record(self, record: Record) -> None:
        """Save an epoch: its row in losses.csv, and the model. Ctrl-C cannot separate the two."""
        if not self._mine:
            return
        with uninterrupted():
            self._require_own_folder()
            history = [*self.history, record]
            self._theta_sha256 = [*self._theta_sha256[-9:], _sha256_of_theta(self.model)]
            self._write_losses(history)
            self._write_config(history)
            self.model.save(self.folder / MODEL)
            self.history.append(record)

    def draw(self) -> None:
        """Draw every figure of the current model. Ctrl-C waits for the last of them."""
        if not self._mine:
            return
        start, plots = time.perf_counter(), import_plots()
        self._require_own_folder()
        with uninterrupted(), plots.style.context("default"):  # not the user's style
            for name, figure in (self.figures or figures_of_a_run)(self).items():
                with replacing(self.folder / name) as file:
                    figure.savefig(file, format="png", dpi=100)
        self._drawing_seconds += time.perf_counter() - start

    def __exit__(self, kind: type[BaseException] | None, *error: Any) -> None:
        if not self._mine:
            return
        try:
            with uninterrupted():
                self._end(kind)
        finally:
            self._exit_stack.__exit__(kind, *error)

    def _end(self, kind: type[BaseException] | None) -> None:
        """Say how the run ends, and draw it if it has been stopped."""
        if kind is None:
            elapsed = time.perf_counter() - self._start
            spent = f"{elapsed:.1f} s, {self._drawing_seconds:.1f} s of it drawing"
            print(f"{self._epochs_done()} in {spent}. Results are in {self.folder}")
            return
        stopped = issubclass(kind, STOPPED)
        if not (self.history or stopped or self.resume):
            say("Stopped before the end of an epoch; nothing is kept")
            return
        out = shlex.quote(self.folder.as_posix())  # for a shell, PowerShell included
        go_on = f"; continue with --resume --out {out}{self._whose_data()}"
        results = f"{self.folder}{'' if issubclass(kind, Diverged) else go_on}"
        say(f"Stopped after {self._epochs_done()}. Results are in {results}")
        if stopped:
            say("Drawing the last whole epoch")
            # The model in memory may have one epoch more; the saved one is the last of losses.
            self.model = type(self.model).load(self.folder / MODEL, prior=self.model.prior)
            self.draw()

    def _require_own_folder(self) -> None:
        """Raise CannotWrite if the folder is no longer the one that this run has locked."""
        with suppress(OSError):
            if os.path.samestat(self._lock, os.stat(self.folder / LOCK)):
                return
        self._begun = []
        raise CannotWrite(f"{self.folder} has been emptied or replaced since the run began")

    def _undo(self, kind: type[BaseException] | None, *_: object) -> None:
        """Leave nothing behind that counts as a run if nothing was trained."""
        if kind is None or issubclass(kind, STOPPED) or self.history:
            return
        for path in self._begun:
            with suppress(OSError):
                path.rmdir() if path == self.folder else path.unlink()

    def _whose_data(self) -> str:
        """The flag with which a program finds the data again, if it needs one."""
        known = self.dataset.path or self.dataset.name in FOUND_BY_NAME
        return "" if known else " --data-dir FILE, an .npz archive of the same data"

    def _epochs_done(self) -> str:
        return f"{len(self.history)} epoch{'' if len(self.history) == 1 else 's'}"

    def _losses(self, history: Sequence[Record]) -> bytes:
        rows: list[list[Any]] = [_columns(self.model)]
        for record in history:  # with all digits, so that a resumed run has the same history
            codes = {
                f"code_{what}_{i}": number
                for what, numbers in (("mean", record.code_mean), ("std", record.code_std))
                for i, number in enumerate(numbers)
            }
            values = record._asdict() | codes | {"seconds": f"{record.seconds:.3f}"}
            rows.append([values.get(column, "") for column in _columns(self.model)])
        return b"".join(f"{','.join(map(str, row))}\n".encode() for row in rows)

    def _write_losses(self, history: Sequence[Record]) -> None:
        with replacing(self.folder / LOSSES) as file:
            file.write(self._losses(history))

    def _write_config(self, history: Sequence[Record]) -> None:
        xp, python, path = self.model.xp, sys.version.split()[0], self.dataset.path
        config = {
            "name": self.name,
            "epochs": self.epochs,
            "batch_size": self.batch_size,
            "model": self.model.config,
            "data": self.dataset.source,
            "dataset": self.dataset.name,
            "data_dir": str(path.absolute()) if path else None,
            "data_sha256": self._data_sha256,
            "settings": self.more,
            "train_images": len(self.dataset.train_images),
            "test_images": len(self.dataset.test_images),
            "backend": xp.__name__,
            "versions": {"npaae": __version__, xp.__name__: xp.__version__, "python": python},
            "epochs_done": len(history),
            "theta_sha256": self._theta_sha256,  # model.npz may lag behind
            "losses_sha256": hashlib.sha256(self._losses(history)).hexdigest(),
        }
        signed = config | {"sha256": _checksum(config)}
        with replacing(self.folder / CONFIG) as file:
            file.write((json.dumps(signed, indent=2) + "\n").encode())


def read_config(folder: Path) -> dict[str, Any]:
    """The config.json of the run in `folder`.

    Raises InvalidInput if the folder does not hold a run, and BadFile if the file is damaged.
    """
    path = folder / CONFIG
    if not path.is_file():
        raise InvalidInput(f"{folder} does not hold a run: it has no {CONFIG}")
    content = _content(path)
    try:
        config = json.loads(content)
        for name, kinds in _KINDS.items():
            if not isinstance(config[name], kinds):
                raise ValueError(f"{name} has the wrong type")
        for name, least in {"epochs": 1, "batch_size": 1, "epochs_done": 0}.items():
            checks.integer(name, config[name], least)
        if config.pop("sha256") != _checksum(config):
            raise ValueError("it has been altered, as its checksum shows")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise BadFile(f"{path} is damaged: {one_line(error)}") from error
    return dict(config)


_KINDS: dict[str, Any] = {
    **dict.fromkeys(("name", "data", "dataset", "data_sha256", "backend", "losses_sha256"), str),
    **dict.fromkeys(("model", "settings"), dict),
    "theta_sha256": list,
    "data_dir": str | None,
}


def _checksum(config: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()


_LARGEST_TEXT = 2**28  # bytes, of which an epoch in losses.csv takes a few hundred


def _content(path: Path) -> bytes:
    """The content of a text file; raises BadFile if it is more than a run writes."""
    with opened(path) as file:
        if os.fstat(file.fileno()).st_size > _LARGEST_TEXT:
            raise BadFile(f"{path} is damaged: it has more than {_LARGEST_TEXT:,} bytes")
        return file.read()


def settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """The values of the flags, by name, with which this config.json was written."""
    model, data_dir = config["model"], config["data_dir"]
    prior = model.get("prior")
    names = ("hidden", "latent", "lr_reconstruction", "lr_regularization", "dtype", "seed")
    return {
        "sample": config["data_sha256"] == _sha256(data.mnist_sample()),
        **config["settings"],
        **{name: model.get(name) for name in names},
        **{name: config[name] for name in ("epochs", "batch_size", "backend", "dataset")},
        "prior_std": prior.get("std") if isinstance(prior, dict) else None,
        "data_dir": None if data_dir is None else Path(data_dir),
    }


FOUND_BY_NAME = ("MNIST", "Fashion-MNIST")


def load_data(name: str, data_dir: Path | None = None, *, sample: bool = False) -> data.Dataset:
    """The data set in `data_dir`, whatever it is, or "MNIST" or "Fashion-MNIST" by its name.

    With `sample` it is the bundled sample of MNIST. The sample also replaces MNIST, with a message,
    if MNIST can be neither found nor downloaded.
    """
    if data_dir is not None:
        return data.load(data_dir)
    if sample:
        return data.mnist_sample()
    if name not in FOUND_BY_NAME:
        raise InvalidInput(f"--data-dir must name the folder or file of the data set {name}")
    try:
        with parallel.rank_0_first():
            return data.mnist() if name == "MNIST" else data.fashion_mnist()
    except Unavailable as error:
        if name != "MNIST":
            raise
        print(f"Using the bundled sample of MNIST, because {error}", file=sys.stderr)
        return data.mnist_sample()


def _described(dataset: data.Dataset) -> str:
    """What the user should know about the data before training."""
    n, m, classes = len(dataset.train_images), len(dataset.test_images), len(dataset.label_names)
    labels = f"{classes} label{'' if classes == 1 else 's'}" if classes else "no labels"
    text = f"{dataset.source}: {n:,} images, {m:,} to test, {labels}"
    *height, width = dataset.train_images.shape[1:]
    if not height:
        size = dataset.image_size
        drawn = f"drawn as {size[0]} × {size[1]} images" if size else "not drawn as images"
        text += f", rows of {width} numbers {drawn}"
    return text


def reopen(
    folder: Path,
    data_dir: Path | None = None,
    *,
    sample: bool = False,
    backend: str = "numpy",
    kind: type[AdversarialAutoencoder] = AdversarialAutoencoder,
) -> tuple[dict[str, Any], AdversarialAutoencoder, data.Dataset]:
    """(config, model, data set) of the run in `folder`, after its last complete epoch.

    The data are found as in the run, unless `data_dir` or `sample` says where they are. kind: the
    class of the model.

    Raises InvalidInput if the folder holds no run, or the run had other data; BadFile if a file is
    damaged; Unavailable if the data cannot be found; and OSError if a file cannot be read.
    """
    config = read_config(folder)
    if data_dir is None and not sample:
        before = settings(config)
        data_dir, sample = before["data_dir"], before["sample"]
    dataset = load_data(config["dataset"], data_dir, sample=sample)
    model = kind.load(folder / MODEL, backend=backend)  # just before the check, if it is training
    check_run(folder, model, dataset)
    return config, model, dataset


def check_run(folder: Path, model: AdversarialAutoencoder, dataset: data.Dataset) -> None:
    """Check that a model and a data set are those of the run in `folder`.

    Raises BadFile if the model does not match config.json, and InvalidInput for other data.
    """
    config = read_config(folder)
    known = config["model"], _sha256_of_theta(model) in config["theta_sha256"]
    if known != (json.loads(json.dumps(model.config)), True):
        raise BadFile(f"{folder} is damaged: its {MODEL} and its {CONFIG} come from two runs")
    if config["data_sha256"] != _sha256(dataset):
        raise InvalidInput(
            f"the run in {folder} was trained on {config['data']}, but {dataset.source} is not the "
            "same data; name that data, or another folder"
        )


def _sha256_of_theta(model: AdversarialAutoencoder) -> str:
    return hashlib.sha256(to_host(model.theta).data).hexdigest()


def _sha256(dataset: data.Dataset) -> str:
    """The digest of the images and labels: a data set may move between runs, but not change.

    Labels count as `data.dataset` numbers them, and bytes in this machine's order, because so they
    are when the data have been in a file.
    """
    train_images, train_labels, test_images, test_labels, *_ = dataset
    _, (train_labels, test_labels) = data.numbered(train_labels, test_labels)
    digest = hashlib.sha256()
    for array in (train_images, train_labels, test_images, test_labels):
        if array is not None:
            digest.update(f"{array.shape}".encode())
            native = array.dtype.newbyteorder("=")
            digest.update(np.ascontiguousarray(array, native).data)
    return digest.hexdigest()


def read_history(folder: Path, model: AdversarialAutoencoder) -> list[Record]:
    """The records of the epochs that the model has been trained for, from the run's losses.csv.

    Raises BadFile if the file is damaged or lacks one of them.
    """
    path, size, config = folder / LOSSES, model.code_size, read_config(folder)
    if not path.is_file():
        raise BadFile(f"{folder} is damaged: it has no {LOSSES}")
    lines = _content(path).splitlines(keepends=True)[: 1 + config["epochs_done"]]
    try:
        if hashlib.sha256(b"".join(lines)).hexdigest() != config["losses_sha256"]:
            raise ValueError(f"it has been altered, as the checksum in {CONFIG} shows")
        header, *texts = b"".join(lines).decode().splitlines()
        columns = _columns(model)
        rows = [[float(number) for number in line.split(",")] for line in texts[: model.epoch]]
        if header.split(",") != columns or any(len(row) != len(columns) for row in rows):
            raise ValueError(f"its columns are not {','.join(columns)}")
        if not np.isfinite(rows).all():
            raise ValueError("it holds a number that is not finite")
        if [row[0] for row in rows] != list(range(1, model.epoch + 1)):
            raise ValueError(f"it lacks some of the {model.epoch} epochs of {MODEL}")
    except ValueError as error:
        raise BadFile(f"{path} is damaged: {one_line(error)}") from error
    return [_record(dict(zip(columns, row, strict=True)), size) for row in rows]


def _record(values: Mapping[str, float], size: int) -> Record:
    """The record of a row of losses.csv, by column; size: of a code."""
    mean, std = (tuple(values[f"code_{what}_{i}"] for i in range(size)) for what in ("mean", "std"))
    fields: dict[str, Any] = {name: values[name] for name in Record._fields if name in values}
    return Record(**fields | {"epoch": int(values["epoch"]), "code_mean": mean, "code_std": std})


def _columns(model: AdversarialAutoencoder) -> list[str]:
    codes = [f"code_{what}_{i}" for what in ("mean", "std") for i in range(model.code_size)]
    first = ("epoch", "reconstruction", "discriminator", "generator", "test_reconstruction")
    return [*first, *codes, "seconds", *(name for name in model.phases if name not in first)]


def _new_folder(name: str) -> Path:
    """Create the first of runs/name-1, runs/name-2, … that does not exist, and return it."""
    stem, number = re.sub(r"[^\w.-]+", "-", name.lower()), 1
    while True:
        folder = Path("runs") / f"{stem}-{number}"
        try:
            folder.mkdir(parents=True)
            return folder
        except FileExistsError:
            number += 1


def figures_of_a_run(run: Run) -> dict[str, Any]:
    """The figures of a run of `AdversarialAutoencoder`, by file name."""
    plots, model, dataset = import_plots(), run.model, run.dataset
    images, size = dataset.test_images, dataset.image_size
    drawn = {
        "losses.png": plots.losses(run.history, model),
        "latent.png": plots.latent(model, images, dataset.test_labels, dataset.label_names),
    }
    if size is not None:
        drawn["samples.png"] = plots.samples(model, size=size)
        drawn["manifold.png"] = plots.manifold(model, size=size)
        drawn["reconstructions.png"] = plots.reconstructions(model, images, size=size)
    return drawn


def import_plots() -> ModuleType:
    """The module `plots`; raises Unavailable if matplotlib rejects the user's settings."""
    try:
        with uninterrupted():  # matplotlib does not survive an interrupted import
            from .. import plots
    except ValueError as error:
        raise Unavailable(f"matplotlib rejects MPLBACKEND or matplotlibrc: {error}") from error
    return plots


def _require_no_run(folder: Path) -> None:
    """Raise InvalidInput if the folder holds files of a run, unless it was killed at its start."""
    found = [name for name in FILES if os.path.lexists(folder / name)]
    if CONFIG in found:
        raise InvalidInput(
            f"{folder} already holds a run (it has {found[0]}); continue it with --resume, discard "
            "it with --overwrite, or name another folder with --out"
        )
    if found and not _killed_at_its_start(folder, found):
        raise InvalidInput(
            f"{folder} holds {found[0]}, but no {CONFIG}; discard it with --overwrite, or name "
            "another folder with --out"
        )


def _killed_at_its_start(folder: Path, found: Sequence[str]) -> bool:
    """Whether the files are those that a run writes before its config.json, without an epoch."""
    try:
        _, arrays = checkpoint.read(folder / MODEL)
        rows = _content(folder / LOSSES).splitlines()[1:] if LOSSES in found else []
        return set(found) <= {MODEL, LOSSES} and not arrays["epoch"].any() and not rows
    except (OSError, ValueError, KeyError):
        return False


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Lock this file until the block or the process ends, to protect the files beside it.

    Raises InvalidInput if another process has locked it.
    """
    try:
        with FileLock(path, blocking=False):
            yield
    except Timeout as error:
        raise InvalidInput(
            f"{path.parent} is in use by another run; name another folder"
        ) from error


def _can_show_a_bar(stream: TextIO | None) -> bool:
    """Whether the stream is a notebook's, or an open terminal (not 2>&-) that has a size."""
    if type(stream).__module__.startswith("ipykernel."):
        return True
    try:
        return bool(stream and stream.isatty() and os.get_terminal_size(stream.fileno()).columns)
    except OSError:
        return False
