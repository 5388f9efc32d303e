"""The lesson's notebooks are of today's code, fit into an hour, and run in any order."""

import importlib.util
import json
import re
import sys
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
from threadpoolctl import threadpool_limits

import npaae

FOLDER = Path(__file__).resolve().parents[2] / "examples" / "lesson"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
NUMBER = r"[-−]?\d[\d,.]*(e[-+]\d+)?%?"


def cells(path, kind=""):
    found = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return [cell for cell in found if cell["cell_type"].startswith(kind)]


def source(cell):
    return "".join(cell["source"])


def texts(cell, kind="text/plain"):
    """What a code cell shows as text: printed, or of a kind such as text/markdown."""
    parts = [o.get("text") or o.get("data", {}).get(kind, "") for o in cell["outputs"]]
    return "\n".join("".join(part) for part in parts)


def answers(cell):
    return re.findall(r"^```python\n(.*?)^```", source(cell), re.DOTALL | re.MULTILINE)


@each_notebook
def test_it_was_run_once_from_top_to_bottom_without_errors_or_warnings(path):
    code = cells(path, "code")
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell["outputs"]]
    assert {o["output_type"] for o in outputs} <= {"stream", "display_data", "execute_result"}
    assert {o["name"] for o in outputs if o["output_type"] == "stream"} == {"stdout"}


@each_notebook
def test_it_holds_slide_tags_and_nothing_of_the_machine_that_ran_it(path):
    kinds = {"slide", "subslide", "-", "notes", "skip"}
    assert {cell["metadata"].pop("slideshow")["slide_type"] for cell in cells(path)} <= kinds
    assert all(set(cell["metadata"]) <= {"slideshow"} for cell in cells(path))
    machine = r"(?<![\w.])/(home|root|tmp|usr|work|Users|opt|mnt)/|\b[A-Z]:\\\\|at 0x[0-9a-f]+"
    assert not re.search(machine, path.read_text(encoding="utf-8"))
    assert path.stat().st_size < 600_000


@each_notebook
def test_the_readme_plans_its_hour(path):
    shown = [texts(cell, "text/markdown") for cell in cells(path, "code")]
    words = sum(len(text.split()) for text in [*map(source, cells(path)), *shown])
    plan = (FOLDER / "README.md").read_text(encoding="utf-8")
    (rows,) = re.findall(rf"^#+ .*`{path.name}`\n(.*?)(?=^#|\Z)", plan, re.DOTALL | re.MULTILINE)
    minutes = np.array(re.findall(r"^\|[^|]*\| (\d+) \| (\d+) \|", rows, re.MULTILINE), int)
    assert minutes.sum() <= 60
    assert minutes[:, 0].sum() == pytest.approx(words / 200, abs=2)


@each_notebook
def test_what_it_shows_of_the_package_is_todays_code(path):
    shown = "\n".join(texts(cell, "text/markdown") for cell in cells(path, "code"))
    blocks = re.findall(r"^# npaae\.(\w+)\.[\w.]+\n(.*?)(?=^# npaae\.|^```)", shown, re.S | re.M)
    assert blocks
    for module, block in blocks:
        code = (Path(npaae.__file__).parent / f"{module}.py").read_text(encoding="utf-8")
        assert {line.strip() for line in block.splitlines()} <= set(
            map(str.strip, code.split("\n"))
        )


@pytest.fixture
def lesson():
    pytest.importorskip("IPython", reason="IPython is not installed: pip install 'npaae[notebook]'")
    spec = importlib.util.spec_from_file_location("lesson", FOLDER / "lesson.py")
    module = importlib.util.module_from_spec(spec)
    with plt.rc_context():
        spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("answer", "result"),
    [
        (..., "not done yet; replace each ... in the cell above by a number"),
        (0.2501, "right; your prediction is 0.2501"),
        (np.float32(0.26), "WRONG; your prediction is 0.26"),
        (float("nan"), "WRONG; your prediction is nan"),
        ("1/4", "WRONG; your prediction must be a number, got '1/4'"),
        ((0, 25), "WRONG; your prediction must be a number, got (0, 25)"),
        (None, "WRONG; your prediction must be a number, got None"),
    ],
)
def test_any_prediction_gets_a_mark(lesson, capsys, answer, result):
    lesson.predicted("X", answer, lambda: 0.25)
    assert capsys.readouterr().out == f"Exercise X: {result}.\n"
    assert lesson.marks == {"X": result.startswith("right")}


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # IPython's, matplotlib's and PyTorch's own
@each_notebook
def test_with_the_answers_every_exercise_is_right_and_cells_run_again_in_reverse(path, monkeypatch):
    pytest.importorskip("IPython", reason="IPython is not installed: pip install 'npaae[notebook]'")
    monkeypatch.setenv("CI", "true")
    plt.switch_backend("Agg")
    monkeypatch.setattr(plt, "show", lambda: plt.close("all"))
    names, programs, solutions = {}, [], []
    with plt.rc_context(), threadpool_limits(1, "blas"):
        spec = importlib.util.spec_from_file_location("lesson", FOLDER / "lesson.py")
        lesson = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, "lesson", lesson)
        spec.loader.exec_module(lesson)
        for cell in cells(path):
            if cell["cell_type"] == "code":
                programs.append(source(cell))
                with redirect_stdout(StringIO()) as printed:
                    exec(programs[-1], names)
                now, then = (
                    re.sub(NUMBER, "#", text) for text in (printed.getvalue(), texts(cell, ""))
                )
                if not now.startswith("PyTorch is not installed"):  # the one thing it does without
                    assert now.split() == then.split(), "run the notebook again: it has changed"
            elif answers(cell):  # what comes before it is the stub, and then the cell that marks
                (programs[-2],) = answers(cell)
                solutions += programs[-2:]
        assert lesson.marks
        assert not any(lesson.marks.values())
        for program in solutions:
            exec(program, names)
        assert all(lesson.marks.values())
        for program in reversed(programs):
            exec(program, names)
    assert all(lesson.marks.values())
