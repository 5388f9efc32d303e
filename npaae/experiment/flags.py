"""The command line: the flags of the examples."""

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn, TypeAlias

from .. import checks
from ..backend import BACKENDS
from ..errors import BadFile, InvalidInput, printable
from .run import CONFIG, FOUND_BY_NAME, read_config, settings


def _checked(convert: Callable[[str], Any], check: Callable[..., Any], *bounds: int) -> Any:
    """An argparse type that converts the text and applies a check of the library."""

    def parse(text: str) -> Any:
        try:
            value = convert(text)
        except ValueError:
            value = text  # which every check rejects
        try:
            return check("", value, *bounds)
        except InvalidInput as error:
            remedy = "; separate numbers by spaces" if "," in text else ""
            raise argparse.ArgumentTypeError(f"{str(error).strip()}{remedy}") from error

    return parse


def _folder(text: str) -> Path:
    if not text:  # which Path would read as "."
        raise argparse.ArgumentTypeError("must be the name of a folder, got ''")
    return Path(text)


def _count(text: str) -> int | str:
    """A number of labels; `ALL` means as many as there are images."""
    return text if text == ALL else int(TYPES["non-negative integer"](text))


ALL = "all"
TYPES = {
    "non-negative integer": _checked(int, checks.integer, 0),
    "positive integer": _checked(int, checks.integer, 1),
    "positive number": _checked(float, checks.positive),
    "non-negative number": _checked(float, checks.non_negative),
    "learning rate": _checked(float, checks.learning_rate),
    "folder": _folder,
    "number or all": _count,
}


class Parser(argparse.ArgumentParser):
    """A parser that knows TYPES by name and reports an error in one sentence, without usage."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        for name, parse in TYPES.items():
            self.register("type", name, parse)

    def add_data_flags(self, *, sample: bool = False) -> None:
        """Add --data-dir and, if there is a bundled sample, --sample."""
        source = self.add_mutually_exclusive_group()
        about = "folder or file of the images: IDX, .npz or .npy"
        source.add_argument("--data-dir", type="folder", metavar="DATA", help=about)
        if sample:
            source.add_argument("--sample", action="store_true", help="use the bundled sample")

    def error(self, message: str) -> NoReturn:
        """Exit with the message and status 2."""
        self.exit(2, f"{self.prog}: error: {printable(message)}; --help lists the flags\n")


Flag: TypeAlias = tuple[str, Any, dict[str, Any]]  # meaning, default, options of argparse
MODEL: dict[str, Flag] = {
    "--hidden": ("hidden layer sizes", [256, 128], {"type": "positive integer", "nargs": "+"}),
    "--latent": ("dimensions of the code", 2, {"type": "positive integer"}),
    "--prior-std": ("standard deviation of the Gaussian prior", 5.0, {"type": "positive number"}),
    "--lr-reconstruction": ("learning rate of phase 1", 5e-4, {"type": "learning rate"}),
    "--lr-regularization": ("learning rate of phases 2 and 3", 1e-4, {"type": "learning rate"}),
    "--dtype": ("precision", "float32", {"choices": ("float32", "float64")}),
}


def training_flags(
    name: str,
    *,
    epochs: int,
    batch_size: int = 100,
    about: str = "",
    own: Mapping[str, Flag] = MODEL,
    extendable: bool = True,
) -> argparse.Namespace:
    """The flags of the program that trains `name`, a data set or a kind of training.

    epochs, batch_size: their defaults. about: what the program does, for --help. own: the flags
    that only this program has; by default those of `AdversarialAutoencoder`. extendable: whether a
    run may be resumed for more epochs. It may not if its learning rates fall over all of them.

    With --resume and --evaluate, an omitted flag has the value that the run in --out was started
    with, and a flag that contradicts the run is an error.
    """
    about = about or f"Train the adversarial autoencoder on {name} and draw what it learns."
    # The namespace holds only the flags that are given; the defaults are merged in below.
    parser = Parser(description=about, argument_default=argparse.SUPPRESS)
    defaults: dict[str, Any] = {}

    options_of: dict[str, dict[str, Any]] = {}

    def add(flag: str, meaning: str, default: Any, **options: Any) -> None:
        about = f"{meaning} (default: {_shown(default)})"
        action = parser.add_argument(flag, help=about, **options)
        defaults[action.dest], options_of[action.dest] = default, options

    falling = "" if extendable else ", over which the learning rates fall: --resume takes no others"
    add("--epochs", f"passes over the training set{falling}", epochs, type="positive integer")
    add("--batch-size", "images per step", batch_size, type="positive integer")
    for flag, (meaning, default, options) in own.items():
        add(flag, meaning, default, **options)
    add("--seed", "seed of the weights, orders, masks and draws", 0, type="non-negative integer")
    add("--backend", "array library; auto: CuPy if there is a GPU", "numpy", choices=BACKENDS)
    add("--figures-every", "epochs between drawings of the figures", 25, type="positive integer")
    parser.add_data_flags(sample=name != "Fashion-MNIST")
    about = "folder of the run (default: a new one in runs/)"
    parser.add_argument("--out", type="folder", metavar="RUN_DIR", help=about)
    existing = parser.add_mutually_exclusive_group()
    existing.add_argument("--resume", action="store_true", help="continue the run in RUN_DIR")
    existing.add_argument("--overwrite", action="store_true", help="discard the run in RUN_DIR")
    existing.add_argument("--evaluate", action="store_true", help="evaluate the run in RUN_DIR")
    parser.add_argument("--no-progress", action="store_true", help="print lines instead of a bar")

    given = vars(parser.parse_args())
    before: dict[str, Any] = {}
    if asked := {"resume", "overwrite", "evaluate"} & given.keys():
        if "out" not in given:
            parser.error(f"--{asked.pop()} needs --out, the folder of the run")
        if "overwrite" not in asked:
            before = _settings_before(given, name, extendable, options_of)
    defaults |= {"dataset": name, **dict.fromkeys(("data_dir", "out"))}
    defaults |= dict.fromkeys(("sample", "resume", "overwrite", "evaluate", "no_progress"), False)
    return argparse.Namespace(**(defaults | before | given))


def _settings_before(
    given: dict[str, Any], name: str, extendable: bool, options_of: Mapping[str, Any]
) -> dict[str, Any]:
    """The settings of the run in given["out"].

    Raises InvalidInput if a flag contradicts, and BadFile for a value that no flag would take.
    """
    config = read_config(given["out"])
    if config["name"] != name and (config["settings"] or name not in FOUND_BY_NAME):
        raise InvalidInput(
            f"{given['out']} holds a run of {config['name']}, not of {name}; name another folder"
        )
    before = settings(config)
    fits = {key: _takes(options_of.get(key), value) for key, value in before.items()}
    unknown = config["settings"].keys() - options_of.keys() - {"sample"}
    if wrong := sorted(unknown | {key for key in fits if not fits[key]}):
        raise BadFile(f"{given['out'] / CONFIG} is damaged: {wrong[0]} is not a flag's setting")
    if {"data_dir", "sample"} & given.keys():  # given again; `Run` compares their content
        del before["data_dir"], before["sample"]
    # A run may become longer, and another backend computes the same results.
    free = {"backend", "epochs"} if "resume" in given and extendable else {"backend"}
    for key in sorted(given.keys() & before.keys() - free):
        if given[key] != before[key]:
            flag = f"--{key.replace('_', '-')}"
            raise InvalidInput(
                f"{flag} {_shown(given[key])} contradicts the run in {given['out']}, which has "
                f"{_shown(before[key])}; leave the flag out, or name another folder"
            )
    return before


def _takes(options: Mapping[str, Any] | None, value: Any) -> bool:
    """Whether a flag with these options could have this value; None means that no flag sets it."""
    if options is None:
        return True
    if "choices" in options:
        return value in options["choices"]
    values = value if "nargs" in options else [value]
    try:
        return [TYPES[options["type"]](str(value)) for value in values] == values
    except (argparse.ArgumentTypeError, TypeError):
        return False


def _shown(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)
