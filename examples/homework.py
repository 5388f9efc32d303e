"""Homework that grades itself: write the mathematics of npaae yourself, formula by formula.

    python examples/homework.py start my_homework    # writes the folder, without the bodies
    python examples/homework.py check my_homework    # judges it: right, wrong, missing or waits

Part 1 is the layers, part 2 losses and the chain rule, part 3 Adam, part 4 the three phases. Each
body to be written is a `raise NotImplementedError`. The three designs in designs.py start from
scratch.

The checks are those of examples/audit.py, with fewer random cases. A formula that needs another one
waits until that one is right. Your code runs in its own process, with a time limit, so an endless
loop or a crash affects only its row. What it prints is not shown: to look inside, import your files
in a Python session. `check --json` is for graders. The process protects them against accidents, not
against malice.

The exit status is 0 if every formula is right, 1 if not, and 2 for a wrong argument.
"""

import ast
import importlib
import inspect
import json
import multiprocessing
import os
import re
import signal
import sys
import traceback
from contextlib import suppress
from math import isfinite
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import audit
import numpy as np
from audit import AGAIN, ALONG, EQUAL, EVERY, Row

from npaae import InvalidInput, gradcheck, layers
from npaae.experiment import Parser, launch

CASES = 5  # of each formula; the audit has 200
LIMIT = 10.0  # seconds for a formula, which takes 0.1
START = 60.0  # seconds until the process for the student's code is ready
MEMORY = 4 * 2**30  # bytes

# What to write, part by part, and its docstring; "" keeps the one of the package, less what CUTS
# takes out. A name without a dot is a whole module, which is judged and has nothing to write.
PARTS = {
    "part 1: layers": {
        "layers.Dense.forward": "y = x W + b, and a cache: whatever your backward pass needs.",
        "layers.Dense.backward": "dL/dx, (n, fan_in), from dy = dL/dy, (n, fan_out).",
        "layers.Dense.parameter_gradients": "Write dL/dW and dL/db over what `dW` and `db` hold.",
        "layers.ReLU.forward": "y = max(x, 0), and a cache.",
        "layers.ReLU.backward": "dL/dx, of x's shape.",
        "layers.sigmoid": "σ(x) = 1 / (1 + e⁻ˣ), elementwise. No exponential overflows, for any x.",
        "layers.Sigmoid.backward": "dL/dx, of x's shape.",
        "layers.Dropout.forward": """y = m · x, with m drawn from `rng`; without `rng`, y = x.

        Returns y and a cache. rng.random(x.shape) is uniform in [0, 1).
        """,
        "layers.Dropout.backward": "dL/dx, of x's shape, whether dropout was on or off.",
        "layers": "",
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
        "optim.Adam.step": """Move `self.parameters` once, in place, by `self.gradient`.

        m is kept in `self.m`, v in `self.v` and t in `self.t`. All three are 0 before the first
        step, whose t is 1.
        """,
    },
    "part 4: the three phases": {
        "Model.reconstruction_gradient": "",
        "Model.discriminator_gradient": """Phase 2: L = BCE(D(z*), 1) + BCE(D(z), 0), each a mean.

        Writes dL/dθ of the discriminator into `gradient` and returns L. codes: z, (n, latent),
        taken as constants. First draw z*, with `draw_prior`. `_with_labels` puts the labels, if
        there are any, beside z* and beside z. Then D sees both as one batch: z* above, z below.
        """,
        "Model.generator_gradient": """Phase 3: L = BCE(D(z), 1), the mean over n.

        Writes dL/dθ of the encoder into `gradient` and returns L. The gradient passes *through* the
        discriminator, of which nothing is written. codes, encoder_caches: what the encoder's
        forward pass returned. D sees the codes with their labels `_with_labels` them.
        """,
    },
    "designs": {
        "designs.Skip.forward": "",
        "designs.Skip.backward": "",
        "designs.softmax_cross_entropy": "",
        "designs.LayerNorm.forward": "",
        "designs.LayerNorm.backward": "",
        "designs.LayerNorm.parameter_gradients": "",
    },
}
CODES = [code for codes in PARTS.values() for code in codes]
FILES = ("layers", "losses", "optim", "model", "designs")

CUTS = {  # patterns of what the docstrings give away
    "layers": [
        r"   ⇒   dx = dy Wᵀ, .*? dy_ij",
        r"; dx = dy where x > 0 and 0 elsewhere",
        r"; dx = dy · y \(1 − y\)",
        r", and dx = m · dy",
    ],
    "losses": [r", +dL/dp = .*? / N"],
    "optim": [r"\n\n        m ← .*? two passes over memory\."],
    "model": [],
}

DESIGNS = '''"""Three designs. They stand on the package's layers, so they do not wait for yours."""

import numpy as np

from npaae.layers import Sequential


class Skip(Sequential):
    """A skip connection around layers: y = x + f(x), where x, f(x) and y are (n, k).

    Skip(layers) is made like Sequential(layers), whose own two passes are those of f:
    super().forward(x, rng) and super().backward(dy, caches).
    """

    def forward(self, x, rng=None):
        """y, and the caches of f."""
        raise NotImplementedError("designs.Skip.forward")

    def backward(self, dy, caches):
        """dL/dx. The layers of f write the gradients of their parameters."""
        raise NotImplementedError("designs.Skip.backward")


def softmax_cross_entropy(logits, labels):
    """(L, dL/dlogits), for logits (n, k) and the class of each row, labels (n,), in 0 … k − 1.

        p_ij = exp(logits_ij) / Σ_m exp(logits_im)        L = the mean of −ln p_ij over all rows i,
                                                              with j = labels_i
    Both are finite and right for logits of any size.
    """
    raise NotImplementedError("designs.softmax_cross_entropy")


class LayerNorm:
    """y = γ · (x − μ) / √(σ² + ε) + β, with mean μ and variance σ² of each row of x on its own.

    x and y are (n, k), γ and β (k,). σ² is the mean of (x − μ)². Every element of x moves μ and σ².
    Source: Ba, Kiros, Hinton, "Layer Normalization", arXiv:1607.06450.
    """

    parameters = ("gamma", "beta")
    epsilon = 1e-5

    def __init__(self, k):
        self.gamma, self.beta = np.ones(k), np.zeros(k)
        self.dgamma, self.dbeta = np.empty(k), np.empty(k)

    def forward(self, x, rng=None):
        """y, and a cache."""
        raise NotImplementedError("designs.LayerNorm.forward")

    def backward(self, dy, cache):
        """dL/dx, (n, k)."""
        raise NotImplementedError("designs.LayerNorm.backward")

    def parameter_gradients(self, dy, cache):
        """Write dL/dγ over what `dgamma` holds and dL/dβ over what `dbeta` holds."""
        raise NotImplementedError("designs.LayerNorm.parameter_gradients")
'''


# The judge: the audit's rows, and rows for the designs

designs: Any = None  # the student's module, once it is imported


def a_skip(rng: audit.Rng) -> tuple[Any, Any, audit.Array, int]:
    """A skip connection, the network that it bypasses, an input, and a seed for dropout."""
    k = int(rng.integers(1, 5))
    network = layers.perceptron(np, (k, 3, k), rng.uniform(0, 0.5), float)
    network.initialise(rng)
    x = audit.read_only(rng.standard_normal((3, k)))
    return designs.Skip(network.layers), network, x, audit.a_seed(rng)


def skip_value(rng: audit.Rng) -> float:
    skip, network, x, seed = a_skip(rng)
    expected = x + network.forward(x, np.random.default_rng(seed))[0]
    return gradcheck.relative_error(skip.forward(x, np.random.default_rng(seed))[0], expected)


def skip_input(rng: audit.Rng) -> float:
    skip, _, x, seed = a_skip(rng)
    return gradcheck.layer(skip, x, seed=seed)


def skip_parameters(rng: audit.Rng) -> float:
    skip, _, x, seed = a_skip(rng)
    return max(gradcheck.parameters(skip, x, seed=seed).values())


def softmax_value(rng: audit.Rng) -> float:
    logits, labels = audit.a_score(rng)
    shares = audit.shares(logits)[np.arange(len(labels)), labels]
    loss, _ = designs.softmax_cross_entropy(logits, labels)
    return gradcheck.relative_error(loss, -np.mean(np.log(shares)))


def softmax_gradient(rng: audit.Rng) -> float:
    logits, labels = audit.a_score(rng)
    _, gradient = designs.softmax_cross_entropy(logits, labels)
    return gradcheck.elementwise(
        lambda x: designs.softmax_cross_entropy(x, labels)[0], logits, gradient
    )


def softmax_extremes(rng: audit.Rng) -> float:
    """One row right and one wrong: L = (0 + 2e4) / 2."""
    logits = audit.read_only(np.array([[1e4, -1e4], [1e4, -1e4]]))
    with np.errstate(all="raise", under="ignore"):
        loss, gradient = designs.softmax_cross_entropy(logits, np.array([0, 1]))
    return float(max(abs(loss / 1e4 - 1), np.abs(gradient - [[0, 0], [0.5, -0.5]]).max()))


def a_layer_norm(rng: audit.Rng) -> tuple[Any, audit.Array]:
    k = int(rng.integers(3, 7))
    layer = designs.LayerNorm(k)
    layer.gamma[:], layer.beta[:] = rng.standard_normal((2, k))
    return layer, audit.a_matrix(rng, (int(rng.integers(1, 5)), k))


def layer_norm_value(rng: audit.Rng) -> float:
    layer, x = a_layer_norm(rng)
    rows = [(row - np.mean(row)) / np.sqrt(np.var(row) + 1e-5) for row in x]
    expected = [layer.gamma * row + layer.beta for row in rows]
    return gradcheck.relative_error(layer.forward(x)[0], expected)


def layer_norm_input(rng: audit.Rng) -> float:
    return gradcheck.layer(*a_layer_norm(rng))


def layer_norm_parameters(rng: audit.Rng) -> float:
    return max(gradcheck.parameters(*a_layer_norm(rng)).values())


SOFTMAX, GAMMA = "designs.softmax_cross_entropy", "designs.LayerNorm.parameter_gradients"
# The audit's rows with categories run a class of the package, not what the student has written.
ROWS = [row for row in audit.ROWS if row.code in CODES and not row.id.startswith("categories.")] + [
    Row("skip.y", "skip: y = x + f(x)", "designs.Skip.forward", AGAIN, 1e-12, skip_value),
    Row("skip.dx", "skip: dx", "designs.Skip.backward", EVERY, 1e-7, skip_input),
    Row("skip.parameters", "skip: dW and db of f", "designs.Skip.backward",
        EVERY, 1e-7, skip_parameters),
    Row("softmax.value", "softmax: L", SOFTMAX, AGAIN, 1e-12, softmax_value),
    Row("softmax.gradient", "softmax: dlogits", SOFTMAX, EVERY, 1e-7, softmax_gradient),
    Row("softmax.extremes", "softmax: finite and right at ±1e4", SOFTMAX,
        "values", 1e-12, softmax_extremes),
    Row("layer_norm.y", "LayerNorm: y", "designs.LayerNorm.forward",
        AGAIN, 1e-12, layer_norm_value),
    Row("layer_norm.dx", "LayerNorm: dx", "designs.LayerNorm.backward",
        EVERY, 1e-7, layer_norm_input),
    Row("layer_norm.parameters", "LayerNorm: dγ and dβ", GAMMA, EVERY, 1e-7, layer_norm_parameters),
]  # fmt: skip


def needs(row: Row) -> set[str]:
    """The bodies to be written that a row runs, found by running it on the package's code."""
    if row.code.startswith("designs."):
        return {row.code, row.code.rpartition(".")[0] + ".forward"} & set(CODES)
    called = set()
    sys.setprofile(lambda frame, *_: called.add(frame.f_code))
    try:
        audit.examine(row, cases=1)
    finally:
        sys.setprofile(None)
    written = [code for code in CODES if "." in code and not code.startswith("designs.")]
    return {code for code in written if audit.named(code).__code__ in called}


# start


def source(file: str, blanks: Any = CODES) -> str:
    """A module of the package as a file of its own, without the bodies named by `blanks`.

    A private function that is no longer called is removed too, because it holds the answer.
    """
    text = inspect.getsource(importlib.import_module(f"npaae.{file}"))
    for pattern in CUTS[file]:
        text, count = re.subn(pattern, "", text, flags=re.DOTALL)
        assert count == 1, pattern
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


def start(folder: Path) -> None:
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        raise InvalidInput(f"the folder must not exist yet, got {folder}") from None
    for file in FILES:
        text = DESIGNS if file == "designs" else source(file)
        (folder / f"{file}.py").write_text(text, encoding="utf-8")
    print(f"{folder} is ready: start with Dense in {folder / 'layers.py'}, and check as you go by")
    print(f"    python {sys.argv[0]} check {folder}")


# check: the process for the student's code


def work(pipe: Connection, folder: Path) -> None:
    """Import the files, then judge each requested row until this process is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends the program, which kills this
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    with suppress(ImportError, ValueError, OSError):  # no such limit on this system
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    sys.path.insert(0, str(folder))
    sys.dont_write_bytecode = True  # two edits within a second may leave an old file valid
    pipe.send_bytes(b"{}")
    while True:
        answer: dict[str, Any] = {}
        files, row = pipe.recv()
        if hasattr(signal, "alarm"):  # if the program is killed, nobody else ends an endless loop
            signal.alarm(2 * int(LIMIT))
        try:
            for file in files:
                load(file)
        except BaseException as error:
            answer = fault(error, folder)
        else:
            if row is not None:
                answer = judge(ROWS[row], folder)
        if hasattr(signal, "alarm"):
            signal.alarm(0)
        pipe.send_bytes(json.dumps(answer).encode())


def load(file: str) -> None:
    """Put the student's module where the rows look it up."""
    module = importlib.import_module(file)
    if file == "designs":
        globals()["designs"] = module
    elif file == "model":
        vars(audit)["Model"] = module.AdversarialAutoencoder
    else:
        vars(audit)[file] = module


def judge(row: Row, folder: Path) -> dict[str, Any]:
    faults = []

    def check(rng: audit.Rng) -> float:
        try:
            return row.check(rng)
        except gradcheck.Kink:
            raise
        except BaseException as error:  # sys.exit and the like too
            faults.append(fault(error, folder))
            raise RuntimeError from error

    finding = audit.examine(row._replace(check=check), CASES)
    answer = {"error": float(finding.worst), "right": finding.holds, "fault": finding.fault}
    return answer | (faults[-1] if faults else {})


def fault(error: BaseException, folder: Path) -> dict[str, Any]:
    """What was raised, in which of the student's files; or which body is not written yet."""
    frames = traceback.extract_tb(error.__traceback__)
    places = [(frame.filename, frame.lineno) for frame in frames]
    if isinstance(error, SyntaxError):
        places.append((error.filename or "", error.lineno))
    own = [(Path(name), line) for name, line in places if Path(name).parent == folder]
    answer = {"fault": f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"}
    if own:
        path, line = own[-1]
        answer = {"fault": f"{answer['fault']} ({path.name}, line {line})", "file": path.stem}
    if isinstance(error, NotImplementedError) and str(error) in CODES:
        answer["missing"] = str(error)
    return answer


class Worker:
    """The process that runs `work`: started when needed, killed when it does not answer."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.start()

    def start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, other = context.Pipe()
        self.process = context.Process(target=work, args=(other, self.folder), daemon=True)
        self.process.start()
        other.close()
        self.is_ready = False

    def stop(self) -> None:
        self.process.kill()
        self.process.join()
        self.pipe.close()

    def ask(self, files: list[str], row: int | None = None) -> Any:
        """The answer, in JSON, because unpickling what a student's process sends would run it."""
        try:
            if not self.is_ready:
                self.is_ready = self.pipe.poll(START)
                self.pipe.recv_bytes()
            self.pipe.send((files, row))
            if self.pipe.poll(LIMIT):
                return json.loads(self.pipe.recv_bytes())
            ending = f"no answer after {LIMIT:g} seconds: is there an endless loop?"
        except (EOFError, ConnectionError):
            ending = "your code ended its process"
        self.stop()
        self.start()
        return {"fault": ending, "again": {"fault": f"not run again: {ending}"}}


# check: the table


def file_of(code: str) -> str:
    return code.partition(".")[0].lower()


def check(folder: Path) -> list[dict[str, Any]]:
    """The verdicts of all rows, in the order of the table."""
    if not any((folder / f"{file}.py").is_file() for file in FILES):
        raise InvalidInput(f"the folder must be one that start has written, got {folder}")
    worker = Worker(folder.resolve())
    try:
        return judged(worker)
    finally:
        worker.stop()


def judged(worker: Worker) -> list[dict[str, Any]]:
    needed = [needs(row) for row in ROWS]
    broken: dict[str, dict[str, Any]] = {}  # files that cannot be imported
    for file in FILES:
        first = next(iter(broken), None)  # model.py imports all that precede it
        answer = {"file": first} if file == "model" and first else worker.ask([file])
        if answer:
            broken[file] = answer
    sound = [file for file in FILES if file not in broken]
    wrong: set[str] = set()  # what is wrong or missing
    ended: dict[str, dict[str, Any]] = {}  # bodies that have ended the process
    verdicts: dict[int, dict[str, Any]] = {}
    # A row that runs little comes first, so what is wrong is known before what needs it.
    for i in sorted(range(len(ROWS)), key=lambda i: len(needed[i])):
        code, file, answer = ROWS[i].code, file_of(ROWS[i].code), {}
        waits = sorted((needed[i] - {code}) & wrong, key=CODES.index)
        if file in broken:
            answer = broken[file]
            cause = answer.get("file", file)
            waits = [] if cause == file else [f"{cause}.py"]
        elif not waits:
            answer = ended.get(code) or worker.ask(sound, i)
            if "again" in answer:
                ended[code] = answer["again"]
            waits = [answer["missing"]] if answer.get("missing", code) != code else []
        verdicts[i] = verdict(ROWS[i], answer, waits)
        if verdicts[i]["verdict"] in ("wrong", "missing"):
            wrong.add(code)
    return [verdicts[i] for i in range(len(ROWS))]


def verdict(row: Row, answer: dict[str, Any], waits: list[str]) -> dict[str, Any]:
    """One formula's part of the report."""
    word, note, error = "wrong", answer.get("fault", ""), answer.get("error")
    if waits:
        parts = dict.fromkeys(part_of(code) for code in waits)
        word, note = "waits", f"for {', '.join(waits if len(waits) < 3 else parts)}"
    elif "missing" in answer:
        word, note = "missing", ""
    elif answer.get("right"):
        word = "right"
    elif not note:
        note = meaning(row, answer["error"])
    return {
        "part": part_of(row.code),
        "formula": re.sub(r": (d\w+|θ) [=←] .*", r": \1", row.formula),  # without the answer
        "code": row.code,
        "verdict": word,
        "error": error if error is not None and isfinite(error) else None,
        "note": note,
    }


def part_of(code: str) -> str:
    return next((part for part, codes in PARTS.items() if code in codes), code).partition(":")[0]


def meaning(row: Row, error: float) -> str:
    """What an error says about the code."""
    if row.how == EQUAL:
        return f"{error:.0f} numbers differ"
    text = f"error {error:.1e}"
    if row.how not in (EVERY, ALONG):
        return text
    if not isfinite(error):
        return f"{text}: NaN or infinite, or not written into its array"
    if abs(error - 1 / 3) < 1e-3:
        return f"{text}: somewhere wrong by a factor of two"
    if error > 0.999:
        return f"{text}: somewhere 0 and should not be, or the reverse, or of a wrong sign"
    return text


def print_table(verdicts: list[dict[str, Any]]) -> None:
    formulas, codes = (max(len(each[key]) for each in verdicts) for key in ("formula", "code"))
    for part in PARTS:
        own = [each for each in verdicts if each["part"] == part.partition(":")[0]]
        print(f"{part} ({sum(each['verdict'] == 'right' for each in own)} of {len(own)} points)")
        for each in own:
            code, found = each["code"].replace("Model.", "model."), each["verdict"]
            line = f"  {each['formula']:{formulas}}  {code:{codes}}  {found} {each['note']}"
            print(line.rstrip())
        print()


def main() -> None:
    parser = Parser(description=(__doc__ or "").splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in {"start": "write the folder", "check": "judge what is in it"}.items():
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument("folder", type="folder", metavar="DIR")
    command.add_argument("--json", action="store_true", help="print the verdicts for a grader")
    flags = parser.parse_args()
    if flags.command == "start":
        start(flags.folder)
        return
    verdicts = check(flags.folder)
    points = sum(each["verdict"] == "right" for each in verdicts)
    if flags.json:
        report = {"points": points, "of": len(verdicts), "formulas": verdicts}
        print(json.dumps(report, ensure_ascii=False, indent=1))
    else:
        print_table(verdicts)
        print(f"{points} of {len(verdicts)} points")
    sys.exit(points < len(verdicts))


if __name__ == "__main__":
    launch(main)
