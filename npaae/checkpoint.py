"""The file format of a saved model: an .npz archive of plain arrays, which `numpy.load` opens without pickle.

format      the version of this layout
config      the model's constructor arguments, as JSON
epoch       epochs trained so far
theta       the flat parameter vector, in the order encoder, decoder, discriminator
<optimiser>.M, <optimiser>.V, <optimiser>.t       each Adam's two moments and its step count
"""

import json
import os
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np

from .errors import BadFile
from .files import replacing

FORMAT = 1


def write(path: str | os.PathLike[str], config: Mapping[str, Any], arrays: Mapping[str, Any]) -> None:
    """Write a checkpoint in place of whatever `path` held, whole at any time."""
    with replacing(path) as file:
        np.savez(file, format=FORMAT, config=json.dumps(config), **arrays)


def read(path: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, np.ndarray[Any, Any]]]:
    """(config, arrays) of a checkpoint that `write` wrote.

    Raises BadFile where the file is something else, and OSError where it cannot be read at all.
    """
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as archive:
            arrays = dict(archive)
        version = int(arrays.pop("format"))
        config = dict(json.loads(str(arrays.pop("config"))))
    except (zipfile.BadZipFile, ValueError, KeyError, TypeError, EOFError, AttributeError) as error:
        raise BadFile(f"{os.fspath(path)} is not a model saved by npaae; pass a file that model.save wrote") from error
    if version != FORMAT:
        raise BadFile(f"{os.fspath(path)} has format {version}, this npaae reads format {FORMAT}; use the npaae that wrote it")
    return config, arrays
