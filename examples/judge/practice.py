"""Parts 1 to 4: the package's mathematics without function bodies, and a judge of new ones.

The judge is examples/audit.py. Its rows draw cases, call `layers.Dense` and so on, and return
errors; here they call stand-ins for a student's code.
"""

import ast
import importlib
import inspect
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import audit
import numpy as np

from npaae import gradcheck

from . import exact
from .sandbox import Fault, Sandbox
from .stand_ins import Rng, Student, standing_in
from .verdicts import Verdict, Wrong, of_body, of_fault

CASES = 3  # of each formula; the audit has more

# What to write, part by part, and its docstring; "" keeps the package's docstring without what
# CUTS removes.
PARTS = {
    "part 1: layers": {
        "layers.Dense.forward": "y = x W + b, and a cache: whatever your backward pass needs.",
        "layers.Dense.backward": "dL/dx, (n, fan_in), from dy = dL/dy, (n, fan_out).",
        "layers.Dense.parameter_gradients": "Write dL/dW into the array `dW`, dL/db into `db`.",
        "layers.ReLU.forward": "y = max(x, 0), and a cache.",
        "layers.ReLU.backward": "dL/dx, of x's shape.",
        "layers.sigmoid": "σ(x) = 1 / (1 + e⁻ˣ), elementwise. No exponential overflows, for any x.",
        "layers.Sigmoid.backward": "dL/dx, of x's shape.",
        "layers.Dropout.forward": """y = m · x, with m drawn from `rng`; without `rng`, y = x.

        Returns y and a cache. rng.random(x.shape) is uniform in [0, 1).
        """,
        "layers.Dropout.backward": "dL/dx, of x's shape, whether dropout was on or off.",
    },
    "part 2: losses and the chain rule": {
        "losses.bce": "",
        "losses.bce_with_logits": """(L, dL/dlogits) for L = bce(σ(logits), t), from the logits.

    logits has any shape, t has the same shape or is a scalar. Both results are finite and right for
    logits of any size, also in float32: nothing overflows, and no ε is added anywhere.
    """,
        "layers.Sequential.backward": "",
    },
    "part 3: Adam": {
        "optim.Adam.step": """Update `self.parameters` once, in place, with `self.gradient`.

        m is kept in `self.m`, v in `self.v` and t in `self.t`. All three are 0 before the first
        step, whose t is 1.
        """,
    },
    "part 4: the three phases": {
        "Model.reconstruction_gradient": "",
        "Model.discriminator_gradient": """Phase 2: L = BCE(D(z*), 1) + BCE(D(z), 0), each a mean.

        Writes dL/dθ of the discriminator into `gradient` and returns L. codes: z, (n, latent),
        treated as constants. First draw z*, with `draw_prior`. `_with_labels` puts the labels, if
        there are any, beside z* and beside z. Then D sees both as one batch: z* above, z below.
        """,
        "Model.generator_gradient": """Phase 3: L = BCE(D(z), 1), the mean over n.

        Writes dL/dθ of the encoder into `gradient` and returns L. The gradient passes *through* the
        discriminator, whose own gradient is not written. codes, encoder_caches: the results of the
        encoder's forward pass. D sees the codes after `_with_labels`.
        """,
    },
}
CODES = [code for codes in PARTS.values() for code in codes]
FILES = ("layers", "losses", "optim", "model")

CUTS = {  # patterns of what the docstrings give away
    "layers": [
        r"   ⇒   dx = dy Wᵀ, .*? dy_ij",
        r"; dx = dy where x > 0 and 0 elsewhere",
        r"; dx = dy · y \(1 − y\)",
        r", and dx = m · dy",
    ],
    "losses": [r", +dL/dp = .*? / N"],
    "optim": [r"\n\n    With c = .*?passes over memory\."],
    "model": [],
}

HEAD = """# Practice, without a grade: derive what is missing, and check as you go.
"""


# start


def files() -> dict[str, str]:
    """What `start` writes, by file name."""
    return {f"{file}.py": HEAD + source(file) for file in FILES}


def source(file: str, blanks: Any = CODES) -> str:
    """A module of the package as a separate file, without the bodies named by `blanks`.

    A private function that is no longer called is removed too, because it holds the answer.
    """
    text = inspect.getsource(importlib.import_module(f"npaae.{file}"))
    for pattern in CUTS[file]:
        text, cuts = re.subn(pattern, "", text, flags=re.DOTALL)
        assert cuts == 1, pattern
    docstrings = {code: doc for codes in PARTS.values() for code, doc in codes.items()}
    for node, code in reversed(functions(file, text)):
        if code in blanks:
            assert isinstance(node.body[0], ast.Expr)
            doc = docstrings[code] or ast.literal_eval(node.body[0].value)
            indent = " " * node.body[0].col_offset
            body = [f'{indent}"""{doc}"""', f'{indent}raise NotImplementedError("{code}")']
            text = replaced(text, node.body[0].lineno, node.end_lineno, body)
    for node, _ in reversed(functions(file, text)):
        is_private = re.fullmatch(r"_[a-z]\w*", node.name)
        if is_private and len(re.findall(rf"\b{node.name}\b", text)) == 1:
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            text = replaced(text, first, node.end_lineno, []).replace("\n\n\n\n", "\n\n")
    ours = "|".join(FILES)
    text = re.sub(rf"^from \.({ours}) import", r"from \1 import", text, flags=re.MULTILINE)
    text = re.sub(r"^from \.(\w+) import", r"from npaae.\1 import", text, flags=re.MULTILINE)
    return re.sub(r"^from \. import", "from npaae import", text, flags=re.MULTILINE).rstrip() + "\n"


def functions(file: str, text: str) -> list[tuple[ast.FunctionDef, str]]:
    """The functions and methods of a file, in order, with their names in the audit."""
    found = []
    for node in ast.parse(text).body:
        if isinstance(node, ast.FunctionDef):
            found.append((node, f"{file}.{node.name}"))
        elif isinstance(node, ast.ClassDef):
            owner = f"{file}.{node.name}" if file != "model" else "Model"
            methods = [part for part in node.body if isinstance(part, ast.FunctionDef)]
            found += [(method, f"{owner}.{method.name}") for method in methods]
    return found


def replaced(text: str, first: int, last: int | None, new: list[str]) -> str:
    lines = text.splitlines()
    return "\n".join(lines[: first - 1] + new + lines[last:]) + "\n"


def library() -> list[str]:
    """What the files import when `start` writes them; they may import nothing else."""
    found = set()
    for file in FILES:
        for node in ast.walk(ast.parse(source(file))):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                package = node.module == "npaae"
                names = [f"npaae.{a.name}" for a in node.names] if package else [str(node.module)]
                found |= set(names)
    return sorted(found - set(FILES))


class Row(NamedTuple):
    """A row of the table: one of the audit's, by its ID, or a check of `exact`, or both."""

    id: str
    title: str  # without the answer
    code: str
    points: int
    exact: Callable[[Rng], None] | None = None
    hint: str = ""  # if nothing else explains an error
    blocks: bool = True  # whether what needs the body waits until the row is right

    @property
    def checks(self) -> list[audit.Row]:
        found = [row for row in audit.ROWS if row.id == self.id]
        if self.exact is not None:
            found.append(audit.Row(self.id, self.title, self.code, audit.EQUAL, 0, self._exact))
        return found

    def _exact(self, rng: Rng) -> float:
        assert self.exact is not None
        self.exact(rng)
        return 0.0


CHAIN, ADAM = "layers.Sequential.backward", "optim.Adam.step"
ONE, TWO, THREE = (f"Model.{n}_gradient" for n in ("reconstruction", "discriminator", "generator"))
OVERFLOW = "the largest logits overflow, or are lost: no exponent may be positive"
ROWS = [
    Row("dense.y", "dense: y", "layers.Dense.forward", 1),
    Row("dense.dx", "dense: dx", "layers.Dense.backward", 2),
    Row("dense.dW", "dense: dW", "layers.Dense.parameter_gradients", 2),
    Row("dense.db", "dense: db", "layers.Dense.parameter_gradients", 1),
    Row("relu.y", "ReLU: y", "layers.ReLU.forward", 1),
    Row("relu.dx", "ReLU: dx", "layers.ReLU.backward", 1),
    Row("relu.zero", "ReLU: dx at 0", "layers.ReLU.backward", 1,
        hint="dx must be 0 where x is 0: x > 0, and not x >= 0", blocks=False),
    Row("sigmoid.y", "sigmoid: y", "layers.sigmoid", 1, hint="it is not 1 / (1 + e⁻ˣ)"),
    Row("sigmoid.extremes", "sigmoid: finite and right at ±1e4", "layers.sigmoid", 1,
        hint="an exponential overflows: no exponent may be positive", blocks=False),
    Row("sigmoid.dx", "sigmoid: dx", "layers.Sigmoid.backward", 1),
    Row("dropout.dx", "dropout: dx", "layers.Dropout.backward", 1),
    Row("dropout.scale", "dropout: E[y] = x", "layers.Dropout.forward", 1,
        hint="what is kept has the wrong scale: E[y] must be x"),
    Row("dropout.rate", "dropout: P(m = 0) = p", "layers.Dropout.forward", 1,
        hint="the share of zeros is not p: is p the chance to drop, or to keep?"),
    Row("dropout.independence", "dropout: each element on its own", "layers.Dropout.forward", 1,
        hint="elements are dropped together: draw one number for each"),
    Row("dropout.off", "dropout: off without rng", "layers.Dropout.forward", 1,
        hint="without rng, y must be x, and dx must be dy"),
    Row("layers.caches", "every layer: its own cache", "layers", 1,
        hint="a second forward pass changes what backward returns for the first"),
    Row("bce.value", "BCE: L", "losses.bce", 1),
    Row("bce.gradient", "BCE: dL/dp", "losses.bce", 2),
    Row("bce.refusal", "BCE: refuses p outside (0, 1)", "losses.bce", 1, exact.refuses,
        blocks=False),
    Row("bce_with_logits.value", "BCE of logits: L", "losses.bce_with_logits", 2),
    Row("bce_with_logits.gradient", "BCE of logits: dL/dlogits", "losses.bce_with_logits", 2),
    Row("bce_with_logits.extremes", "BCE of logits: right at ±1e4", "losses.bce_with_logits", 1,
        hint=OVERFLOW, blocks=False),
    Row("bce_with_logits.composition", "BCE of logits: as BCE after sigmoid",
        "losses.bce_with_logits", 1, hint="it differs from sigmoid and bce one after the other"),
    Row("network.dx", "network: dx", CHAIN, 2, exact.chain),
    Row("network.parameters", "network: dW and db of each", CHAIN, 2, exact.chain),
    Row("network.fixed", "network: parameters=False", CHAIN, 1, exact.frozen),
    Row("network.early", "network: inputs=False", CHAIN, 1, exact.stops_early,
        blocks=False),
    Row("adam.m", "Adam: m", ADAM, 1, partial(exact.adam_part, part="m"), blocks=False),
    Row("adam.v", "Adam: v", ADAM, 1, partial(exact.adam_part, part="v"), blocks=False),
    Row("adam.first", "Adam: the first step", ADAM, 2,
        partial(exact.adam_part, part="first")),
    Row("adam.second", "Adam: the second step", ADAM, 2,
        partial(exact.adam_part, part="second")),
    Row("adam.step", "Adam: ten steps", ADAM, 2,
        hint="it differs from Algorithm 1 after the second step"),
    *(
        Row(f"{labels}phase{i}.{what}", f"phase {i}{', labels' if labels else ''}: {title}", code,
            points, partial(exact.phase_blocks, number=i, classes=3 if labels else 0, what=what))
        for i, code in enumerate((ONE, TWO, THREE), start=1)
        for labels in ("", "labels.")
        for what, title, points in
        (("value", "L", 1), ("gradient", "dL/dθ", 2), ("isolation", "moves nothing else", 1))
        if not labels or (i > 1 and what != "isolation")
    ),
]  # fmt: skip


def needs(row: Row) -> set[str]:
    """The bodies to be written that a row runs, found by running it on the package's code."""
    called = set()
    sys.setprofile(lambda frame, *_: called.add(frame.f_code))
    try:
        for check in row.checks:
            audit.examine(check, 1)
    finally:
        sys.setprofile(None)
    return {code for code in CODES if audit.named(code).__code__ in called}


# check


def judge(texts: Mapping[str, str | None], rows: Sequence[Row] = ROWS) -> list[Verdict]:
    """The verdicts of the rows, in the order of the table."""
    needed = {row.id: needs(row) for row in rows}
    allowed = library()
    ours = [name for name in allowed if name.startswith("npaae")]
    verdicts: dict[str, Verdict] = {}
    wrong: set[str] = set()  # bodies that are wrong or missing
    ended: dict[str, str] = {}  # bodies that have ended the process, and how
    with np.errstate(all="ignore"), Sandbox(ours) as sandbox:
        broken = load(sandbox, texts, allowed)
        student = Student(sandbox)
        with standing_in(student):
            # A row that runs little comes first, so what is wrong is known before what needs it.
            for row in sorted(rows, key=lambda row: len(needed[row.id])):
                file = file_of(row.code)
                waits = sorted((needed[row.id] - {row.code}) & wrong, key=CODES.index)
                cause = next((f for f in broken if f == file or file == "model"), "")
                if cause:
                    word, note = "waits", f"for {cause}.py"
                    if cause == file and broken[file]:  # told once
                        word, note, broken[file] = "wrong", broken[file], ""
                elif waits:
                    names = waits if len(waits) < 3 else dict.fromkeys(map(part_of, waits))
                    word, note = "waits", f"for {', '.join(names)}"
                elif row.code in ended:
                    word, note = "wrong", f"not tried again: {ended[row.code]}"
                else:
                    word, note = tried(student, row)
                    if not sandbox.is_open:
                        ended[row.code] = note
                part = part_of(row.code)
                verdicts[row.id] = Verdict(
                    row.id, part, row.title, row.code, row.points, word, note
                )
                if word == "missing" or (word == "wrong" and row.blocks):
                    wrong.add(row.code)
    return [verdicts[row.id] for row in rows]


def load(sandbox: Sandbox, texts: Mapping[str, str | None], allowed: list[str]) -> dict[str, str]:
    """Import the files; returns why for those that cannot be."""
    broken = {}
    for file, text in texts.items():
        if text is None:
            broken[file] = f"{file}.py is missing"
        elif file != "model" or not broken:  # model.py imports all that precede it
            try:
                sandbox.load(file, text, allowed)
            except Fault as fault:
                broken[file] = f"{file}.py cannot be imported: {of_fault(fault)}"
    return broken


def file_of(code: str) -> str:
    return code.partition(".")[0].lower()


def part_of(code: str) -> str:
    parts = {part.partition(":")[0]: codes for part, codes in PARTS.items()}
    return next((part for part, codes in parts.items() if code in codes), "part 1")


def tried(student: Student, row: Row) -> tuple[str, str]:
    """A word and a note for a row that can be run."""
    try:
        student.clear()
        for check in row.checks:
            finding = audit.examine(check._replace(check=partial(heard, check)), CASES)
            student.require(row.id)
            if not finding.holds:
                if row.exact is not None:  # which knows more
                    row.exact(np.random.default_rng(0))
                return "wrong", row.hint or meaning(check, finding)
    except Heard as carrier:
        error = carrier.error
        if isinstance(error, Fault):
            return of_a_body(row, error)
        try:
            student.require(row.id)
        except Wrong as better:
            error = better
        return "wrong", str(error)
    except Wrong as wrong:
        return "wrong", str(wrong)
    except Fault as fault:
        return of_a_body(row, fault)
    return "right", ""


def of_a_body(row: Row, fault: Fault) -> tuple[str, str]:
    """A word and a note for what a student's code has raised."""
    if fault.error == "ZeroDivisionError" and row.code == ADAM:
        return "wrong", f"1 − βᵗ is 0: is t 1 in the first step? {fault}"
    return of_body(fault, row.code, CODES)


class Heard(BaseException):
    """Carries an error of a student's code through the audit, which would otherwise handle it."""

    def __init__(self, error: Exception) -> None:
        self.error = error


def heard(check: audit.Row, rng: Rng) -> float:
    try:
        return check.check(rng)
    except gradcheck.Kink:
        raise
    except Exception as error:
        raise Heard(error) from error


def meaning(row: audit.Row, finding: audit.Finding) -> str:
    """A note on an error that nothing else explains."""
    if finding.fault:
        return finding.fault
    if row.id.endswith(".gradient"):  # and the gradient itself has been compared
        return "the gradient is right, but L does not match it"
    if row.how == audit.EQUAL:
        return f"{finding.worst:.0f} numbers differ"
    return f"error {finding.worst:.1e}"
