"""Saved and copied models, and files that are replaced atomically.

A model is an .npz archive of plain arrays, which `numpy.load` opens without pickle:

    format      the version of this layout
    model       the name of the model's class
    config      the arguments of the model's constructor, as JSON
    epoch       the number of epochs trained so far
    theta       the flat parameter vector, in the order encoder, decoder, discriminator
    <adam>.m, <adam>.v, <adam>.t, <adam>.learning_rate, …   the state of each Adam
    <network>.<i>.<name>        the statistics and settings that a layer declares
"""

import inspect
import io
import json
import os
import pickle
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from . import checks
from .backend import HostArray, array_module, to_host
from .errors import BadFile, CannotWrite, InvalidInput, one_line
from .formats import NPY, blaming, npy_header, opened
from .layers import parts
from .optim import Adam
from .priors import Prior, from_config

FORMAT = 4
ADAM: dict[str, Callable[[str, Any], Any]] = {  # its saved numbers, and their checks
    "t": partial(checks.integer, least=0),
    "learning_rate": checks.non_negative,  # a schedule may have reached 0
    "beta1": checks.fraction,
    "beta2": checks.fraction,
    "epsilon": checks.positive,
}


def save(model: Any, path: str | os.PathLike[str]) -> None:
    """Write a model; see `AdversarialAutoencoder.save`."""
    with replacing(path) as file:
        write(model, file)


def write(model: Any, file: BinaryIO) -> None:
    """Write a model to an open file."""
    arrays: dict[str, Any] = {name: to_host(array) for name, array in model.arrays().items()}
    settings = {label: getattr(owner, name) for label, owner, name in numbers(model)}
    head: dict[str, Any] = {
        "format": FORMAT,
        "model": type(model).__name__,
        "config": json.dumps(model.config),
    }
    np.savez(file, **head, epoch=model.epoch, **arrays, **settings)


def numbers(model: Any) -> Iterator[tuple[str, Any, str]]:
    """(label, owner, name) of each Adam's numbers and of the settings of all layers."""
    for label, adam in model.adams().items():
        for name in ADAM:
            yield f"{label}.{name}", adam, name
    yield from model.declared("settings")


def load(
    kind: Any, path: str | os.PathLike[str], backend: str, prior: Prior | None, comm: Any = None
) -> Any:
    """Read a model of class `kind`; see `AdversarialAutoencoder.load`."""
    array_module(backend)  # raises here, because a missing backend is not the file's fault
    config, saved = read(path)
    name, saved_prior = os.fspath(path), config.pop("prior", None)
    if (saved_kind := str(saved.get("model"))) != kind.__name__:
        raise BadFile(f"{name} holds a model of class {saved_kind}, not {kind.__name__}")
    if saved_prior is None and prior is None:
        raise InvalidInput(f"prior must be given: {name} was trained with a prior of your own")
    try:
        _check_size(kind, config, saved["theta"].size)
        prior_ = from_config(saved_prior) if prior is None else prior
        arguments = config | {"prior": prior_, "backend": backend}
        model = _made(kind, arguments if comm is None else arguments | {"comm": comm})
        if missing := model.config.keys() - config.keys() - {"prior"}:
            raise KeyError(min(missing))
        _restore(model, saved)
    except (KeyError, TypeError, InvalidInput) as error:
        for argument, given in {"prior": prior, "comm": comm}.items():
            if given is not None and str(error).startswith(f"{argument} must"):
                raise  # the caller's argument is wrong, not the file
        raise BadFile(f"{name} cannot be loaded: {one_line(error)}") from error
    return model


def read(path: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, HostArray]]:
    """(config, arrays) of a saved model. Takes no more memory than the size of the file.

    Raises BadFile if the file is not a saved model, is truncated, has been altered (as its
    checksums show) or has another format, and OSError if it cannot be opened.
    """
    name = os.fspath(path)
    with opened(path) as file, blaming(name, "is not a model saved by npaae"):
        arrays = _members(file)
        version = int(arrays.pop("format"))
        config = json.loads(str(arrays.pop("config")))
    if version != FORMAT:
        raise BadFile(f"{name} has format {version}, but this version of npaae reads {FORMAT}")
    if not isinstance(config, dict):
        raise BadFile(f"{name} is damaged: its configuration is not a JSON object")
    return config, arrays


def _members(file: BinaryIO) -> dict[str, HostArray]:
    with zipfile.ZipFile(file) as archive:
        members = {member.filename.removesuffix(".npy"): member for member in archive.infolist()}
        if len(members) < len(archive.infolist()):
            raise ValueError("two of its arrays have one name")
        # A member is read into a buffer of its compressed size.
        promised = sum(max(entry.file_size, entry.compress_size) for entry in members.values())
        if promised > os.fstat(file.fileno()).st_size:  # compressed, which `save` never does
            raise ValueError("its headers declare more data than it holds")
        # `read` reads to the end of a member, where zipfile compares its checksum.
        return {name: _array(name, archive.read(member)) for name, member in members.items()}


def _array(name: str, content: bytes) -> HostArray:
    """The array in the content of an .npy file, without a copy."""
    file = io.BytesIO(content)
    if file.read(4) != NPY:
        raise ValueError(f"its {name} is not an array")
    dtype, shape, order = npy_header(file)
    return np.frombuffer(content, dtype, offset=file.tell()).reshape(shape, order=order)


def _check_size(kind: Any, config: Mapping[str, Any], size: int) -> None:
    """Reject a configuration that needs another number of parameters, before allocating memory.

    A class that builds its own networks without counting their parameters may have any number.
    """
    needed = kind.parameter_count(checks.settings(config))
    counter, *builders = (
        next(base for base in kind.__mro__ if name in vars(base))
        for name in ("parameter_count", "networks", "network")
    )
    if needed != size and all(issubclass(counter, builder) for builder in builders):
        raise InvalidInput(f"its layer sizes need {needed:,} parameters, but it holds {size:,}")


def _restore(model: Any, saved: Mapping[str, HostArray]) -> None:
    """Copy all numbers of a checkpoint into the model; raises InvalidInput for impossible ones."""
    for name, array in model.arrays().items():
        values = saved[name]
        if (values.shape, values.dtype) != (array.shape, array.dtype):
            raise InvalidInput(f"its {name} does not fit its configuration")
        if not np.isfinite(values).all() or (name.endswith(".v") and values.min() < 0):
            raise InvalidInput(f"its {name} holds numbers that training cannot produce")
        array[...] = model.xp.asarray(values)
    for label, owner, name in numbers(model):
        check = ADAM[name] if isinstance(owner, Adam) else _setting
        setattr(owner, name, check(label, saved[label][()]))
    model.epoch = checks.integer("epoch", saved["epoch"], 0)


def _setting(label: str, value: Any) -> Any:
    """A layer's setting as a Python number of its kind; its range is up to the layer."""
    if np.ndim(value) or value.dtype.kind not in "biuf" or not np.isfinite(value):
        raise InvalidInput(f"{label} must be a finite number, got {value!r}")
    return value.item()


# Copies in memory: the class makes the networks, as in `load`, and all else is copied into them.


def contents(model: Any) -> tuple[Any, ...]:
    """The arguments from which `rebuilt` makes a copy of this model.

    Raises InvalidInput if several ranks train it.
    """
    if model.ranks:
        raise InvalidInput("comm must be None in a model to copy; save and load it instead")
    backend = "numpy" if model.xp is np else "cupy"
    arguments = model.config | {"prior": model.prior, "backend": backend}
    arrays = {"gradient": model.gradient, **model.arrays()}
    on_host = {name: to_host(array) for name, array in arrays.items()}
    kinds = [type(part) for part in _all_parts(model)]
    return type(model), arguments, kinds, on_host, list(map(_plain_values, _all_parts(model)))


def rebuilt(
    kind: Any,
    arguments: Mapping[str, Any],
    kinds_of_parts: list[type],
    arrays: Mapping[str, HostArray],
    values: list[Mapping[str, Any]],
) -> Any:
    """The model that `contents` describes, with arrays of its own."""
    model = _made(kind, arguments)
    own = {"gradient": model.gradient, **model.arrays()}
    same_kinds = [type(part) for part in _all_parts(model)] == kinds_of_parts
    if not same_kinds or any(own[name].shape != arrays[name].shape for name in own):
        raise InvalidInput(
            f"the layers of a model that is copied must be those that {kind.__name__}.networks "
            "makes; override that method instead of changing them, and put what it needs into "
            "model.config"
        )
    for name, array in own.items():
        array[...] = model.xp.asarray(arrays[name])
    for part, attributes in zip(_all_parts(model), values, strict=True):
        getattr(part, "__dict__", {}).update(attributes)
    return model


def _made(kind: Any, arguments: Mapping[str, Any]) -> Any:
    """kind(**arguments); raises InvalidInput if the class has other parameters."""
    try:
        inspect.signature(kind).bind(**arguments)
    except TypeError as error:
        raise InvalidInput(
            f"{kind.__name__}.__init__ must take what is in the model's config, and nothing else "
            f"without a default, to load or copy the model: {error}"
        ) from error
    return kind(**arguments)


def _all_parts(model: Any) -> Iterator[Any]:
    """The model, its optimisers and its layers."""
    yield from (model, *model.adams().values())
    for network in (model.encoder, model.decoder, model.discriminator):
        yield from (part for _, part in parts(network))


def _plain_values(part: Any) -> dict[str, Any]:
    """The attributes without arrays: an epoch, a rate that a schedule sets, a user's notes."""
    attributes = getattr(part, "__dict__", {})  # a layer with __slots__ has none
    return {name: value for name, value in attributes.items() if _is_plain(value)}


def _is_plain(value: Any) -> bool:
    if isinstance(value, dict):
        return all(map(_is_plain, (*value, *value.values())))
    if isinstance(value, (list, tuple)):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, (bool, int, float, str, np.generic))


def require_picklable(name: str, value: Any) -> None:
    """Raise InvalidInput for a value that pickle cannot store."""
    try:
        pickle.dumps(value)
    except Exception as error:  # pickle raises several kinds of error
        raise InvalidInput(
            f"{name} must be one that pickle can store, such as a function at the top level of a "
            f"module, got {value!r}"
        ) from error


_PARTIAL = ".partial"


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a file that atomically replaces `path` when the block ends without an error.

    The bytes go to a temporary file in the same folder and are flushed to the disk, and the file is
    then renamed. At any moment, even after an error or a crash, `path` is either the old file or
    the new one. Raises CannotWrite (an OSError).
    """
    path = os.path.realpath(path)  # a link is followed
    if os.path.exists(path) and not os.path.isfile(path):
        raise CannotWrite(f"{path} cannot be written: it is not a regular file")
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}{_PARTIAL}")
    kept = "; the old file is intact" if path.is_file() else ""
    try:
        with open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        # The new name must reach the disk too. Only POSIX can open a folder.
        folder = os.open(path.parent, os.O_RDONLY) if os.name == "posix" else None
        try:
            os.replace(temporary, path)
            kept = "; the new file is in its place, but a power cut may undo that"
            if folder is not None:
                os.fsync(folder)
        finally:
            if folder is not None:
                os.close(folder)
    except BaseException as error:  # KeyboardInterrupt too: leave nothing half written
        with suppress(OSError):
            temporary.unlink()
        if isinstance(error, OSError):
            why = error.strerror or one_line(error)
            raise CannotWrite(f"{path} cannot be written: {why}{kept}") from error
        raise


def remove_partial(folder: Path, names: Iterable[str]) -> None:
    """Remove the temporary files that killed processes left while writing these files."""
    for name in names:
        for path in folder.glob(f".{name}.*{_PARTIAL}"):
            with suppress(OSError):
                path.unlink()
