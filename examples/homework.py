"""Homework that grades itself: write the mathematics yourself, formula by formula.

    python examples/homework.py start practice             # parts 1 to 4, without the bodies
    python examples/homework.py start mine --student ID    # four designs of your own, for a grade
    python examples/homework.py check mine                 # right, wrong and why, missing or waits
    python examples/homework.py grade SUBMISSIONS --csv grades.csv    # a class, a folder each

Parts 1 to 4 are practice: layers, losses and the chain rule, Adam, and the three phases. Their
answers are in the package, so only the designs are graded. Each ID has its own four formulas: an
activation, a loss, a layer and an optimiser. sheet.txt states them, and the answers are compared
with that text. Replace each `raise NotImplementedError` with your own code.

A student's code runs in a separate process, which only receives and returns arrays and does not
decide anything: an endless loop, a crash or a trick affects only its own row. Its output is not
shown; to look inside, import your files in a Python session.

The exit status of `check` is 0 if everything is right and 1 if not; that of `grade` is 0 if every
folder could be graded. A wrong argument gives 2.
"""

import csv
import json
import os
import re
import secrets
import shutil
import sys
import textwrap
from argparse import Namespace, RawDescriptionHelpFormatter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import interruptible as interruptible  # first: from here on, Ctrl-C is silent
from judge import graded, practice, rules, sheets
from judge.sandbox import printable
from judge.verdicts import Verdict, total

from npaae import InvalidInput
from npaae.experiment import Parser, launch

DESIGNS = tuple(sheets.SKELETONS)


def start(folder: Path, student: str | None) -> None:
    written = practice.files() if student is None else sheets.files(student)
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        raise InvalidInput(f"the folder must not exist yet, got {folder}") from None
    for name, text in written.items():
        (folder / name).write_text(text, encoding="utf-8")
    first = (
        "Dense in layers.py: this is practice, without a grade" if student is None else "sheet.txt"
    )
    print(f"{folder} is ready: start with {first}. Check as you go by")
    print(f"    python {sys.argv[0]} check {folder}")


def read(path: Path) -> str | None:
    """The text of a file that is handed in, to where it is too large; None if it is missing."""
    with suppress(OSError):
        if path.is_file():
            with path.open(encoding="utf-8-sig", errors="replace") as file:
                return file.read(rules.LARGEST + 1)
    return None


# check


def check(flags: Namespace) -> None:
    folder = flags.folder
    text = read(folder / "sheet.txt")
    if text is not None:
        submission = handed_in(folder)
        if submission.note:
            raise InvalidInput(
                f"{folder} must hold a sheet as start has written it: {submission.note}"
            )
        verdicts = judged(submission, flags.seed)
    elif any((folder / f"{file}.py").is_file() for file in practice.FILES):
        verdicts = practice.judge({file: read(folder / f"{file}.py") for file in practice.FILES})
    else:
        raise InvalidInput(f"the folder must be one that start has written, got {folder}")
    points, of = total(verdicts), sum(verdict.of for verdict in verdicts)
    if flags.json:
        print(json.dumps(report(points, of, verdicts), ensure_ascii=False, indent=1))
    else:
        print_table(verdicts)
        print(f"{points} of {of} points{', for practice' if text is None else ''}")
    sys.exit(points < of)


def report(points: int, of: int, verdicts: Iterable[Verdict]) -> dict[str, Any]:
    rows = [verdict._asdict() | {"points": verdict.points} for verdict in verdicts]
    return {"points": points, "of": of, "rows": rows}


def print_table(verdicts: Sequence[Verdict]) -> None:
    """A row for each verdict; on a terminal, a note that is too long goes below it."""
    titles, codes = (max(len(getattr(v, name)) for v in verdicts) for name in ("title", "code"))
    names = {part.partition(":")[0]: part for part in practice.PARTS}
    room = shutil.get_terminal_size().columns if sys.stdout.isatty() else sys.maxsize
    for part in dict.fromkeys(verdict.part for verdict in verdicts):
        own = [verdict for verdict in verdicts if verdict.part == part]
        print(f"{names.get(part, part)} ({total(own)} of {sum(v.of for v in own)} points)")
        for v in own:
            line = f"  {v.title:{titles}}  {v.code:{codes}}  {v.verdict}"
            if len(line) + 1 + len(v.note) <= room:
                print(f"{line} {v.note}".rstrip())
            else:
                print(line)
                print(textwrap.indent(textwrap.fill(v.note, room - 6), 6 * " "))
        print()


# grade


class Submission(NamedTuple):
    """A student's folder: read before any student's code runs, and then judged."""

    folder: str
    student: str
    texts: dict[str, str | None]
    note: str  # why it cannot be graded
    verdicts: Sequence[Verdict] = ()

    @property
    def points(self) -> int:
        return total(self.verdicts)


def handed_in(folder: Path) -> Submission:
    """The submission in a folder, or in the only one up to two levels below that holds a sheet.

    Unpacking an archive of a folder may add two levels.
    """
    name, texts = folder.resolve().name, dict.fromkeys(DESIGNS)
    try:
        below = sorted(path for path in folder.iterdir() if path.is_dir())
    except OSError as error:
        return Submission(name, "", texts, f"it cannot be read: {error.strerror}")
    places = [folder, *below, *(path for one in below for path in sorted(one.glob("*")))]
    found = [(place, text) for place in places if (text := read(place / "sheet.txt")) is not None]
    if len(found) != 1:
        return Submission(name, "", texts, f"it must hold one sheet.txt, got {len(found)}")
    place, text = found[0]
    match = re.match(r"Student: (\S+)", text)
    try:
        student = sheets.student_id(match[1] if match else "")
    except InvalidInput:
        return Submission(name, "", texts, "sheet.txt must start with the ID: Student: ID")
    is_own = formulas(text) == formulas(sheets.text(student))
    note = "" if is_own else f"sheet.txt is not the sheet of {student}"
    return Submission(name, student, {d: read(place / f"{d}.py") for d in DESIGNS}, note)


def formulas(sheet: str) -> list[str]:
    """The lines of a sheet that an ID decides, without their spaces; its prose may change."""
    return ["".join(line.split()) for line in sheet.splitlines() if re.match(r"\s*\w+ *=", line)]


def judged(submission: Submission, seed: int) -> list[Verdict]:
    designs = sheets.sheet(submission.student)
    return [v for d in designs for v in graded.judge(d, submission.texts[d.name], seed)]


def graded_one(submission: Submission, seed: int) -> Submission:
    """A submission with its verdicts, or with a note if it has none."""
    if submission.note:
        return submission
    try:
        return submission._replace(verdicts=judged(submission, seed))
    except Exception as error:  # a bug in the judge must not cost the others their grades
        return submission._replace(note=f"the judge has failed: {type(error).__name__}: {error}")


def holds_id(submission: Submission) -> bool:
    """Whether the folder's name holds the ID of its sheet, as a word."""
    student = re.escape(submission.student)
    return bool(re.search(rf"(?<![a-z0-9]){student}(?![a-z0-9])", submission.folder.lower()))


def roster(path: Path) -> set[str]:
    """The IDs in a file, one a line."""
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError):
        raise InvalidInput(f"the roster must be a text file, got {path}") from None
    return {sheets.student_id(line) for line in lines if line.strip()}


def checked_ids(submissions: Sequence[Submission], known: set[str] | None) -> list[Submission]:
    """The submissions, with a note if an ID is not known or not the folder's own.

    The folder's name must hold the ID, and no other folder may have it. But a folder whose whole
    name is the ID is preferred to one whose name only contains it. known: any ID, if None.
    """
    by_student: dict[str, list[str]] = {}
    for one in submissions:
        if not one.note and holds_id(one):
            by_student.setdefault(one.student, []).append(one.folder)

    def note(one: Submission) -> str:
        folders = by_student.get(one.student, [])
        exact = [folder for folder in folders if folder.lower() == one.student] or folders
        if known is not None and one.student not in known:
            return f"the ID of its sheet, {one.student}, is not on the roster"
        if one.folder not in folders:
            return f"the folder's name must hold the ID of its sheet, {one.student}"
        if one.folder not in exact:
            return f"the sheet of {one.student} is in a folder of that name"
        return f"{len(exact)} folders hold the sheet of {one.student}" if len(exact) > 1 else ""

    return [one if one.note else one._replace(note=note(one)) for one in submissions]


def grade(flags: Namespace) -> None:
    try:
        folders = sorted(path for path in flags.folder.iterdir() if path.is_dir())
    except OSError:
        folders = []
    if not folders:
        raise InvalidInput(f"the folder must hold a folder for each student, got {flags.folder}")
    try:  # before the grading, which may take minutes
        for path in filter(None, (flags.csv, flags.json)):
            path.open("a").close()
        if flags.gradescope:
            flags.gradescope.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidInput(f"{error.filename} cannot be written: {error.strerror}") from None
    known = flags.roster and roster(flags.roster)
    submissions = checked_ids([handed_in(folder) for folder in folders], known)
    results = []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        try:
            for found in pool.map(lambda one: graded_one(one, flags.seed), submissions):
                results.append(found)
                line = f"{found.folder}: {found.points} of {OF} {found.note}".rstrip()
                print(printable(line), flush=True)
        except BaseException:  # Ctrl-C, or the reader of the output has gone
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    if flags.csv:
        write_csv(flags.csv, results)
    if flags.json:
        text = json.dumps(
            [as_json(one, flags.seed) for one in results], ensure_ascii=False, indent=1
        )
        flags.json.write_text(f"{text}\n", encoding="utf-8")
    if flags.gradescope:
        for one in results:
            place = flags.gradescope / one.folder
            place.mkdir(parents=True, exist_ok=True)
            text = json.dumps(gradescope(one), ensure_ascii=False, indent=1)
            (place / "results.json").write_text(f"{text}\n", encoding="utf-8")
    bad = sum(bool(one.note) for one in results)
    print(f"{len(results) - bad} of {len(results)} folders graded")
    sys.exit(bad > 0)


OF = sum(row.of for rows in graded.ROWS.values() for row in rows)


def write_csv(path: Path, results: Iterable[Submission]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(["folder", "student", "points", "of", *DESIGNS, "note"])
        for one in results:
            by = [total(v for v in one.verdicts if v.part == design) for design in DESIGNS]
            cells = [one.folder, one.student, one.points, OF, *by, one.note]
            # A spreadsheet computes a cell that starts with one of these.
            lines.writerow(f"'{c}" if str(c).startswith(("=", "+", "-", "@")) else c for c in cells)


def as_json(one: Submission, seed: int) -> dict[str, Any]:
    named = {"folder": one.folder, "student": one.student, "seed": seed}
    return named | {"note": one.note} | report(one.points, OF, one.verdicts)


def gradescope(one: Submission) -> dict[str, Any]:
    """Gradescope's results.json: https://gradescope-autograders.readthedocs.io."""
    tests = [
        {
            "name": f"{v.part}: {v.title}",
            "score": v.points,
            "max_score": v.of,
            "status": "passed" if v.verdict == "right" else "failed",
            "output": f"{v.verdict} {v.note}".strip(),
        }
        for v in one.verdicts
    ]
    return {"score": one.points, "output": one.note, "tests": tests}


def main() -> None:
    parser = Parser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)

    def command(name: str, text: str, metavar: str) -> Any:
        added = commands.add_parser(name, help=text, description=text)
        added.add_argument("folder", type="folder", metavar=metavar)
        return added

    started = command("start", "write a folder: practice or, with --student, a sheet", "DIR")
    started.add_argument("--student", metavar="ID", help="draw the designs of this student")
    checked = command("check", "judge the work in a folder", "DIR")
    checked.add_argument("--json", action="store_true", help="print the verdicts for a program")
    all_of_them = command("grade", "judge the sheets of a class, a folder each", "SUBMISSIONS")
    all_of_them.add_argument(
        "--roster", type="folder", metavar="FILE",
        help="accept only these IDs, one a line (default: any word of a folder's name)",
    )  # fmt: skip
    all_of_them.add_argument("--csv", type="folder", metavar="FILE", help="write a table")
    all_of_them.add_argument("--json", type="folder", metavar="FILE", help="write all verdicts")
    all_of_them.add_argument(
        "--gradescope", type="folder", metavar="DIR", help="write a results.json for each folder"
    )
    for judging in (checked, all_of_them):
        judging.add_argument(
            "--seed", type="non-negative integer", default=secrets.randbits(32),
            help="seed of the inputs (default: a random one)",
        )  # fmt: skip
    flags = parser.parse_args()
    match flags.command:
        case "start":
            start(flags.folder, flags.student)
        case "check":
            check(flags)
        case "grade":
            grade(flags)


if __name__ == "__main__":
    launch(main)
