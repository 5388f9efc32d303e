"""record.py, and what is made of its file: the tables of examples/README.md and FROZEN.md."""

import csv
import re
import subprocess
from collections import defaultdict

import numpy as np
import pytest
import record

from ..running import EXAMPLES, posix, run, run_here

PAGE = (EXAMPLES / "README.md").read_text(encoding="utf-8")
NUMBER = re.compile(r"-?\d+(?:,\d{3})*(?:\.\d+)?")
SHORT = ("mnist.py", "--sample", "--epochs", 1, "--hidden", 8, "--seed", 5)


def read(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


RESULTS = read(EXAMPLES / "results.csv")


# The page


def numbers(text):
    return [float(number.replace(",", "")) for number in NUMBER.findall(text)]


def recorded(commands, label, published):
    """The numbers that these commands printed beside a label, or else at all, and their means,
    medians and spreads over the seeds. The source of a published number has no commit."""
    printed = [row for row in RESULTS if row["commit"] and row["command"] in commands]
    lines = [row for row in printed if label in row["line"]] or printed
    quoted = [row for row in RESULTS if not row["commit"] and (published or label in row["line"])]
    found = {number for row in quoted for number in numbers(row["line"])}
    groups = defaultdict(list)
    for row in lines:
        if "held-out" not in row["line"]:
            found.update(numbers(row["line"]) + numbers(row["minutes"]))
            groups[row["command"], NUMBER.sub("#", row["line"])].append(numbers(row["line"]))
    for lines in groups.values():
        if len(lines) > 1:
            values = np.array(lines)
            spread = values.std(axis=0, ddof=1)
            found.update({len(lines), *values.mean(0), *np.median(values, axis=0), *spread})
    return found


def commands(text):
    """The commands of a text: what stands between backquotes, and the lines of its blocks."""
    spans = [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", text.replace("```", ""))]
    blocks = "".join(re.findall(r"```sh\n(.*?)```", text, re.DOTALL)).splitlines()
    lines = [line.partition("  ")[0] for line in blocks]
    return {line.replace(".venv/bin/python examples/", "") for line in lines + spans}


def rows():
    """The rows of the page's tables, each with the commands that it, or its section, names, and
    whether its table has a column of published numbers."""
    for section in re.split(r"^## ", PAGE, flags=re.MULTILINE):
        for head, table in re.findall(TABLE, section, re.MULTILINE):
            for row in table.splitlines():
                own = {span for span in commands(row) if ".py" in span}
                yield row, own or commands(section), "| published |" in head


def label(row):
    return row.split("|")[1].strip()


def shown(row):
    """The numbers of a row after its label; those in backquotes are settings."""
    cells = re.sub(r"`[^`]*`|\]\([^)]*\)", "", row.split("|", 2)[2])
    return [number.replace(",", "") for number in NUMBER.findall(cells)]


def stands(number, known):
    decimals = len(number.partition(".")[2])
    return any(f"{value:.{decimals}f}" == number for value in known)


TABLE = r"^(\|.*)\n\|[-:| ]+\n((?:\|.*\n)+)"
ROWS = list(rows())


@pytest.mark.parametrize(
    ("row", "named", "published"), ROWS, ids=[f"row {i}" for i in range(len(ROWS))]
)
def test_every_number_of_a_table_is_a_result_of_the_command_beside_it(row, named, published):
    known = recorded(named, label(row), published)
    for number in shown(row):
        assert stands(number, known), number


def test_most_wrong_digits_of_a_table_are_noticed():
    """The others are another result of the same command."""
    noticed = []
    for row, named, published in ROWS:
        known = recorded(named, label(row), published)
        for number in shown(row):
            decimals = len(number.partition(".")[2])
            for step in (-1, 1):
                wrong = f"{float(number) + step * 10**-decimals:.{decimals}f}"
                noticed.append(not stands(wrong, known))
    assert np.mean(noticed) > 0.9


def test_the_page_says_how_often_the_test_set_was_scored():
    """A row of several seeds, "0 1 2", is of as many models."""
    scored = {(r["command"], r["seed"]) for r in RESULTS if r["commit"] and " test" in r["line"]}
    (said,) = re.findall(r"scored it (\d+) times", PAGE)
    assert int(said) == sum(len(seed.split()) or 1 for _, seed in scored)


# The program


def test_nothing_is_recorded_of_a_program_that_is_killed(tmp_path):
    program = tmp_path / "killed.py"
    program.write_text("import os\nprint('loss 0.1', flush=True)\nos.abort()\n")
    with pytest.raises(SystemExit):
        record.printed(str(program))


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """The file and the run of a recorded command, and the process."""
    folder = tmp_path_factory.mktemp("record")
    file, out = folder / "results.csv", folder / "run"
    return file, out, run(*SHORT, "--out", out, "--file", file, example="record.py")


@pytest.mark.slow
def test_a_line_of_the_file_is_what_the_program_prints(results):
    file, out, process = results
    assert process.returncode == 0, process.stderr
    printed = run("--evaluate", "--out", out).stdout.splitlines()
    assert [row["line"] for row in read(file)] == [line for line in printed if "--" not in line]


@pytest.mark.slow
def test_a_row_has_its_origin_but_nothing_of_this_machine_s_folders(results):
    file, out, _ = results
    row = read(file)[0]
    assert (row["command"], row["seed"]) == (" ".join(map(str, SHORT[:-2])), "5")
    assert f"NumPy {np.__version__}" in row["versions"]
    assert str(out) not in file.read_text(encoding="utf-8")


@pytest.mark.slow
def test_a_command_that_the_file_has_is_not_run_again(results):
    file, out, _ = results
    before = file.read_bytes()
    process = run(*SHORT, "--out", out, "--file", file, example="record.py")
    assert process.returncode == 0
    assert file.read_bytes() == before


@pytest.mark.slow
def test_nothing_is_recorded_of_a_command_that_fails(tmp_path):
    file = tmp_path / "results.csv"
    process = run("mnist.py", "--epochs", 0, "--file", file, example="record.py")
    assert process.returncode == 2
    assert not file.exists()


# The frozen recipes

FROZEN = (EXAMPLES / "FROZEN.md").read_text(encoding="utf-8")
LOOP = re.findall(r"```sh\n(.*?)```", FROZEN, re.DOTALL)[0]


@pytest.fixture(scope="module")
def frozen():
    """The commands of the loop, which a shell writes down in place of running them."""
    loop = LOOP.replace(".venv/bin/python examples/record.py", "echo").replace("-P 2", "")
    lines = subprocess.run(["bash", "-c", loop], capture_output=True, text=True, check=True)
    return lines.stdout.splitlines()


@posix
def test_every_frozen_seed_is_one_that_nobody_has_looked_at(frozen):
    """Seeds 0, 1 and 2 were looked at, and chosen on, before the recipes were frozen."""
    for line in frozen:
        seeds = re.search(r"--seeds? ([\d ]+) --out", line)[1].split()
        assert min(map(int, seeds)) >= 100, line


@posix
def test_no_two_frozen_runs_share_a_folder(frozen):
    folders = [line.partition("--out ")[2].split()[0] for line in frozen]
    assert len(set(folders)) == len(folders) > 80


@posix
def test_every_frozen_command_names_a_program_with_its_flags(frozen):
    for program in {line.split()[0] for line in frozen}:
        flags = {
            flag
            for line in frozen
            if line.startswith(program)
            for flag in re.findall(r"--\S+", line)
        }
        process = run_here("--help", example=program)
        assert all(flag in process.stdout for flag in flags), program
