"""Run a program of this folder, and append what it prints to results.csv, with its origin.

    .venv/bin/python examples/record.py semi_supervised.py --seed 100 --out runs/labels-100-seed-100

runs the rest of the line, and if that trains a model in --out, also evaluates it on the test set.
The file has a row for each line that they print with a result in it. Its columns are the command
without its seed and folders; the seed; the commit, with a + if files differ from it; the versions;
the machine; the minutes, unless the run was resumed; and the line.

A command whose seed the file has is not run again, and a run that was stopped is resumed, so that
a loop over seeds can be repeated until it is done.
"""

import csv
import os
import platform
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from benchmark import of_system  # in the same folder

import npaae
from npaae.experiment import Parser, launch

HERE = Path(__file__).resolve().parent
COLUMNS = ("command", "seed", "commit", "versions", "machine", "minutes", "line")
# What a program prints on its way: epochs, the data and the folder of a run.
PASSING = re.compile(r"epoch \d|\d+ epochs? in |Continuing |Train(ed|ing) on |Drawn in ")


def main() -> None:
    parser = Parser(description=(__doc__ or "").split("\n")[0], allow_abbrev=False)
    parser.add_argument("program", help="its name and flags, as on its own command line")
    parser.add_argument("--seed", type="non-negative integer", help="passed on")
    parser.add_argument("--out", type="folder", help="passed on")
    parser.add_argument("--file", type=Path, default=HERE / "results.csv", help="to append to")
    parser.add_data_flags()
    flags, others = parser.parse_known_args()
    command = " ".join([flags.program, *others])
    seed = "" if flags.seed is None else str(flags.seed)
    if any((row["command"], row["seed"]) == (command, seed) for row in read(flags.file)):
        print(f"{flags.file} has {command}, seed {seed or 'not given'}: delete its rows to repeat")
        return

    given = [*others, *(["--seed", seed] if seed else [])]
    given += ["--data-dir", str(flags.data_dir)] if flags.data_dir else []
    out = ["--out", str(flags.out)] if flags.out else []
    resumed = flags.out is not None and (flags.out / "config.json").exists()
    origin, start = (commit(), versions(), machine()), time.perf_counter()
    lines = printed(flags.program, *given, *out, *["--resume"] * resumed)
    minutes = "" if resumed else f"{(time.perf_counter() - start) / 60:.1f}"
    if flags.out and (flags.out / "config.json").exists():
        lines += printed(flags.program, *given, *out, "--evaluate")
    new = not flags.file.exists()
    with open(flags.file, "a", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerows([COLUMNS] * new)
        table.writerows([command, seed, *origin, minutes, line] for line in lines)


def read(path: Path) -> list[dict[str, str]]:
    """The rows of the file, or none."""
    if not path.exists():
        return []
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def printed(program: str, *flags: str) -> list[str]:
    """Run the program, and return the lines with a result; exit with its status if it fails."""
    line = [sys.executable, str(HERE / program), *flags]
    lines = []
    with subprocess.Popen(line, stdout=subprocess.PIPE, encoding="utf-8") as process:
        for text in process.stdout or ():
            print(text, end="", flush=True)
            lines.append(text.strip())
    if process.returncode:
        sys.exit(process.returncode)
    return [text for text in lines if re.search(r"\d", text) and not PASSING.match(text)]


def commit() -> str:
    """The commit of the tree, with a + if tracked files other than the results differ from it."""

    def git(*arguments: str) -> str:
        line = ["git", "-C", str(HERE), *arguments]
        return subprocess.run(line, capture_output=True, encoding="utf-8").stdout.strip()

    differs = git("status", "--porcelain", "-uno", "--", "..", ":!results.csv")
    return (git("rev-parse", "--short", "HEAD") or "unknown") + "+" * bool(differs)


def versions() -> str:
    python = platform.python_version()
    return f"npaae {npaae.__version__}, NumPy {np.__version__}, Python {python}"


def machine() -> str:
    model = of_system("/proc/cpuinfo", r"model name\s*: (.*)") or platform.processor()
    return f"{model}, {os.cpu_count()} cores"


if __name__ == "__main__":
    launch(main)
