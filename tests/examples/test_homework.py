"""The homework: its judge gives every formula its due, whatever a student's code does."""

import inspect
import json
import re
import signal

import numpy as np
import pytest

import npaae

from ..running import assert_refused, run, run_here

import homework  # isort: skip  # an example

# The package's own bodies solve all but the designs. These lines solve those.
DESIGNS = {
    "designs.Skip.forward": "y, caches = super().forward(x, rng); return x + y, caches",
    "designs.Skip.backward": "return dy + super().backward(dy, caches)",
    "designs.softmax_cross_entropy": (
        "x = logits - logits.max(axis=1, keepdims=True); "
        "x = x - np.log(np.exp(x).sum(axis=1, keepdims=True)); "
        "right = np.eye(x.shape[1])[labels]; "
        "return -(right * x).sum() / len(x), (np.exp(x) - right) / len(x)"
    ),
    "designs.LayerNorm.forward": (
        "scale = 1 / np.sqrt(x.var(axis=1, keepdims=True) + self.epsilon); "
        "normal = (x - x.mean(axis=1, keepdims=True)) * scale; "
        "return self.gamma * normal + self.beta, (normal, scale)"
    ),
    "designs.LayerNorm.backward": (
        "(normal, scale), d = cache, self.gamma * dy; "
        "along = (d * normal).mean(axis=1, keepdims=True) * normal; "
        "return scale * (d - d.mean(axis=1, keepdims=True) - along)"
    ),
    "designs.LayerNorm.parameter_gradients": (
        "self.dgamma[:] = (dy * cache[0]).sum(axis=0); self.dbeta[:] = dy.sum(axis=0)"
    ),
}

# For each body, a change to the right one that makes it wrong.
MISTAKES = {
    "layers.Dense.forward": "y += self.b => y -= self.b",
    "layers.Dense.backward": "dy @ => -dy @",
    "layers.Dense.parameter_gradients": "xp.sum => xp.mean",
    "layers.ReLU.forward": "maximum(x, 0) => abs(x)",
    "layers.ReLU.backward": "cache > 0 => cache > -1e9",
    "layers.sigmoid": "-xp.abs(x) => xp.abs(x)",
    "layers.Sigmoid.backward": "(1 - y) => (1 + y)",
    "layers.Dropout.forward": "2**16 / (2**16 - self.threshold) => 1",
    "layers.Dropout.backward": "else dy * mask => else dy",
    "losses.bce": "xp.log1p(-p) => xp.log(p)",
    "losses.bce_with_logits": "losses.mean() => losses.sum()",
    "layers.Sequential.backward": "reversed(range(len(self.layers))) => range(len(self.layers))",
    "optim.Adam.step": "1 - self.beta1**self.t => 1",
    "Model.reconstruction_gradient": "dlogits, decoder_caches => 2 * dlogits, decoder_caches",
    "Model.discriminator_gradient": "logits[n:], 0.0 => logits[n:], 1.0",
    "Model.generator_gradient": ", parameters=False => ",
    "designs.Skip.forward": "x + y => x - y",
    "designs.Skip.backward": "dy + => ",
    "designs.softmax_cross_entropy": "(np.exp(x) - right) / => (np.exp(x) - right) *",
    "designs.LayerNorm.forward": "var( => std(",
    "designs.LayerNorm.backward": "(axis=1, keepdims=True) - along) => () - along)",
    "designs.LayerNorm.parameter_gradients": "dbeta[:] = => dbeta[:] +=",
}


def write(folder, bodies=None, mistake=None):
    """A student's folder: all is right but for other bodies (None: left out) and one mistake."""
    folder.mkdir()
    bodies = bodies or {}
    for file in homework.FILES:
        is_design = file == "designs"
        text = homework.DESIGNS if is_design else homework.source(file, blanks=bodies)
        for code, body in (DESIGNS | bodies if is_design else bodies).items():
            if body is not None:
                text = text.replace(f'raise NotImplementedError("{code}")', body)
        for node, code in homework.functions(file, text):
            if code == mistake:
                right, wrong = MISTAKES[code].split(" => ")
                function = "\n".join(text.splitlines()[node.lineno - 1 : node.end_lineno])
                assert function.count(right) == 1
                text = text.replace(function, function.replace(right, wrong))
        (folder / f"{file}.py").write_text(text, encoding="utf-8")
    return folder


def notes(verdicts, code):
    return [(each["verdict"], each["note"]) for each in verdicts if each["code"] == code]


# What start writes


def test_start_writes_the_files_with_every_body_taken_out(tmp_path):
    process = run_here("start", tmp_path / "new" / "mine", example="homework.py")
    assert (process.returncode, process.stderr) == (0, "")
    assert "homework.py check" in process.stdout
    text = "".join(path.read_text("utf-8") for path in (tmp_path / "new" / "mine").iterdir())
    assert {code for code in homework.CODES if "." in code} == set(MISTAKES)
    for code in MISTAKES:
        assert text.count(f'raise NotImplementedError("{code}")') == 1


ANSWERS = [
    "⇒",
    "dx = dy",
    "dx = m",
    "dW =",
    "db_j",
    "(p − t)",
    "(σ(l) − t)",
    "m ←",
    "β₁ᵗ",
    "ln(1 +",
]


@pytest.mark.parametrize("answer", [*ANSWERS, "matmul", "log1p"])
def test_the_answers_are_gone_from_code_docstrings_and_table(tmp_path, answer):
    modules = (npaae.layers, npaae.losses, npaae.optim, npaae.model)
    assert any(answer in inspect.getsource(module) for module in modules)
    homework.start(tmp_path / "mine")
    text = "".join(path.read_text("utf-8") for path in (tmp_path / "mine").iterdir())
    verdicts = [homework.verdict(row, {"right": True}, []) for row in homework.ROWS]
    assert answer not in text + "".join(each["formula"] for each in verdicts)


def test_what_start_leaves_is_a_module_whose_unwritten_bodies_name_themselves(tmp_path):
    homework.start(tmp_path / "mine")
    names = {"__name__": "optim"}
    exec((tmp_path / "mine" / "optim.py").read_text("utf-8"), names)
    adam = names["Adam"](np, np.zeros(3), np.zeros(3), 1e-3)
    with pytest.raises(NotImplementedError, match=r"optim\.Adam\.step"):
        adam.step()


def test_start_refuses_a_folder_that_exists(tmp_path):
    assert_refused(run_here("start", tmp_path, example="homework.py"), 2, tmp_path)
    assert list(tmp_path.iterdir()) == []


# What check finds


def test_all_is_right_in_the_packages_own_code_and_the_status_is_0(tmp_path):
    process = run("check", write(tmp_path / "right"), "--json", example="homework.py")
    assert (process.returncode, process.stderr) == (0, "")
    report = json.loads(process.stdout)
    assert {each["verdict"] for each in report["formulas"]} == {"right"}
    assert report["points"] == report["of"] == len(report["formulas"]) == len(homework.ROWS)


def test_all_is_missing_or_waits_in_a_new_folder_and_the_status_is_1(tmp_path):
    homework.start(tmp_path / "new")
    process = run("check", tmp_path / "new", example="homework.py")
    assert (process.returncode, process.stderr) == (1, "")
    lines = process.stdout.splitlines()
    rows = [line for line in lines if re.search(r"  (missing$|waits for )", line)]
    assert len(rows) == len(homework.ROWS)
    assert all(f"{part} (0 of " in process.stdout for part in homework.PARTS)
    assert any(line.endswith("waits for part 1") for line in lines)
    assert lines[-1] == f"0 of {len(homework.ROWS)} points"


@pytest.mark.parametrize("arguments", [[], ["check", "nowhere"], ["mark", "mine"]])
def test_a_wrong_argument_has_status_2(arguments):
    assert_refused(run_here(*arguments, example="homework.py"), 2)


@pytest.fixture(scope="module")
def needs():
    return [homework.needs(row) for row in homework.ROWS]


def each_body(quick):
    slow = pytest.mark.slow
    return pytest.mark.parametrize(
        "code", [pytest.param(code, marks=[] if code == quick else slow) for code in MISTAKES]
    )


@each_body(quick="layers.ReLU.backward")
def test_a_body_left_out_is_missing_and_what_needs_it_waits(tmp_path, needs, code):
    verdicts = homework.check(write(tmp_path / "mine", {code: None}))
    for row, needed, each in zip(homework.ROWS, needs, verdicts, strict=True):
        expected = "waits" if code in needed else "right"
        assert each["verdict"] == ("missing" if row.code == code else expected), each


@each_body(quick="layers.Dropout.backward")
def test_a_wrong_body_is_wrong_and_what_needs_it_waits(tmp_path, needs, code):
    verdicts = homework.check(write(tmp_path / "mine", mistake=code))
    assert "wrong" in [verdict for verdict, _ in notes(verdicts, code)]
    for row, needed, each in zip(homework.ROWS, needs, verdicts, strict=True):
        expected = ["waits"] if code in needed else ["right"]
        assert each["verdict"] in (["right", "wrong"] if row.code == code else expected), each


def test_what_waits_is_known_by_running_the_packages_code(needs):
    found = {row.formula: needed for row, needed in zip(homework.ROWS, needs, strict=True)}
    dense = ["forward", "backward", "parameter_gradients"]
    for formula, methods in {"y = x W + b": "a", "dx = dy Wᵀ": "ab", "dW = xᵀ dy": "ac"}.items():
        expected = {f"layers.Dense.{dense['abc'.index(method)]}" for method in methods}
        assert found[f"dense: {formula}"] == expected
    others = {code for code in MISTAKES if not code.startswith(("designs", "Model", "optim"))}
    others -= {"layers.sigmoid", "layers.Sigmoid.backward", "losses.bce"}
    third = found["phase 3: dL by encoder, through D"]
    assert third == others | {"Model.generator_gradient"}


# What a student's code may do to its judge

DAMAGE = {
    "designs.Skip.backward": "while True: pass",
    "designs.softmax_cross_entropy": "return {}['loss']",
    "designs.LayerNorm.forward": "print('x' * 10**4); " + DESIGNS["designs.LayerNorm.forward"],
    "designs.LayerNorm.backward": "raise SystemExit(0)",
    "designs.LayerNorm.parameter_gradients": "self.dgamma[:] = np.nan; self.dbeta[:] = 0",
    "losses.bce": "import os; os._exit(0)",
    "optim.Adam.step": "self.memory = self.xp.ones(2**50)",
}


@pytest.fixture(scope="module")
def damaged(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(homework, "LIMIT", 3.0)
        return homework.check(write(tmp_path_factory.mktemp("damaged") / "mine", DAMAGE))


@pytest.mark.parametrize(
    ("code", "note"),
    [
        ("designs.Skip.backward", r"no answer after 3 seconds: .* endless loop\?"),
        ("designs.softmax_cross_entropy", r"KeyError: 'loss' \(designs.py, line \d+\)"),
        ("designs.LayerNorm.backward", r"SystemExit: 0 \(designs.py, line \d+\)"),
        ("designs.LayerNorm.parameter_gradients", "error inf: NaN or infinite.*"),
        ("losses.bce", "your code ended its process"),
        ("optim.Adam.step", r".*MemoryError: .* \(optim.py, line \d+\)"),
    ],
)
def test_whatever_goes_wrong_is_a_row(damaged, code, note):
    verdict, found = notes(damaged, code)[0]
    assert verdict == "wrong"
    assert re.fullmatch(note, found)


def test_a_flood_of_output_does_no_harm(damaged):
    assert notes(damaged, "designs.LayerNorm.forward") == [("right", "")]


def test_a_body_that_has_ended_its_process_is_not_run_again(damaged):
    (_, first), (verdict, second) = notes(damaged, "designs.Skip.backward")
    assert (verdict, second) == ("wrong", f"not run again: {first}")


def test_after_all_that_the_other_formulas_are_right_or_wait(damaged):
    others = [each for each in damaged if each["code"] not in DAMAGE]
    assert {each["verdict"] for each in others} == {"right", "waits"}
    right = {each["code"] for each in others if each["verdict"] == "right"}
    assert right == set(homework.CODES) - set(DAMAGE)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGALRM"), reason="this system has no alarm")
def test_an_endless_loop_ends_even_if_nobody_kills_it(tmp_path):
    folder = write(tmp_path / "mine", {"layers.ReLU.forward": "while True: pass"})
    worker = homework.Worker(folder)
    try:
        row = next(i for i, row in enumerate(homework.ROWS) if row.code == "layers.ReLU.forward")
        worker.pipe.send((["layers"], row))
        worker.process.join(60)
        assert worker.process.exitcode == -signal.SIGALRM
    finally:
        worker.stop()


@pytest.mark.parametrize(
    ("file", "text", "note"),
    [
        ("losses", "def bce(:", r"SyntaxError: .* \(losses.py, line 1\)"),
        ("layers", "import sys; sys.exit(3)", r"SystemExit: 3 \(layers.py, line 1\)"),
    ],
)
def test_a_file_that_cannot_be_imported_costs_its_own_formulas(tmp_path, file, text, note):
    (write(tmp_path / "mine") / f"{file}.py").write_text(text, encoding="utf-8")
    for each in homework.check(tmp_path / "mine"):
        if each["code"].startswith(file):
            assert each["verdict"] == "wrong"
            assert re.fullmatch(note, each["note"])
        elif each["code"].startswith("Model"):
            assert (each["verdict"], each["note"]) == ("waits", f"for {file}.py")
        elif each["code"].startswith(("designs", "optim")):
            assert each["verdict"] == "right"
