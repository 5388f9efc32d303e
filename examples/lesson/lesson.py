"""What the notebooks of this folder share: checks, marks, pictures, and the minutes they take."""

import base64
import io
import json
import os
import re
import sys
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before NumPy: the products here are small

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from npaae import gradcheck

sys.path.append(str(Path(__file__).resolve().parents[1]))  # so that a notebook finds one_page.py

RIGHT = 1e-6  # in float64 a right gradient stays below this, and a wrong one is above 1e-3
FORWARD, BACKWARD = "#1f4e79", "#c03000"
QUESTIONS = Path(__file__).with_name("questions.toml")

plt.rcParams.update(
    {
        "figure.dpi": 120,
        "figure.constrained_layout.use": True,
        "font.size": 15,
        "lines.linewidth": 2.5,
        "lines.markersize": 8,
        "axes.grid": True,
        "grid.alpha": 0.3,
        "hatch.linewidth": 0.6,
    }
)


# Checks


def verdict(claim: str, error: float) -> None:
    """Print what a check says about a claimed gradient."""
    print(f"{claim:34} relative error {error:7.1e}   {'right' if error < RIGHT else 'WRONG'}")


def check(layer: Callable[..., Any], **arguments: Any) -> None:
    """Check every gradient of a layer, a function that returns y and `back`, by differences.

    `back` maps dL/dy to the gradients of all arguments, in order. L = Σ dy · y with a random dy.
    """
    y, back = layer(**arguments)
    dy = np.random.default_rng(0).standard_normal(y.shape)
    for (name, value), gradient in zip(arguments.items(), back(dy), strict=True):

        def loss(changed: Any, name: str = name) -> float:
            return float(np.sum(dy * layer(**arguments | {name: changed})[0]))

        verdict(f"{layer.__name__}: d{name}", gradcheck.elementwise(loss, value, gradient))


def expect(holds: Any, claim: str) -> None:
    """Say so if a claim of the text does not hold on this machine; in CI, raise an error."""
    if not holds and os.environ.get("CI"):
        raise AssertionError(claim)
    if not holds:
        print(f"Not so on this machine: {claim}")


# Exercises

marks: dict[str, bool] = {}
NUMBERS = "Replace each ... in the cell above by a number."
CODE_MISSING = "Replace each ... in the cell above by code."


def slips(exercise: str) -> dict[str, Any]:
    """The known wrong answers to an exercise: what went wrong, and the value that it gives."""
    questions = tomllib.loads(QUESTIONS.read_text(encoding="utf-8"))["question"]
    wrong = [w for q in questions if q.get("exercise") == exercise for w in q["wrong"]]
    return {slip: value[0] for _, slip, *value in wrong if value}


def predicted(exercise: str, answer: Any, truth: Any) -> None:
    """Mark a predicted number, or list of numbers: right within 1 %, unless a slip is nearer.

    A row or a column of an array counts as the list of its numbers.
    """
    if _has_ellipsis(answer):
        _mark(exercise, None, NUMBERS)
        return
    try:
        numbers = np.squeeze(np.asarray(answer, dtype=float))
    except (TypeError, ValueError):
        _mark(exercise, False, f"Your prediction must be a number, got {answer!r}.")
        return
    away = _distance(numbers, np.squeeze(truth))
    near = {slip: _distance(numbers, value) for slip, value in slips(exercise).items()}
    slip = min(near, key=lambda slip: near[slip], default="")
    if slip and near[slip] <= min(0.01, away):
        _mark(exercise, False, slip)
    else:
        _mark(exercise, away <= 0.01, f"Your prediction is {_text(numbers)}.")


def checked(
    exercise: str,
    claim: Callable[[], Any],
    error: Callable[[Any], float],
    slips: Mapping[str, Any],
) -> None:
    """Mark what the student's code computes: by its error, and by the known wrong results."""
    try:
        claimed = claim()
        if _has_ellipsis(claimed):
            _mark(exercise, None, CODE_MISSING)
            return
        claimed = np.asarray(claimed, dtype=float)
        for slip, wrong in slips.items():
            if _distance(claimed, wrong) < RIGHT:
                _mark(exercise, False, slip)
                return
        found = error(claimed)
    except Exception as problem:
        if "ellipsis" in str(problem).lower():
            _mark(exercise, None, CODE_MISSING)
        else:
            _mark(exercise, False, f"It raises {problem!r}.")
    else:
        _mark(exercise, found < RIGHT, f"The relative error is {found:.1e}.")


def only_gradient(back: Callable[[Any], Any], dy: Any) -> Any:
    """The gradient that a student's `back` returns for a layer with one argument, in a list."""
    gradients = back(dy.copy())  # which it may overwrite
    if gradients is ...:
        return ...
    if not isinstance(gradients, (list, tuple)) or len(gradients) != 1:
        raise ValueError("back must return a list with the gradient of each argument: [dx] for one")
    return gradients[0]


def score() -> None:
    """Print how many of the exercises are right."""
    print(f"{sum(marks.values())} of {len(marks)} exercises are right.")
    if missing := [exercise for exercise, right in marks.items() if not right]:
        print("To do:", ", ".join(missing))


def _mark(exercise: str, right: bool | None, reason: str) -> None:
    marks[exercise] = bool(right)
    result = "not done yet" if right is None else "right" if right else "WRONG"
    print(f"Exercise {exercise}: {result}. {reason}")


def _has_ellipsis(answer: Any) -> bool:
    if isinstance(answer, np.ndarray) and answer.dtype == object:
        answer = answer.tolist()
    return answer is ... or (isinstance(answer, (list, tuple)) and any(map(_has_ellipsis, answer)))


def _distance(numbers: Any, other: Any) -> float:
    """The largest relative difference from `other`, absolute where that is 0; or infinity."""
    numbers, other = np.asarray(numbers), np.asarray(other, dtype=float)
    if numbers.shape != other.shape or np.isnan(numbers).any():
        return np.inf
    return float(np.max(np.abs(numbers - other) / np.where(other == 0, 1, np.abs(other))))


def _text(numbers: Any) -> str:
    return np.array2string(numbers, formatter={"float_kind": lambda number: f"{number:.4g}"})


# Pictures


def show(figure: Figure, alt: str) -> None:
    """Display a figure as an image with a text for those who cannot see it."""
    from IPython.display import HTML, display

    file = io.BytesIO()
    figure.savefig(file, format="png")
    plt.close(figure)
    data = base64.b64encode(file.getvalue()).decode()
    source = f'src="data:image/png;base64,{data}"'
    display(HTML(f'<img alt="{alt}" {source} style="max-width: 100%">'))


def diagram(
    boxes: Mapping[str, tuple[float, float]],
    forward: str,
    backward: str = "",
    stopped: str = "",
    *,
    alt: str,
    labels: Mapping[str, str] | None = None,
    above: Mapping[str, str] | None = None,
    below: Mapping[str, str] | None = None,
    moving: str = "",
    size: tuple[float, float] = (9, 2.4),
    title: str = "",
) -> None:
    """Show boxes at the given places, and arrows, written "a>b b>c", between them.

    Forward arrows are solid and blue, backward arrows dashed and red, and those that are stopped
    are crossed out. A box shows its label, or else its name; `above` and `below` are written over
    and under it; the boxes named in `moving` are filled and have a thick frame.
    """
    figure, axes = plt.subplots(figsize=size)
    frames = {}
    for name, (x, y) in boxes.items():
        moves = name in moving.split()
        frame = {
            "boxstyle": "round,pad=0.45",
            "facecolor": "#ffd9cc" if moves else "white",
            "edgecolor": "black",
            "linewidth": 3 if moves else 1,
        }
        inside, over, under = ((notes or {}).get(name, "") for notes in (labels, above, below))
        text = axes.text(x, y, inside or name, ha="center", va="center", fontsize=17, bbox=frame)
        text.set_zorder(3)
        frames[name] = text.get_bbox_patch()
        axes.text(x, y + 0.35, over, ha="center", va="bottom", color=FORWARD, fontsize=17)
        axes.text(x, y - 0.35, under, ha="center", va="top", color=BACKWARD, fontsize=17)
    for arrow in f"{forward} {backward} {stopped}".split():
        start, end = arrow.split(">")
        is_forward = arrow in forward.split()
        style = {
            "color": FORWARD if is_forward else BACKWARD,
            "linestyle": "-" if is_forward else "--",
            "linewidth": 2,
            "arrowstyle": "-|>",
            "connectionstyle": "arc3,rad=0.15",
            "patchA": frames[start],
            "patchB": frames[end],
            "shrinkA": 3,
            "shrinkB": 3,
        }
        axes.annotate("", boxes[end], boxes[start], arrowprops=style)
    columns, rows = zip(*boxes.values(), strict=True)
    axes.set(xlim=(min(columns) - 0.6, max(columns) + 0.6), ylim=(min(rows) - 0.8, max(rows) + 0.8))
    for arrow in stopped.split():  # the cross sits on the bow, half as far out as its control point
        (x0, y0), (x1, y1) = (axes.transData.transform(boxes[name]) for name in arrow.split(">"))
        middle = ((x0 + x1) / 2 + 0.075 * (y1 - y0), (y0 + y1) / 2 - 0.075 * (x1 - x0))
        x, y = axes.transData.inverted().transform(middle)
        axes.text(x, y, "✕", color=BACKWARD, fontsize=26, ha="center", va="center", zorder=4)
    axes.set_title(title, fontsize=17)
    axes.set_axis_off()
    show(figure, alt)


# The minutes that a session takes in class

WORDS = 110  # of prose a minute, spoken, formulas on the board included
CODE = 5  # lines of code a minute, explained
RUN = 0.3  # minutes to run a cell and read what it prints
FIGURE = 1.5  # minutes to explain one
QUESTION = 1.5  # minutes for a show of hands and two students who disagree
EXERCISE = 2  # minutes, and one more for each line of its answer


def budget(notebook: Path) -> dict[str, float]:
    """The minutes that a notebook takes in class, by what they are spent on.

    What is hidden is not read, and what is at home (after the slides end) is not done.
    """
    minutes = dict.fromkeys(("prose", "code", "running", "figures", "questions", "exercises"), 0.0)
    for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
        text, kind = "".join(cell["source"]), cell["metadata"]["slideshow"]["slide_type"]
        if kind == "skip":
            continue
        if kind == "notes":  # the answer to an exercise
            lines = re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
            minutes["exercises"] += EXERCISE + sum(len(part.strip().split("\n")) for part in lines)
        elif cell["cell_type"] == "markdown":
            minutes["prose"] += len(text.split()) / WORDS
            minutes["questions"] += QUESTION * text.count("**Before you run")
        else:
            minutes["running"] += RUN
            minutes["figures"] += FIGURE * len(re.findall(r"lesson\.(?:show|diagram)\(", text))
            if not is_hidden(cell) and not is_exercise(cell):
                minutes["code"] += sum(bool(line.strip()) for line in text.split("\n")) / CODE
    return minutes


def is_hidden(cell: Mapping[str, Any]) -> bool:
    """Is the code of a cell folded away, because only its result is for the class?"""
    return bool(cell["metadata"].get("jupyter", {}).get("source_hidden"))


def is_exercise(cell: Mapping[str, Any]) -> bool:
    """Does a cell hold the `...` that students replace?"""
    return "exercise" in cell["metadata"].get("tags", [])
