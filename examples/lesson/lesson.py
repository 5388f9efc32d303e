"""What the three notebooks of this folder share: verdicts, marks and diagrams."""

import inspect
import os
import textwrap
from collections.abc import Callable, Mapping
from numbers import Real
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before NumPy: the products here are small

import matplotlib.pyplot as plt
from IPython.display import Markdown

RIGHT = 1e-6  # in float64 a right gradient stays below this, and a wrong one is above 1e-3
FORWARD, BACKWARD = "#1f4e79", "#c03000"

plt.rcParams.update(
    {
        "figure.dpi": 144,
        "figure.constrained_layout.use": True,
        "font.size": 13,
        "lines.linewidth": 2.5,
        "axes.grid": True,
        "grid.alpha": 0.3,
    }
)


def show(*things: Any) -> Any:
    """The source of functions, methods or classes of npaae, as they are installed here."""
    texts = (
        f"# {thing.__module__}.{thing.__qualname__}\n{textwrap.dedent(inspect.getsource(thing))}"
        for thing in things
    )
    return Markdown("```python\n" + "\n".join(texts) + "```")


def verdict(claim: str, error: float) -> None:
    """Print what a check says about a claimed gradient."""
    print(f"{claim:42} relative error {error:7.1e}   {'right' if error < RIGHT else 'WRONG'}")


def expect(holds: Any, claim: str) -> None:
    """Say so if a claim of the text does not hold on this machine; in CI, raise an error."""
    if not holds and os.environ.get("CI"):
        raise AssertionError(claim)
    if not holds:
        print(f"Not so on this machine: {claim}")


# Exercises

marks: dict[str, bool] = {}


def predicted(exercise: str, answer: Any, value: Callable[[], Any]) -> None:
    """Mark a predicted number: right if it is within 1 % of the value."""
    if answer is ...:
        _mark(exercise, None, "replace each ... in the cell above by a number")
    elif not isinstance(answer, Real):
        _mark(exercise, False, f"your prediction must be a number, got {answer!r}")
    else:
        right = abs(answer - value()) <= 0.01 * abs(value())
        _mark(exercise, right, f"your prediction is {answer:.4g}")


def checked(exercise: str, check: Callable[[], float]) -> None:
    """Mark code by the relative error that `check` finds in it."""
    try:
        error = check()
    except Exception as problem:
        if "ellipsis" in str(problem).lower():
            _mark(exercise, None, "replace each ... in the cell above by code")
        else:
            _mark(exercise, False, f"it raises {problem!r}")
    else:
        _mark(exercise, error < RIGHT, f"the relative error is {error:.1e}")


def _mark(exercise: str, right: bool | None, reason: str) -> None:
    marks[exercise] = bool(right)
    result = "not done yet" if right is None else "right" if right else "WRONG"
    print(f"Exercise {exercise}: {result}; {reason}.")


def score() -> None:
    """Print how many of the exercises are right."""
    print(f"{sum(marks.values())} of {len(marks)} exercises are right.")
    if missing := [exercise for exercise, right in marks.items() if not right]:
        print("To do:", ", ".join(missing))


# Diagrams


def diagram(
    boxes: Mapping[str, tuple[float, float]],
    forward: str,
    backward: str = "",
    stopped: str = "",
    *,
    labels: Mapping[str, str] | None = None,
    above: Mapping[str, str] | None = None,
    below: Mapping[str, str] | None = None,
    moving: str = "",
    size: tuple[float, float] = (9, 2.4),
    title: str = "",
) -> None:
    """Draw boxes at the given places, and arrows, written "a>b b>c", between them.

    Forward arrows are solid and blue, backward arrows dashed and red, and those that are stopped
    are crossed out. A box shows its label, or else its name; `above` and `below` are written over
    and under it; the boxes named in `moving` are filled.
    """
    _, axes = plt.subplots(figsize=size)
    frames = {}
    for name, (x, y) in boxes.items():
        colour = "#ffd9cc" if name in moving.split() else "white"
        frame = {"boxstyle": "round,pad=0.45", "facecolor": colour, "edgecolor": "black"}
        inside, over, under = ((notes or {}).get(name, "") for notes in (labels, above, below))
        text = axes.text(x, y, inside or name, ha="center", va="center", fontsize=15, bbox=frame)
        text.set_zorder(3)
        frames[name] = text.get_bbox_patch()
        axes.text(x, y + 0.35, over, ha="center", va="bottom", color=FORWARD, fontsize=15)
        axes.text(x, y - 0.35, under, ha="center", va="top", color=BACKWARD, fontsize=15)
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
    axes.set_title(title, fontsize=15)
    axes.set_axis_off()
    plt.show()
