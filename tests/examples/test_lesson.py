"""The lesson: students' notebooks without answers, sessions that fit, slides, questions."""

import ast
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from textwrap import dedent
from zipfile import ZipFile

import numpy as np
import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
FOLDER = EXAMPLES / "lesson"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
QUESTIONS = tomllib.loads((FOLDER / "questions.toml").read_text(encoding="utf-8"))["question"]
STUBS = {  # what exercises give, and their answers repeat
    "mask = (rng.random(x.shape) >= rate) / (1 - rate)",
    "self.parameters, self.alpha = parameters, alpha",
    "self.m, self.v, self.t = np.zeros_like(parameters), np.zeros_like(parameters), 0",
    "y = x @ W",
    "m = 1 + (x**2).mean(axis=1, keepdims=True)",
}
each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
each_question = pytest.mark.parametrize(
    "question", QUESTIONS, ids=lambda question: question["name"]
)


def cells(path):
    return json.loads(path.read_text(encoding="utf-8"))["cells"]


def source(cell):
    return "".join(cell["source"])


def tags(cell):
    return cell["metadata"].get("tags", [])


def answers(cell):
    """The code of the answer that a cell holds, if it holds one."""
    is_answer = source(cell).startswith("<details>")
    code = re.findall(r"^```python\n(.*?)\n```", source(cell), re.DOTALL | re.MULTILINE)
    return code if is_answer else []


def load(name):
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def lesson(monkeypatch):
    import matplotlib.pyplot as plt

    monkeypatch.setattr(sys, "path", sys.path.copy())
    with plt.rc_context():
        yield load("lesson")


# The students' notebooks


@each_notebook
def test_a_students_copy_has_no_outputs(path):
    code = [cell for cell in cells(path) if cell["cell_type"] == "code"]
    assert code
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)


@each_notebook
def test_a_students_copy_holds_nothing_of_the_machine_that_wrote_it(path):
    machine = r"(?<![\w.])/(home|root|tmp|usr|work|Users|opt|mnt)/|\b[A-Z]:\\\\|at 0x[0-9a-f]+"
    assert not re.search(machine, path.read_text(encoding="utf-8"))
    known = {"cellView", "jupyter", "slideshow", "tags"}
    assert all(set(cell["metadata"]) <= known for cell in cells(path))


@each_notebook
def test_every_exercise_is_followed_by_its_mark_and_its_answer(path):
    found = cells(path)
    exercises = [i for i, cell in enumerate(found) if "exercise" in tags(cell)]
    assert len(exercises) >= 4
    for i in exercises:
        assert "..." in source(found[i])
        assert tags(found[i + 1]) == ["marks"]
        assert len(answers(found[i + 2])) == 1
    assert sum(len(answers(cell)) for cell in found) == len(exercises)


@each_notebook
def test_no_line_of_an_answer_is_printed_before_it(path):
    given = set()
    for cell in cells(path):
        if not answers(cell):
            given |= {line.strip() for line in source(cell).splitlines()}
        for code in answers(cell):
            own = {line.strip() for line in code.splitlines() if "return " not in line}
            assert {line for line in own & given if " = " in line} <= STUBS


@each_notebook
def test_what_a_question_asks_is_not_read_below_it(path):
    found = cells(path)
    asked = [i for i, cell in enumerate(found) if "**Before you run" in source(cell)]
    assert asked
    for i in asked:
        kinds = [cell["cell_type"] for cell in found]
        code = kinds.index("code", i)
        told = source(found[kinds.index("markdown", code)])
        assert told.startswith(("<details>", "**Exercise", "## "))


@each_notebook
def test_folded_code_shows_its_title_and_no_more(path):
    """Of a folded cell JupyterLab shows the first line, and Colab what follows @title."""
    folded = [cell for cell in cells(path) if "jupyter" in cell["metadata"]]
    marks = [cell for cell in cells(path) if tags(cell) == ["marks"]]
    assert all(cell in folded for cell in marks)
    for cell in folded:
        assert cell["metadata"]["cellView"] == "form"
        assert re.match(r"# @title (Mark of exercise )?[A-Z0-9][\w .]*\n", source(cell))


def test_a_perceptron_a_batch_a_cache_xp_and_the_learning_rate_are_explained_before_they_are_used():
    text = "\n".join(
        source(cell)
        for path in NOTEBOOKS[:3]
        for cell in cells(path)
        if cell["cell_type"] == "markdown"
    )
    for term in ("perceptron", "batch", "cache", "learning rate"):
        assert text.index(f"*{term}*") == text.index(term) - 1, term
    assert "the array module `xp`" in text


@each_notebook
def test_no_result_in_the_answer_to_a_question_is_stated_by_the_question(path):
    asked = None
    for cell in cells(path):
        text = source(cell)
        if "**Before you run" in text:
            asked = text
        elif asked and text.startswith("<details><summary>After"):
            results = [formula for formula in re.findall(r"\$[^$]+\$", text) if "=" in formula]
            assert not [formula for formula in results if formula in asked]
            asked = None


# The time


@each_notebook
def test_a_session_fits_into_fifty_minutes(path, lesson):
    assert 30 <= sum(lesson.budget(path).values()) <= 50


@each_notebook
def test_the_readme_states_what_the_minutes_are_spent_on(path, lesson):
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    (row,) = re.findall(rf"^\| \[.*?\]\({path.name}\) \| (.*) \|$", readme, re.MULTILINE)
    minutes = list(lesson.budget(path).values())
    assert row.split(" | ") == [f"{number:.0f}" for number in [*minutes, sum(minutes)]]


def test_the_budget_counts_what_is_shown_and_what_is_done(lesson, tmp_path):
    def cell(kind, text, slide="-", **metadata):
        metadata |= {"slideshow": {"slide_type": slide}}
        return {"cell_type": kind, "source": text, "metadata": metadata}

    answer = "<details>\n```python\na = 1\nb = 2\n```\n</details>"
    told = [
        cell("markdown", "word " * 107 + "**Before you run"),  # and a question
        cell("code", "shown\n" * 5),
        cell("code", "hidden\n" * 60 + "lesson.show(figure)", jupyter={"source_hidden": True}),
        cell("code", "stub\n" * 60, tags=["exercise"]),
        cell("markdown", answer, "notes"),
        cell("markdown", "word " * 1000, "skip"),
    ]
    path = tmp_path / "a.ipynb"
    path.write_text(json.dumps({"cells": told}), encoding="utf-8")
    assert lesson.budget(path) == pytest.approx(
        {
            "prose": 1.0,
            "code": 1.0,
            "running": 0.9,
            "figures": 1.5,
            "questions": 1.5,
            "exercises": 4.0,
        }
    )


# Marks


@pytest.mark.parametrize(
    ("answer", "result"),
    [
        (..., "not done yet. Replace each ... in the cell above by a number."),
        (0.2501, "right. Your prediction is 0.2501."),
        (np.float32(0.26), "WRONG. Your prediction is 0.26."),
        (float("nan"), "WRONG. Your prediction is nan."),
        ("a", "WRONG. Your prediction must be a number, got 'a'."),
        ((0, 25), "WRONG. Your prediction is [0 25]."),
        (None, "WRONG. Your prediction is nan."),
    ],
)
def test_any_prediction_gets_a_mark(lesson, capsys, answer, result):
    lesson.predicted("X", answer, 0.25)
    assert capsys.readouterr().out == f"Exercise X: {result}\n"
    assert lesson.marks == {"X": result.startswith("right")}


@pytest.mark.parametrize(
    "answer", [(3, -1), np.array([3, -1]), np.array([[3, -1]]), [[3], [-1]], [[[3.0, -1.0]]]]
)
def test_a_row_or_a_column_counts_as_the_list_of_its_numbers(lesson, answer):
    lesson.predicted("X", answer, [3, -1])
    assert lesson.marks == {"X": True}


@pytest.mark.parametrize("answer", [[3, -1, 0], [[3, -1], [3, -1]], 3, []])
def test_as_many_numbers_as_asked_are_marked(lesson, answer):
    lesson.predicted("X", answer, [3, -1])
    assert lesson.marks == {"X": False}


@pytest.mark.parametrize(
    "answer",
    [
        [..., ...],
        (3, ...),
        [[..., ...]],
        [[3, -1], [3, ...]],
        np.array([..., ...]),
        np.array([[3, ...]]),
        np.array(...),
        [np.array([3, ...])],
    ],
    ids=repr,
)
def test_an_answer_that_still_holds_dots_is_not_done_yet(lesson, capsys, answer):
    lesson.predicted("X", answer, [3, -1])
    lesson.checked("X", lambda: answer, lambda claim: 0.0, {})
    printed = capsys.readouterr().out.splitlines()
    assert all(line.startswith("Exercise X: not done yet. ") for line in printed)
    assert len(printed) == 2


@each_question
def test_a_mark_names_the_slip_behind_a_known_wrong_answer(question, lesson, capsys):
    for _, slip, *value in question["wrong"]:
        if value:
            lesson.predicted(question["exercise"], value[0], np.full(np.shape(value[0]), np.pi))
            assert capsys.readouterr().out == f"Exercise {question['exercise']}: WRONG. {slip}\n"


def test_a_slip_that_is_within_one_per_cent_of_the_truth_is_not_taken_for_it(lesson, capsys):
    for answer in (1, 783 / 784, 0.9976):
        lesson.predicted("5.3", answer, 783 / 785)
    assert [line.split()[2] for line in capsys.readouterr().out.splitlines()] == [
        "WRONG.",
        "WRONG.",
        "right.",
    ]


def test_code_is_marked_by_its_error_and_by_known_wrong_results(lesson, capsys):
    def fails():
        raise ZeroDivisionError("no")

    def error(claim):
        return float(np.abs(claim - 3).max())

    for claim in (lambda: ..., lambda: ... * 2, lambda: 3.0, lambda: 6.0, lambda: 5.0, fails):
        lesson.checked("X", claim, error, {"Twice.": 6.0})
    assert capsys.readouterr().out.splitlines() == [
        "Exercise X: not done yet. Replace each ... in the cell above by code.",
        "Exercise X: not done yet. Replace each ... in the cell above by code.",
        "Exercise X: right. The relative error is 0.0e+00.",
        "Exercise X: WRONG. Twice.",
        "Exercise X: WRONG. The relative error is 2.0e+00.",
        "Exercise X: WRONG. It raises ZeroDivisionError('no').",
    ]


WRONG_CODE = [  # an exercise, a wrong answer, and what its mark says
    (
        "2.1",
        """
        def my_dense(x, W, b):
            return x @ W + b, lambda dy: (dy @ W.T, dy.T @ x, dy.mean(axis=0))
        """,
        "dx: right. The relative error",
        "dW: WRONG. That is dyᵀ x, the transpose.",
        "db: WRONG. That is the mean over the samples; b is used once for each, so add.",
    ),
    (
        "2.4",
        """
        def tied(x, W):
            return x @ W @ W.T, lambda dz: (dz @ W @ W.T, dz.T @ x @ W)
        """,
        "dx: right. The relative error",  # whatever dW is
        "dW: WRONG. W is a fork: the path through y is missing.",
    ),
    (
        "3.4",
        """
        def my_relu(a):
            return np.maximum(a, 0), lambda dh: [dh * (np.maximum(a, 0) >= 0)]
        """,
        ": WRONG. No output of ReLU is negative, so h >= 0 is always true.",
    ),
    (
        "3.4",
        """
        def my_relu(a):
            return np.maximum(a, 0), lambda dh: [dh * (a >= 0)]
        """,
        ": WRONG. At a = 0 the derivative is 0 by convention: a > 0, not a >= 0.",
    ),
    (
        "3.4",
        """
        def my_relu(a):
            return np.maximum(a, 0), lambda dh: [dh * (np.sign(a) + 1) / 2]
        """,
        ": WRONG. The relative error is 1.0e+00.",  # 1/2 at the kink
    ),
    (
        "4.3",
        """
        def my_dropout(x, rate, rng):
            mask = (rng.random(x.shape) >= rate) / (1 - rate)
            return x * mask, lambda dy: [dy * (mask > 0)]
        """,
        ": WRONG. The scale 1 / (1 − r) is forgotten.",
    ),
    (
        "4.7",
        """
        class MyAdam:
            def __init__(self, parameters, alpha):
                self.parameters, self.m, self.v = parameters, 0, 0

            def step(self, gradient):
                self.m = 0.9 * self.m + 0.1 * gradient
                self.v = 0.999 * self.v + 0.001 * gradient**2
                self.parameters -= self.m / (np.sqrt(self.v) + 1e-8)
        """,
        ": WRONG. The bias correction is missing.",
    ),
    (
        "5.5",
        """
        def wrapped_backward(dy, W, m, p):
            return dy @ W.T / (1 - p)
        """,
        ": WRONG. That is numpy-ml's: the mask is forgotten.",
    ),
]


@pytest.fixture
def notebook(monkeypatch):
    """The cells of a session, and its names once its imports and its data are there."""
    import matplotlib.pyplot as plt

    monkeypatch.setattr(sys, "path", [str(FOLDER), *sys.path])
    for name in ("lesson", "one_page"):
        monkeypatch.delitem(sys.modules, name, raising=False)

    def begin(exercise):
        found, names = cells(NOTEBOOKS[int(exercise[0]) - 1]), {}
        exec(source(found[1]), names)
        if exercise == "2.4":  # the small case of exercise 2.1
            exec(source(found[mark(found, "2.1 d")]).partition("for k, name")[0], names)
        return found, names

    with plt.rc_context():
        yield begin


def mark(found, exercise):
    """The place of the cell that marks an exercise."""
    (place,) = (
        i
        for i, cell in enumerate(found)
        if tags(cell) == ["marks"] and re.search(rf'"{exercise}\b', source(cell))
    )
    return place


@pytest.mark.parametrize("wrong", WRONG_CODE, ids=lambda wrong: wrong[0])
def test_a_mark_names_the_slip_in_wrong_code(wrong, notebook, capsys):
    exercise, answer, *lines = wrong
    found, names = notebook(exercise)
    exec(dedent(answer), names)
    exec(source(found[mark(found, exercise)]), names)
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == len(lines)
    for line, start in zip(printed, lines, strict=True):
        separator = "" if start.startswith(":") else " "
        assert line.startswith(f"Exercise {exercise}{separator}{start}")


@pytest.mark.parametrize(
    "exercise", ["1.4", "2.1", "2.4", "3.4", "3.5", "3.6", "4.3", "4.6", "4.7", "5.5"]
)
def test_code_that_is_not_begun_is_not_done_yet(exercise, notebook, capsys):
    found, names = notebook(exercise)
    place = mark(found, exercise)
    for cell in found[place - 1 : place + 1]:
        exec(source(cell), names)
    printed = capsys.readouterr().out.splitlines()
    assert printed
    assert all(": not done yet." in line for line in printed)


LAYERS = {"3.4": "my_relu", "3.5": "leaky_relu", "3.6": "row_scale", "4.3": "my_dropout"}
each_layer = pytest.mark.parametrize(("exercise", "name"), LAYERS.items())


def with_back(layer, changed):
    """The layer with another `back`: `changed` maps dy and the list of gradients to a result."""

    def other(*arguments):
        y, back = layer(*arguments)
        return y, lambda dy: changed(dy, back(dy))

    return other


def overwriting(dy, gradients):
    dy[:] = gradients[0]
    return [dy]


@each_layer
@pytest.mark.parametrize(
    ("changed", "right"),
    [
        (lambda dy, gradients: gradients, True),
        (lambda dy, gradients: tuple(gradients), True),
        (overwriting, True),
        (lambda dy, gradients: gradients[0], False),
        (lambda dy, gradients: [*gradients, dy], False),
    ],
    ids=["list", "tuple", "in place", "bare array", "two"],
)
def test_the_back_of_a_layer_returns_a_list(exercise, name, changed, right, notebook, capsys):
    found, names = notebook(exercise)
    place = mark(found, exercise)
    (answer,) = answers(found[place + 1])
    exec(answer, names)
    names[name] = with_back(names[name], changed)
    exec(source(found[place]), names)
    printed = capsys.readouterr().out
    assert names["lesson"].marks == {exercise: right}
    assert right or "back must return a list" in printed


def test_the_relu_of_exercise_3_4_works_in_the_network_of_its_session(notebook):
    found, names = notebook("3.4")
    place = mark(found, "3.4")
    exec(*answers(found[place + 1]), names)
    exec(source(found[place + 2]), names)
    rng = np.random.default_rng()
    parameters = list(names["initial"](rng, 6, 4, 3))
    x, dy = rng.random((5, 6)), rng.standard_normal((5, 3))
    own, given = (
        names["forward"](x, *parameters, activation=names[relu])[1](dy)
        for relu in ("my_relu", "relu")
    )
    for gradient, same in zip(own, given, strict=True):
        np.testing.assert_array_equal(gradient, same)


# Pictures


@each_notebook
def test_every_figure_has_a_text_for_those_who_cannot_see_it(path):
    code = [source(cell) for cell in cells(path) if cell["cell_type"] == "code"]
    assert "plt.show" not in "".join(code)
    calls = [
        node
        for text in code
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Call)
        and ast.unparse(node.func) in ("lesson.show", "lesson.diagram")
    ]
    assert calls
    for call in calls:
        (alt,) = (word.value for word in call.keywords if word.arg == "alt")
        assert len(ast.literal_eval(alt)) > 40


@each_notebook
def test_the_code_of_a_figure_is_folded_away(path):
    figures = [cell for cell in cells(path) if re.search(r"lesson\.(show|diagram)\(", source(cell))]
    assert all(cell["metadata"]["jupyter"]["source_hidden"] for cell in figures)


def test_a_figure_is_shown_with_its_text(lesson, capsys):
    display = pytest.importorskip("IPython.display")
    figure, _ = lesson.plt.subplots()
    shown = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(display, "display", shown.append)
        lesson.show(figure, alt="A line.")
    assert shown[0].data.startswith('<img alt="A line." src="data:image/png;base64,')


# Questions


def test_there_are_thirty_questions_and_each_session_has_some():
    assert len(QUESTIONS) == 30
    assert {question["session"] for question in QUESTIONS} == {1, 2, 3, 4, 5}
    assert len({question["name"] for question in QUESTIONS}) == 30


@each_question
def test_a_question_has_one_right_answer_and_three_or_four_slips(question):
    choices = [question["answer"], *(answer for answer, *_ in question["wrong"])]
    assert len(set(choices)) == len(choices) in (4, 5)
    reasons = [question["why"], *(slip for _, slip, *_ in question["wrong"])]
    assert all(reason.endswith(".") and len(reason) > 10 for reason in reasons)


def test_the_exercises_that_questions_repeat_are_in_the_notebooks():
    code = "".join(source(cell) for path in NOTEBOOKS for cell in cells(path))
    repeated = {question["exercise"] for question in QUESTIONS if "exercise" in question}
    assert repeated <= set(re.findall(r'lesson\.predicted\("([^"]+)"', code))
    assert len(repeated) >= 14


def test_the_files_of_the_questions_are_what_the_program_writes():
    questions = load("questions")
    for name, write in {"questions.gift": questions.gift, "questions.md": questions.page}.items():
        assert (FOLDER / name).read_text(encoding="utf-8") == write(QUESTIONS)


def test_the_gift_file_is_read_back_as_the_same_questions():
    text = (FOLDER / "questions.gift").read_text(encoding="utf-8")
    text = re.sub(r"^//.*\n", "", text, flags=re.MULTILINE)

    def plain(part):
        return re.sub(r"\\([~=#{}:\\])", r"\1", part).strip()

    found = []
    for body, block in re.findall(
        r"^::(?:\\.|[^:])*::((?:\\.|[^{])*)(?<!\\)\{(.*?)(?<!\\)\}$", text, re.DOTALL | re.MULTILINE
    ):
        choices = re.findall(r"([=~])((?:\\.|[^=~#\\])*)#((?:\\.|[^=~#\\])*)", block)
        found.append((plain(body), [(kind, plain(a), plain(why)) for kind, a, why in choices]))
    assert found == [
        (
            question["text"],
            [("=", question["answer"], question["why"])]
            + [("~", answer, slip) for answer, slip, *_ in question["wrong"]],
        )
        for question in QUESTIONS
    ]


# What the teacher's program builds


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The teacher's folder, made with the claims of the texts asserted."""
    for module in ("nbclient", "nbconvert", "latex2mathml"):
        pytest.importorskip(module, reason=f"pip install 'npaae[notebook]' for {module}")
    folder = tmp_path_factory.mktemp("teacher")
    environment = os.environ | {"CI": "true"}
    subprocess.run([sys.executable, FOLDER / "build.py", folder], env=environment, check=True)
    return folder


@pytest.mark.slow
@each_notebook
def test_with_the_answers_every_exercise_is_right(path, built):
    printed = [
        "".join(output.get("text", ""))
        for cell in cells(built / path.name)
        if cell["cell_type"] == "code"
        for output in cell["outputs"]
    ]
    lines = "".join(printed).splitlines()
    marks = [line for line in lines if line.startswith("Exercise ")]
    assert marks
    assert all(": right." in mark for mark in marks)
    assert not any("Not so on this machine" in line for line in lines)


@pytest.mark.slow
@each_notebook
def test_slides_need_no_network(path, built):
    html = (built / f"{path.stem}.html").read_text(encoding="utf-8")
    assert html.count("<section>") > 15
    assert not re.search(
        r"<link|<iframe|@import|url\(|<script[^>]+src|<img[^>]+src=\"(?!data:)", html
    )
    assert "$" not in re.sub(r"<(pre|code).*?</\1>|<script>.*</script>", "", html, flags=re.DOTALL)


@pytest.mark.slow
@each_notebook
def test_every_image_on_a_slide_has_a_text(path, built):
    html = (built / f"{path.stem}.html").read_text(encoding="utf-8")
    images = re.findall(r"<img[^>]*>", html)
    assert images
    assert all(re.search(r'alt="[^"]{40,}"', image) for image in images)


@pytest.mark.slow
@each_notebook
def test_a_slide_does_not_show_what_its_question_asks(path, built):
    html = (built / f"{path.stem}.html").read_text(encoding="utf-8")
    for slide in html.split("<section>"):
        if "Before you run" in slide:
            assert "output_wrapper" not in slide
            assert "<img" not in slide


@pytest.fixture(scope="module")
def browser():
    webdriver = pytest.importorskip("selenium.webdriver", reason="pip install 'npaae[test]'")
    if not (shutil.which("chromium") and shutil.which("chromedriver")):
        pytest.skip("Chromium is not installed: apt install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    for flag in ("--headless=new", "--no-sandbox", "--hide-scrollbars", "--disable-dev-shm-usage"):
        options.add_argument(flag)
    service = webdriver.ChromeService(shutil.which("chromedriver"))
    driver = webdriver.Chrome(options=options, service=service)
    screen = {"width": 1280, "height": 720, "deviceScaleFactor": 1, "mobile": False}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    yield driver
    driver.quit()


@pytest.mark.slow
@each_notebook
def test_no_slide_is_larger_than_the_screen(path, built, browser):
    browser.get((built / f"{path.stem}.html").as_uri())
    sizes = browser.execute_script(
        "return [...document.querySelectorAll('section')].map("
        "slide => [slide.getBoundingClientRect().height, slide.scrollWidth])"
    )
    assert len(sizes) > 15
    assert max(height for height, _ in sizes) <= 700
    assert max(width for _, width in sizes) <= 1240


@pytest.mark.slow
def test_the_arrow_keys_turn_the_slides(built, browser):
    from selenium.webdriver import ActionChains, Keys

    browser.get((built / "1_the_check.html").as_uri())
    tops = []
    for key in (Keys.ARROW_RIGHT, Keys.ARROW_RIGHT, Keys.ARROW_LEFT):
        ActionChains(browser).send_keys(key).perform()
        script = "return [...document.querySelectorAll('section')].findIndex("
        tops.append(
            browser.execute_script(f"{script}s => Math.abs(s.getBoundingClientRect().top) < 2)")
        )
    assert tops == [1, 2, 1]


@pytest.mark.slow
def test_the_page_to_begin_with_is_the_explorers_with_a_trained_model(built):
    template = (EXAMPLES / "explore.html").read_text(encoding="utf-8")
    page = (built / "plane.html").read_text(encoding="utf-8")
    before, after = template.split("RUN_AS_JSON")
    assert page.startswith(before)
    assert page.endswith(after)
    run = json.loads(page[len(before) : len(page) - len(after)])
    assert run["epochs"] == 60


@pytest.mark.slow
def test_a_copy_for_colab_installs_the_package_from_its_repository(tmp_path):
    pytest.importorskip("nbformat", reason="pip install 'npaae[notebook]'")
    command = [sys.executable, FOLDER / "build.py", tmp_path, "--colab", "me/mine"]
    subprocess.run(command, check=True)
    for path in NOTEBOOKS:
        badge, install, *rest = cells(tmp_path / path.name)
        assert f"/github/me/mine/blob/main/examples/lesson/{path.name}" in source(badge)
        assert source(install).startswith(
            '%pip install --quiet "npaae @ https://github.com/me/mine/'
        )
        assert [source(cell) for cell in rest] == [source(cell) for cell in cells(path)]


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The environment of a program for which a wheel is installed, and the clone is not."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", folder]
    built = subprocess.run([*pip, EXAMPLES.parent], capture_output=True, text=True)
    if "No matching distribution found for hatchling" in built.stderr:
        pytest.skip("hatchling cannot be downloaded")
    assert built.returncode == 0, built.stderr
    (wheel,) = folder.glob("npaae-*.whl")
    with ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return os.environ | {"PYTHONPATH": str(folder / "site")}


@pytest.mark.slow
def test_a_wheel_writes_the_lesson_and_the_homework_to_a_folder(installed, tmp_path):
    def python(*command):
        run = {"cwd": tmp_path, "env": installed, "capture_output": True, "text": True}
        return subprocess.run([sys.executable, *command], **run, check=True).stdout

    site = installed["PYTHONPATH"]
    assert python("-c", "import npaae; print(npaae.__file__)").startswith(site)
    python("-m", "npaae_examples", "course")
    for path in FOLDER.iterdir():
        if path.suffix in (".ipynb", ".py", ".md", ".toml", ".gift"):
            copy = tmp_path / "course" / "lesson" / path.name
            assert copy.read_bytes() == path.read_bytes()
    assert "usage" in python("course/homework.py", "--help")
    assert python("-c", "import os; os.chdir('course/lesson'); import lesson, one_page") == ""


@pytest.mark.slow
def test_a_notebook_finds_its_module_in_an_installed_package(installed, tmp_path):
    pytest.importorskip("IPython", reason="pip install 'npaae[notebook]'")
    code = source(cells(NOTEBOOKS[0])[1]) + "\nprint(lesson.__file__)"
    run = {"cwd": tmp_path, "env": installed, "capture_output": True, "text": True}
    printed = subprocess.run([sys.executable, "-c", code], **run, check=True).stdout
    assert printed.startswith(installed["PYTHONPATH"])
