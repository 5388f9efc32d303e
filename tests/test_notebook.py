import json
import re
from pathlib import Path

import pytest

NOTEBOOK = Path(__file__).resolve().parents[1] / "examples" / "backprop.ipynb"
CELLS = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
CODE = [cell for cell in CELLS if cell["cell_type"] == "code"]
OUTPUTS = [output for cell in CODE for output in cell["outputs"]]


def source(cell):
    return "".join(cell["source"])


def stages():
    """The cells under each heading of second order, by its number."""
    found, current = {}, None
    for cell in CELLS:
        if heading := re.match(r"## (\d+|\w+)", source(cell)) if cell["cell_type"] == "markdown" else None:
            current = found.setdefault(heading[1], [])
        if current is not None:
            current.append(cell)
    return {int(name): cells for name, cells in found.items() if name.isdigit()}


def answers(cell):
    """The code in a cell's folded answers."""
    return re.findall(r"```python\n(.*?)```", source(cell), re.DOTALL) if cell["cell_type"] == "markdown" else []


def shown(output):
    """The text of an output, of whatever kind."""
    if output["output_type"] == "stream":
        return "".join(output["text"])
    return "".join("".join(text) for kind, text in output["data"].items() if kind.startswith("text/"))


def test_it_was_executed_in_order_from_a_fresh_start():
    assert [cell["execution_count"] for cell in CODE] == list(range(1, len(CODE) + 1))


def test_every_cell_that_prints_draws_or_shows_has_its_output():
    making = [cell for cell in CODE if re.search(r"^(print|show|plots\.|assert verdict)|plt\.subplots", source(cell), re.M)]
    assert len(making) > 40
    assert all(cell["outputs"] for cell in making)


def test_no_output_is_an_error_or_a_warning():
    assert {output["output_type"] for output in OUTPUTS} <= {"stream", "display_data", "execute_result"}
    assert {output["name"] for output in OUTPUTS if output["output_type"] == "stream"} == {"stdout"}
    assert not any("Warning" in shown(output) for output in OUTPUTS)


def test_nothing_in_it_tells_of_the_machine_that_made_it():
    document = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    assert document["metadata"] == {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    assert all(cell["metadata"] == {} for cell in CELLS)
    texts = [source(cell) for cell in CELLS] + [shown(output) for output in OUTPUTS]
    for text in texts:
        assert not re.search(r"(?<![\w.])/(home|root|tmp|usr|work|Users|opt|mnt)/|[A-Z]:\\|at 0x[0-9a-f]+", text)


def test_it_is_small_enough_to_look_at_in_a_browser():
    assert NOTEBOOK.stat().st_size < 1.5e6


def test_the_stages_are_numbered_and_each_ends_with_an_exercise_whose_answer_is_folded():
    assert list(stages()) == list(range(11))
    for number, cells in stages().items():
        (exercise,) = (source(cell) for cell in cells if f"**Exercise {number}.**" in source(cell))
        assert exercise.count("<details><summary>Answer</summary>\n\n") == exercise.count("\n</details>") == 1


@pytest.mark.parametrize("stage", range(11))
def test_every_stage_has_a_picture_and_a_check_whose_verdict_is_asserted(stage):
    code = [cell for cell in stages()[stage] if cell["cell_type"] == "code"]
    assert any("image/png" in output.get("data", {}) for cell in code for output in cell["outputs"])
    asserted = r"assert (verdict|phase_check)\(|assert np\.allclose\(update, expected|assert error < 1e-6"
    assert any(re.search(asserted, source(cell)) for cell in code)


def test_what_it_shows_of_the_package_is_the_packages_code_of_today():
    """The sources are part of the outputs, and would grow old unseen."""
    import npaae
    from npaae import gradcheck  # noqa: F401

    fenced = "\n".join(shown(output) for output in OUTPUTS if "text/markdown" in output.get("data", {}))
    folder = Path(npaae.__file__).parent
    code = {path.stem: path.read_text(encoding="utf-8") for path in folder.glob("*.py")}
    blocks = re.findall(r"^# npaae\.(\w+)\.([\w.]+)\n(.*?)(?=^# npaae\.|^```)", fenced, re.DOTALL | re.M)
    assert len(blocks) > 15
    for module, name, block in blocks:
        lines = {line.strip() for line in code[module].splitlines()}
        assert {line.strip() for line in block.splitlines()} <= lines, f"execute the notebook again: {name} has changed"


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # matplotlib's and IPython's own
def test_the_answers_run_where_they_stand(monkeypatch):
    """Up to stage 8: the trainings of the last two are left to the notebook's own execution."""
    pytest.importorskip("IPython", reason="IPython is not installed: pip install 'npaae[notebook]'")
    monkeypatch.setenv("MPLBACKEND", "Agg")
    names, answered = {}, 0
    for cell in (cell for stage, cells in [(-1, CELLS_BEFORE), *stages().items()] if stage < 9 for cell in cells):
        programs = [source(cell).replace("%matplotlib inline\n", "")] if cell["cell_type"] == "code" else answers(cell)
        for program in programs:
            exec(program, names)
        answered += bool(answers(cell))
    assert answered == 9


CELLS_BEFORE = CELLS[: next(i for i, cell in enumerate(CELLS) if source(cell).startswith("## 0"))]
