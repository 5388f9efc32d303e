"""The file format of a saved model: an .npz archive of plain arrays, which `numpy.load` opens without pickle.

format      the version of this layout
config      the model's constructor arguments, the seed among them, as JSON (see `upgraded`)
epoch       epochs trained so far
theta       the flat parameter vector, in the order encoder, decoder, discriminator
<optimiser>.M, <optimiser>.V, <optimiser>.t       each Adam's two moments and its step count
"""

import json
import os
import stat
import zipfile
from collections.abc import Mapping
from typing import Any, BinaryIO

import numpy as np

from .backend import HostArray
from .errors import BadFile, one_line
from .files import replacing

FORMAT = 2


def write(path: str | os.PathLike[str], config: Mapping[str, Any], arrays: Mapping[str, Any]) -> None:
    """Write a checkpoint in place of whatever `path` held, whole at any time."""
    with replacing(path) as file:
        np.savez(file, format=FORMAT, config=json.dumps(config), **arrays)


def read(path: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, HostArray]]:
    """(config, arrays) of a checkpoint that `write` wrote. Takes no more memory than the file is long.

    Raises BadFile where the file is something else, truncated, altered (its checksums tell) or of another format, and
    OSError where it cannot be opened.
    """
    name = os.fspath(path)
    with open(path, "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise BadFile(f"{name} is no regular file; name one that model.save wrote")
        try:
            arrays = _members(file)
            version, config = int(arrays.pop("format")), json.loads(str(arrays.pop("config")))
        except Exception as error:  # zipfile and numpy raise a dozen kinds over damaged files
            raise BadFile(f"{name} is not a whole model saved by npaae: {one_line(error)}; use another copy") from error
    if version not in (1, FORMAT):
        raise BadFile(f"{name} has format {version}, this npaae reads formats 1 and {FORMAT}; use the npaae that wrote it")
    if not isinstance(config, dict):
        raise BadFile(f"{name} is damaged: its configuration is no JSON object; use another copy")
    return upgraded(config) if version == 1 else config, arrays


def upgraded(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration of format 1 as format 2 has it, which names its prior and says how many classes there are.

    One of format 2 stays as it is.
    """
    config = {"classes": 0, **config}
    if isinstance(prior := config.get("prior"), dict):
        config["prior"] = {"name": "gaussian", **prior}  # there were no others
    return config


def _members(file: BinaryIO) -> dict[str, HostArray]:
    with zipfile.ZipFile(file) as archive:
        if sum(member.file_size for member in archive.infolist()) > os.fstat(file.fileno()).st_size:
            raise ValueError("it promises more than it holds")  # as compressed archives do, which `write` never makes
    file.seek(0)
    with np.load(file, allow_pickle=False) as archive:
        members = dict(archive)
    if strangers := [name for name, member in members.items() if not isinstance(member, np.ndarray)]:
        raise ValueError(f"its {strangers[0]} is no array")
    return members
