"""Which files and arrays belong together, by the names that people give them.

Nothing but names is read here, those in archives included.
"""

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import NamedTuple

from .errors import BadFile
from .formats import members

# What a word in a name says; all other words name the data set.
_PARTS = {
    "": "",
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("test", "testing", "t10k"), "test"),
    **dict.fromkeys(("val", "valid", "validation", "dev", "eval"), "validation"),
}
_CONTENTS = {
    "": "",
    **dict.fromkeys(("images", "image", "imgs", "img", "x", "data"), "images"),
    **dict.fromkeys(("labels", "label", "y", "targets", "target"), "labels"),
}
_WORDS = {  # also two of them in one, as in "xtrain" and "trainImages"
    word: (part, content)
    for (a, part), (b, content) in product(_PARTS.items(), _CONTENTS.items())
    for word in (a + b, b + a)
}
_TYPE = r"[-_.](?:ubyte|byte|short|int|float|double)"  # as the authors of MNIST spell it
_IDX = rf"(?:[-_.]idx\d?(?:{_TYPE})?|[-_.]ubyte)(?:\.gz)?"
_FILE = re.compile(rf"(.+?)(?:({_IDX})|\.np[yz])", re.I)  # its groups: the stem, and IDX's ending
_LEVELS = 3  # of folders: torchvision's files lie in root/MNIST/raw
_NAMELESS = ("raw", "gzip", "")  # folders inside a folder that is named after the data


@dataclass(eq=False)
class Entry:
    """An array in a file, and what the names on its path say.

    path: the names of folders, file and array from where reading starts. level: how many of them
    name the place of its data set. prefix: the name of its data set. Prefix, part and content are
    empty if no name says them.
    """

    file: Path
    member: str | None  # its name in an archive
    path: tuple[str, ...]
    level: int
    prefix: str
    part: str
    content: str

    @property
    def idx(self) -> bool:
        """Whether the file is named as one in the IDX format."""
        match = _FILE.fullmatch(self.file.name)
        return bool(match and match[2])

    @property
    def place(self) -> tuple[str, ...]:
        return self.path[: self.level]

    @property
    def name(self) -> str:
        return "/".join(self.path[self.level :])


class Set(NamedTuple):
    """A data set in files.

    choice: the path with which `load` finds this set, and no other if there is such a path.
    others: the arrays that belong to no set.
    """

    name: str
    choice: Path
    arrays: list[Entry]
    others: list[Entry]


def sets(path: Path) -> list[Set]:
    """The data sets in an archive, around a file or in a folder, at the first level with any."""
    if path.is_file():
        return _sets_with(path)
    folders = [path]
    for _ in range(_LEVELS):
        files = [file for folder in folders for file in _files(folder)]
        if found := grouped(path, _found(path, files)):
            return found
        inside = (entry for folder in folders for entry in entries(folder))
        folders = [entry for entry in inside if entry.is_dir() and os.access(entry, os.R_OK)]
    return []


def _sets_with(file: Path) -> list[Set]:
    """The data sets in an archive, or those of which a file is a part."""
    folder = _folder(file)
    own = _found(folder, [file])
    if len(own) == 1 and own[0].member in (None, "arr_0") and not own[0].content:
        own[0].content = "images"  # the only array, without a name of its own
        return grouped(folder, own)
    around: list[Set] = []
    if any(folder.joinpath(*one.place) != file for one in own):
        prefix, same = _meaning(file.name)[0], _one_name(file)
        akin = [other for other in _files(folder) if _meaning(other.name)[0] == prefix]
        found = grouped(folder, _found(folder, akin))
        around = [one for one in found if any(_one_name(a.file) == same for a in one.arrays)]
    if is_archive(file) and not any(("train", "images") in by_role(one) for one in around):
        return grouped(file, _found(file, [file])) or around  # its name, test.npz, means nothing
    return around


def _found(root: Path, files: Sequence[Path]) -> list[Entry]:
    """The arrays in files below `root`, a folder or an archive.

    What the name of an array leaves open, the name of a folder or archive around it says, unless it
    contradicts another array inside. A part alone means its images; no part means training.
    """
    found = []
    for file in {_one_name(file): file for file in files if _FILE.fullmatch(file.name)}.values():
        inside = members(file) if is_archive(file) else [None]
        for member in inside:
            path = (*file.relative_to(root).parts, *([] if member is None else [member]))
            if len(inside) == 1 < len(path) and member and not any(_meaning(member)[1:]):
                path = path[:-1]  # KMNIST's kmnist-train-imgs.npz has one array, arr_0
            found.append(Entry(file, member, path, len(path) - 1, *_meaning(path[-1])))
    for level in range(max((one.level for one in found), default=0), 0, -1):
        around: dict[tuple[str, ...], list[Entry]] = {}
        for one in found:
            if one.level >= level and (one.part or one.content):
                around.setdefault(one.path[:level], []).append(one)
        for place, arrays in around.items():
            prefix, part, content = _meaning(place[-1])
            if any(one.part not in ("", part) if part else one.content for one in arrays):
                continue
            for one in arrays if part or content else ():
                one.level, one.part = level - 1, one.part or part
                one.content = one.content or content
                one.prefix = "-".join(dict.fromkeys(filter(None, (prefix, one.prefix))))
    for one in found:
        if one.part and not (one.content or one.prefix):
            one.content = "images"
        one.part = one.part or "train"
    return found


def _meaning(name: str) -> tuple[str, str, str]:
    """(prefix, part, content) of a name; each is empty if the name does not say it."""
    match = _FILE.fullmatch(name)
    rest, part, content = [], "", ""
    for word in re.split(r"[^0-9A-Za-z\x80-\U0010ffff]+", match[1] if match else name):
        if word.lower() in _WORDS:
            said = _WORDS[word.lower()]
            part, content = said[0] or part, said[1] or content
        else:
            rest.append(word)
    return "-".join(rest), part, content


def grouped(root: Path, found: Iterable[Entry]) -> list[Set]:
    """The arrays found below `root` as data sets with a name and a path to choose them by."""
    groups: dict[tuple[tuple[str, ...], str], list[Entry]] = {}
    for one in found:
        groups.setdefault((one.place, one.prefix), []).append(one)
    rest = [key for key in groups if not any(one.content == "images" for one in groups[key])]
    others = [one for key in rest for one in groups.pop(key)]
    inside = Counter(place[:depth] for place, _ in groups for depth in range(len(place) + 1))
    sets = []
    for (names, prefix), arrays in groups.items():
        place = root.joinpath(*names)
        folders = (place.absolute(), *place.absolute().parents)
        named = (folder for folder in folders if folder.name.lower() not in _NAMELESS)
        name = prefix or next((folder.stem for folder in named), "data")
        file = next(one.file for one in arrays if one.content == "images")
        choice = file if inside[names] > 1 and _folder(file) == place else place
        sets.append(Set(name, choice, arrays, others))
    return sets


def by_role(chosen: Set) -> dict[tuple[str, str], Entry]:
    """The arrays of a set by part and content; raises BadFile if they do not fit together."""
    arrays: dict[tuple[str, str], Entry] = {}
    for one in chosen.arrays:
        first = arrays.setdefault((one.part, one.content), one)
        if one.content and first is not one:
            rule = f"{chosen.choice} must hold {one.part} {one.content} once"
            raise BadFile(f"{rule}, got {first.name} and {one.name}; keep one of them")
    for (part, content), one in arrays.items():
        if content and (part, "images") not in arrays:
            raise BadFile(f"{chosen.choice} must hold the {part} images that {one.name} is for")
    return arrays


def unused(chosen: Set, parts: Sequence[str]) -> list[str]:
    """The names of the arrays in the set's files, and beside them, that are not of these parts."""
    used = [one for one in chosen.arrays if one.content and one.part in parts]
    files, places = {one.file for one in used}, {one.place for one in used}
    return [
        one.name
        for one in (*chosen.arrays, *chosen.others)
        if one not in used and (one.file in files or one.place in places)
    ]


def _one_name(file: Path) -> Path:
    """The path that an IDX file shares with copies: gzipped, dotted, in a folder of its name."""
    match = _FILE.fullmatch(file.name)
    if not (match and match[2]):
        return file
    ending = re.sub("[-_.]", "-", match[2].lower().removesuffix(".gz"))
    return _folder(file) / f"{match[1]}{ending}"


def is_archive(file: Path) -> bool:
    return file.suffix.lower() == ".npz"


def _folder(file: Path) -> Path:
    """The folder of a file, not counting one that is named like a file, as Kaggle makes them."""
    return file.parent.parent if _FILE.fullmatch(file.parent.name) else file.parent


def _files(folder: Path) -> Iterator[Path]:
    """The files of a folder, and those in a folder for a part or, as Kaggle makes, for a file."""
    for entry in entries(folder):
        if entry.is_file():
            yield entry
        elif entry.is_dir() and (_FILE.fullmatch(entry.name) or _meaning(entry.name)[1]):
            yield from (file for file in entries(entry) if file.is_file())


def entries(folder: Path) -> list[Path]:
    """What a folder holds, except what is hidden, such as the ._ files of macOS."""
    return sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
