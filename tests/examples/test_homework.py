"""The homework: a sheet for each student, and verdicts that no student's code can touch."""

import ast
import builtins
import csv
import hashlib
import inspect
import io
import json
import os
import re
import shutil
import sys
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

import npaae

from ..running import assert_refused, linux, posix, run, run_here
from . import solver

import homework  # isort: skip
from judge import graded, meter, practice, protocol, rules, sandbox, sheets, verdicts  # isort: skip

STUDENTS = [f"student{i}" for i in range(200)]
BY = {"activation": "x", "loss": "y", "layer": "x"}
ADA = "ada"


def designs(student=ADA):
    return {design.name: design for design in sheets.sheet(student)}


@pytest.fixture(scope="module")
def solved():
    return solver.solve(sheets.text(ADA))


def mostly_slow(names, cases, *quick):
    """Parameters of which all but a few are for the slow tests: each takes a process of its own."""
    marks = [[] if i in quick else pytest.mark.slow for i in range(len(cases))]
    ids = [None if isinstance(case, tuple) else str(case)[:40] for case in cases]
    together = [case if isinstance(case, tuple) else (case,) for case in cases]
    every = zip(together, marks, ids, strict=True)
    return pytest.mark.parametrize(names, [pytest.param(*c, marks=m, id=i) for c, m, i in every])


def judge(name, text, student=ADA):
    return graded.judge(designs(student)[name], text, seed=1)


def points(found):
    return verdicts.total(found)


def notes(found):
    return " | ".join(verdict.note for verdict in found if verdict.verdict != "waits")


# Sheets


def test_an_id_has_the_same_sheet_on_any_machine():
    formulas = [line for design in sheets.sheet("ada") for line in design.formula.lines]
    digest = hashlib.sha256("\n".join(formulas).encode()).hexdigest()
    assert digest == "4a5179425854caaaba0e05e49479f2b2a8b1ccb5ead8d784a49a00803815c461"


def test_the_case_of_an_id_and_spaces_around_it_do_not_matter():
    assert sheets.text(" ADA ") == sheets.text("ada")


@pytest.mark.parametrize("student", ["", "../x", "a b", "a" * 65, "é", "-x"])
def test_an_id_that_no_file_name_could_hold_is_refused(student):
    with pytest.raises(npaae.InvalidInput, match="ID"):
        sheets.text(student)


@pytest.mark.parametrize("name", sheets.SKELETONS)
def test_no_two_of_200_students_have_the_same_design(name):
    assert len({tuple(designs(student)[name].formula.lines) for student in STUDENTS}) == 200


def rules_of(formula, by):
    """How many rules a derivative needs: products, quotients, functions, branches."""
    moving, count = {by}, 0

    def moves(*nodes):
        parts = [part for node in nodes for part in ast.walk(node)]
        return any(isinstance(part, ast.Name) and part.id in moving for part in parts)

    for name, line in formula.assignments:
        for node in ast.walk(line):
            match node:
                case ast.BinOp(op=ast.Mult()):
                    count += moves(node.left) and moves(node.right)
                case ast.BinOp(op=ast.Div()):
                    count += moves(node.right)
                case ast.BinOp(op=ast.Pow()) | ast.IfExp():
                    count += moves(node)
                case ast.Call(func=ast.Name(id=function)):
                    count += moves(*node.args) and function not in ("mean", "sum", "row_mean")
        if moves(line):
            moving.add(name)
    return count


@pytest.mark.parametrize("name", BY)
def test_all_sheets_need_the_same_number_of_rules(name):
    assert len({rules_of(designs(student)[name].formula, BY[name]) for student in STUDENTS}) == 1


@pytest.mark.parametrize("name", sheets.SKELETONS)
def test_all_sheets_have_the_same_number_of_lines(name):
    assert len({len(designs(student)[name].formula.lines) for student in STUDENTS}) == 1


@pytest.mark.parametrize("name", BY)
def test_every_sheet_has_a_kink_that_a_difference_across_it_cannot_miss(name):
    for student in STUDENTS:
        slopes = []
        for side in (-1e-9, 1e-9):
            design = designs(student)[name]
            place = np.full((1, 1), design.constants["kink"] + side)
            given = {"x": place, "gamma": np.ones(1), "beta": np.ones(1), "n": 1, "k": 1}
            given |= {"y": place + design.constants.get("add", 0), "t": np.zeros((1, 1))}
            of = "L" if name == "loss" else "y"
            slopes.append(design.formula.derivative(of, BY[name], given)[0, 0])
        assert abs(slopes[0] - slopes[1]) > 0.05, student


def executed(text):
    names = {}
    exec(text, names)
    return names


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of the branch that is not taken
@mostly_slow("first", [0, *range(20, 200, 20)], 0)
def test_the_judge_and_an_independent_solver_of_the_text_agree(first, rng):
    """On every value and derivative of twenty sheets, in this process."""
    for student in STUDENTS[first : first + 20]:
        files = {name: executed(text) for name, text in solver.solve(sheets.text(student)).items()}
        x, dy = rng.standard_normal((2, 4, 3))
        given = {"x": x, "y": x, "t": (dy > 0) * 1.0, "n": 4, "k": 3}
        given |= {"gamma": rng.standard_normal(3), "beta": rng.standard_normal(3)}
        own = designs(student)
        for name in ("activation", "layer"):
            formula, made = own[name].formula, files[f"{name}.py"][own[name].code]
            layer = made(3) if name == "layer" else made()
            vars(layer).update({"gamma": given["gamma"], "beta": given["beta"]})
            y, cache = layer.forward(x)
            agree(y, formula.values(given)["y"])
            agree(layer.backward(dy, cache), formula.derivative("y", "x", given, dy))
        layer.parameter_gradients(dy, cache)
        agree(layer.dgamma, formula.derivative("y", "gamma", given, dy))
        agree(layer.dbeta, formula.derivative("y", "beta", given, dy))
        loss, gradient = files["loss.py"]["loss"](given["y"], given["t"])
        agree(loss, own["loss"].formula.values(given)["L"])
        agree(gradient, own["loss"].formula.derivative("L", "y", given))


def agree(a, b):
    np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-13)


@pytest.mark.slow
@pytest.mark.parametrize("first", range(0, 200, 20))
def test_a_sheet_that_is_solved_from_its_text_earns_all_points(first):
    for student in STUDENTS[first : first + 3]:
        files = solver.solve(sheets.text(student))
        found = [v for name in files for v in judge(name.removesuffix(".py"), files[name], student)]
        assert [v for v in found if v.verdict != "right"] == [], student


# The commands


def test_start_writes_a_sheet_and_a_file_for_each_design(tmp_path):
    process = run_here("start", tmp_path / "mine", "--student", "Ada", example="homework.py")
    assert (process.returncode, process.stderr) == (0, "")
    assert "homework.py check" in process.stdout
    assert (tmp_path / "mine" / "sheet.txt").read_text("utf-8") == sheets.text("ada")
    written = {path.name for path in (tmp_path / "mine").iterdir()}
    assert written == {"sheet.txt", *(f"{name}.py" for name in sheets.SKELETONS)}


def test_start_writes_practice_with_every_body_taken_out(tmp_path):
    assert run_here("start", tmp_path / "mine", example="homework.py").returncode == 0
    text = "".join(path.read_text("utf-8") for path in (tmp_path / "mine").iterdir())
    for code in practice.CODES:
        assert text.count(f'raise NotImplementedError("{code}")') == 1


def test_start_refuses_a_folder_that_exists(tmp_path):
    assert_refused(run_here("start", tmp_path, example="homework.py"), 2, tmp_path)
    assert list(tmp_path.iterdir()) == []


ANSWERS = [
    "⇒",
    "dx = dy",
    "dx = m",
    "dW =",
    "db_j",
    "(p − t)",
    "(σ(l) − t)",
    "m / (√v",
    "end of its section",
    "ln(1 +",
]


@pytest.mark.parametrize("answer", [*ANSWERS, "matmul", "log1p"])
def test_the_answers_are_gone_from_code_docstrings_and_table(answer):
    modules = (npaae.layers, npaae.losses, npaae.optim, npaae.model)
    assert any(answer in inspect.getsource(module) for module in modules)
    titles = "".join(row.title for row in practice.ROWS)
    assert answer not in "".join(practice.files().values()) + titles


@pytest.mark.parametrize("arguments", [[], ["check", "nowhere"], ["mark", "mine"], ["grade", "no"]])
def test_a_wrong_argument_has_status_2(arguments):
    assert_refused(run_here(*arguments, example="homework.py"), 2)


def write(folder, student=ADA, **files):
    """A folder that solves a student's sheet, with other files in place of some."""
    folder.mkdir(parents=True)
    (folder / "sheet.txt").write_text(sheets.text(student), "utf-8")
    for name, text in (solver.solve(sheets.text(student)) | files).items():
        (folder / f"{name.removesuffix('.py')}.py").write_text(text, "utf-8")
    return folder


def test_check_of_a_solved_sheet_has_all_points_and_status_0(tmp_path):
    process = run("check", write(tmp_path / "mine"), "--json", example="homework.py")
    assert (process.returncode, process.stderr) == (0, "")
    report = json.loads(process.stdout)
    assert {row["verdict"] for row in report["rows"]} == {"right"}
    assert report["points"] == report["of"] == 100


def test_check_of_a_new_sheet_is_missing_or_waits_and_has_status_1(tmp_path):
    run_here("start", tmp_path / "mine", "--student", "ada", example="homework.py")
    process = run_here("check", tmp_path / "mine", example="homework.py")
    assert (process.returncode, process.stderr) == (1, "")
    assert process.stdout.count("missing\n") == 4
    assert "waits for" in process.stdout
    assert process.stdout.endswith("0 of 100 points\n")


def test_check_refuses_a_sheet_that_has_been_changed(tmp_path):
    folder = write(tmp_path / "mine")
    (folder / "sheet.txt").write_text(sheets.text("ada").replace("u = x", "u = 2 * x"), "utf-8")
    assert_refused(run_here("check", folder, example="homework.py"), 2, "sheet.txt")


def test_the_prose_of_a_sheet_may_change_but_no_formula(tmp_path):
    own = sheets.text("ada")
    for i, (text, is_own) in enumerate([
        (own.replace("Four designs of your own", "4 formulas").replace("\n", "\r\n"), True),
        (re.sub(r"0\.(\d)", r"0.9\1", own, count=1), False),
        (sheets.text("bob").replace("bob", "ada"), False),
    ]):  # fmt: skip
        (tmp_path / str(i)).mkdir()
        (tmp_path / str(i) / "sheet.txt").write_bytes(text.encode())
        assert (homework.handed_in(tmp_path / str(i)).note == "") == is_own


def test_a_file_with_a_byte_order_mark_is_read_without_it(tmp_path):
    folder = write(tmp_path / "mine")
    plain = homework.handed_in(folder)
    for path in folder.iterdir():
        path.write_text(path.read_text("utf-8"), "utf-8-sig")
    assert homework.handed_in(folder) == plain


def test_a_file_of_any_size_is_read_to_where_it_is_too_large(tmp_path):
    (tmp_path / "loss.py").write_text("#" * 2**22, "utf-8")
    assert len(homework.read(tmp_path / "loss.py")) == rules.LARGEST + 1


# Ten mistakes in a sheet, and the sentence of each


def changed(text, old, new):
    assert old in text
    return text.replace(old, new)


MISTAKES = [
    ("activation", "return dy *", "return -dy *", "−1 × the truth: its sign is reversed"),
    ("activation", "return dy *", "return", "lacks dy"),
    ("activation", "u = x", "x[:] = 0; u = x", "arguments must not change.*line 11"),
    ("activation", "u = cache", "u = cache.T.copy()", "shapes"),
    ("loss", "/ l.size", "", "n · k"),
    ("loss", "/ l.size", "/ n", "k, the columns"),
    ("layer", "+ dR *", "+ 0 * dR *", "m is held constant, but x moves it"),
    ("layer", "/ x.shape[1]", "", "taken for a sum"),
    ("layer", "self.dbeta[:] = np.sum", "self.dbeta[:] = np.mean", "= 1 / n, the rows"),
    ("layer", "self.dbeta[:] =", "self.dbeta =", "not written into its array"),
    ("layer", "self.dbeta[:] =", "return", "not written into its array"),
    ("optimiser", "self.theta -=", "self.theta +=", "the sign is reversed"),
    ("optimiser", "self.theta -=", "self.theta = self.theta -", "in place"),
    ("optimiser", "self.t += 1", "self.t += 2", "t is one too large"),
    ("optimiser", "self.t += 1", "", "is t 1 in the first step|t is one too small"),
    ("optimiser", "self.m, self.v = m, v", "pass", "0 everywhere"),
    ("optimiser", "self.gradient, self.m", "self.gradient, 0 * self.m", "not kept|should be"),
]


@mostly_slow(("name", "old", "new", "sentence"), MISTAKES, 2, 4, 6, 9, 12)
def test_a_mistake_earns_no_full_points_and_is_named(solved, name, old, new, sentence):
    text = solved[f"{name}.py"]
    if name == "loss":
        text = re.sub(r"/ (n|l\.size)$", "/ l.size", text, flags=re.MULTILINE)
        text = re.sub(r"return (np\.mean\(l\)|\(np\.sum\(l\) / n\))", "return np.mean(l)", text)
    found = judge_of(name, changed(text, old, new))
    assert points(found) < sum(verdict.of for verdict in found)
    assert re.search(sentence, notes(found)), notes(found)


def judge_of(name, text):
    """`judge`, for a loss that is a mean over every element."""
    design = designs()[name]
    if name == "loss":
        lines = [*design.formula.lines[:-1], "L = mean(l)"]
        design = design._replace(formula=graded.Formula(lines))
    return graded.judge(design, text, seed=1)


def test_a_cache_kept_in_an_attribute_is_named(solved):
    text = changed(solved["activation.py"], "u = cache", "u = self.u")
    text = changed(text, "        return np.where", "        self.u = u\n        return np.where")
    assert "uses the last forward pass" in notes(judge("activation", text))


def test_every_slip_of_a_derivative_has_a_sentence_of_its_own(rng):
    """A broken rule at each node of a formula changes the derivative, or is none."""
    formula = designs()["layer"].formula
    given = {"x": rng.standard_normal((4, 3)), "gamma": np.ones(3) / 2, "beta": np.ones(3) / 3}
    truth, dy = formula.derivative("y", "x", given), rng.standard_normal((4, 3))
    slips = list(formula.slips("x"))
    others = [formula.derivative("y", "x", given, dy, slip) for slip in slips]
    assert sum(not verdicts.close(other, truth) for other in others) > len(slips) / 2
    assert len({slip.sentence for slip in slips}) == len(slips)


def test_a_file_that_cannot_be_imported_is_reported_once(solved):
    found = judge("layer", solved["layer.py"] + "\ndef (")
    assert [verdict.verdict for verdict in found] == ["wrong", "waits", "waits", "waits"]
    assert re.fullmatch(r"layer\.py cannot be imported: SyntaxError: .*line \d+\)", found[0].note)


def test_only_a_body_that_start_has_left_out_is_missing(solved):
    text = changed(solved["activation.py"], BAD, f"        raise NotImplementedError\n{BAD}")
    found = judge("activation", text)
    assert [verdict.verdict for verdict in found] == ["right", "wrong", "waits"]
    assert re.fullmatch(r"NotImplementedError \(activation\.py, line \d+\)", found[1].note)


# Ways to cheat

BAD = "        return dy *"
HELPER = """
    def f(self, u):
        return np.where(u > 0, self.above(u), self.below(u))

    def above(self, u):
        return {above}

    def below(self, u):
        return {below}
"""


def cheating(solved, body, helper=False):
    """The activation with other statements in its backward pass."""
    text = changed(solved["activation.py"], BAD, f"        {body}\n{BAD}")
    line = solver.parsed(solver.formulas(sheets.text(ADA))["activation"][1][1])
    branches = {"above": solver.code(line.body), "below": solver.code(line.orelse)}
    return text + (HELPER.format(**branches) if helper else "")


REFUSED = {
    "import npaae": "npaae",
    "from npaae.layers import *": "npaae.layers",
    "import npaae.gradcheck as g": "npaae.gradcheck",
    "import importlib": "importlib",
    "import os": "os",
    "import sys; sys.modules['judge'] = None": "sys",
    "import ctypes": "ctypes",
    "import inspect": "inspect",
    "import gc": "gc",
    "import torch": "torch",
    "from . import layers": ". must not be imported",
    "__import__('os')": "__import__",
    "exec('import os')": "exec",
    "eval('1')": "eval",
    "open('/etc/passwd')": "open",
    "getattr(np, 'load')": "getattr",
    "().__class__.__base__.__subclasses__()": "__",
    "__builtins__['open']": "__builtins__",
    "import numpy as np; np.load('x')": "load",
    "import numpy as n; n.save('x', 1)": "save",
    "import numpy as np; np.ones(3).tofile('x')": "tofile",
    "import numpy as np; np.lib.npyio": "lib",
    "import numpy as np; np.ctypeslib": "ctypeslib",
    "from numpy import *": "numpy",
    "from numpy import memmap": "memmap",
    "def f(x, __meter__): return x": "__meter__",
    "f = lambda __meter__: 1": "__meter__",
    "type(type(1))('C', (), {'__float__': len})": "type",
    "from abc import ABCMeta as M; M('C', (), {})": "ABCMeta",
    "f = lambda: 1; f = type(f)": "function",
    "g = (x for x in 'a'); g.gi_frame.f_globals": "frame",
    "g = (x for x in 'a'); g.gi_code.replace()": "code",
    "import typing": "typing",
    "import numpy.typing": "numpy.typing",
    "import enum": "enum",
    "import dataclasses; dataclasses.sys": "dataclasses.sys",
    "1j": "complex",
    "import numpy as np; x = np; x.save": "numpy.something",
    "import numpy as np; np.linalg._linalg.sys": "._linalg",
    "import dataclasses as d; d.keyword.iskeyword": "keyword",
    "from dataclasses import builtins": "builtins",
    "import collections; collections._sys": "_sys",
    "import numpy as self; self.load(1)": "load",
    "def im(self): return self.base": ".base",
    "import numpy as self; f = len; f(self)": "numpy.something",
    "import numpy as np; f = len; f(np.linalg)": "linalg.something",
    "import math as m, numpy as m; m.testing.measure('1')": "numpy.testing",
    "x._evaluate({}, {})": "._evaluate",
    "class O: base: float": ".base",
    "from dataclasses import make_dataclass": "make_dataclass",
    "import dataclasses as d; d.make_dataclass('O', [])": "make_dataclass",
    "def __instancecheck__(cls, o): return True": "__instancecheck__",
    "async def __array__(self): return 1": "__array__",
    "class O: from math import sqrt as __float__": "__float__",
    "class O: __match_args__ = ('base',)": "__match_args__",
    "from functools import update_wrapper": "update_wrapper",
    "'{0.base}'.format(1)": "format",
    "import numpy as np; np.frombuffer(b'')": "frombuffer",
    "import numpy as np; np.ones(2).tobytes()": "tobytes",
    "import numpy as np; np.longdouble(1)": "longdouble",
    "import numpy as np; np.ones(3, 'complex128')": "complex128",
    "import numpy as np; np.ones(3, 'D')": "complex128",
    "import numpy as np; np.ones(3, '<c16')": "complex128",
    "import numpy as np; np.ones(3).astype('g')": "longdouble",
    "import numpy as np; u **= 0.5": "**=",
    "2**64": "64 bits",
    "import fractions": "fractions",
    "import decimal": "decimal",
    "def backward(self, dy, cache): return self.forward(cache)": "forward",
}


def refusal(line):
    """What the rules say before a line runs or, failing that, the meter as it runs."""
    for at, sentence in rules.breaches(line):
        return f"{sentence} in line {at}"
    with pytest.raises((PermissionError, ImportError)) as refused:
        counted(line)
    return str(refused.value)


@pytest.mark.parametrize("line", REFUSED)
def test_what_homework_must_not_name_is_refused_with_a_sentence(line):
    assert REFUSED[line] in refusal(line)


@pytest.mark.parametrize("line", ["import os", "1j"])
def test_a_file_with_a_refused_line_earns_nothing_and_learns_where_it_is(solved, line):
    found = judge("activation", f"{line}\n{solved['activation.py']}")
    assert points(found) == 0
    assert REFUSED[line] in found[0].note
    assert "(activation.py, line 1)" in found[0].note


def test_a_class_pattern_is_refused():
    text = "match 1:\n    case int(real=x):\n        pass"
    assert [line for line, _ in rules.breaches(text)] == [2]


def test_an_honest_file_breaks_no_rule(solved):
    for text in (*solved.values(), *sheets.files(ADA).values(), HABITS):
        assert list(rules.breaches(text)) == []


HABITS = """
from __future__ import annotations
import numpy as np
import numpy.linalg as la
from dataclasses import dataclass
from numpy import ndarray

@dataclass
class Cache:
    x: ndarray
    _m: ndarray

class Base:
    def __init__(self):
        self._u = np.zeros(3)

    def __call__(self, x):
        return self._half(x) + self._u + np.linalg.norm(x) + la.norm(Cache(x, x)._m)

    def _half(self, x):
        return np.asarray(x, dtype=x.dtype).flatten("F") / 2

    def __repr__(self):
        return "Base"

if __name__ == "__main__":
    print(Base())
"""


def test_the_rules_look_at_each_attribute_of_a_chain_once():
    lines = 0

    def count(frame, event, value):
        nonlocal lines
        lines += event == "line"
        return count

    before = sys.gettrace()
    sys.settrace(count)
    try:
        list(rules.breaches("import numpy as np\nnp" + ".a" * 900))
    finally:
        sys.settrace(before)
    assert lines < 400 * 900  # a square would be a million and more


def test_a_file_that_is_nested_too_deeply_for_the_rules_is_refused():
    assert [line for line, _ in rules.breaches("-" * 50_000 + "1")] == [1]


def test_a_file_that_is_too_large_is_refused_with_a_sentence(solved):
    found = judge("loss", solved["loss.py"] + "#" * rules.LARGEST)
    assert [verdict.verdict for verdict in found] == ["wrong", "waits"]
    assert str(rules.LARGEST) in found[0].note


QUOTIENTS = {
    "a difference": "h = 1e-6; return dy * (self.f(cache + h) - self.f(cache - h)) / (2 * h)",
    "of fourth order": (
        "f, u, h = self.f, cache, 1e-3; "
        "return dy * (8 * (f(u + h) - f(u - h)) - f(u + 2 * h) + f(u - 2 * h)) / (12 * h)"
    ),
    "that stays on one side": (
        "f, u = self.f, cache; h = 1e-6 * np.where(u > 0, 1, -1); "
        "return dy * (4 * f(u + h) - 3 * f(u) - f(u + 2 * h)) / (2 * h)"
    ),
    "with a step that grows": (
        "h = 1e-6 * np.maximum(1, abs(cache)); "
        "return dy * (self.f(cache + h) - self.f(cache - h)) / (2 * h)"
    ),
    "of 16 points, on each branch": (
        "h, w = 0.05 + 0.02 * abs(cache), CENTRAL; "
        "d = lambda f, u, h: sum(c * (f(u + k * h) - f(u - k * h)) for k, c in enumerate(w, 1)) / h"
        "; g, i = 0 * dy, cache > 0; g[i] = d(self.above, cache[i], h[i]); "
        "g[~i] = d(self.below, cache[~i], h[~i]); return dy * g"
    ),
    "of five points beside the known one, on each branch": (
        "h, w = 2**-10 * (1 + abs(cache)), {-2: 1 / 20, -1: -1 / 2, 0: -1 / 3, 1: 1, 2: -1 / 4, "
        "3: 1 / 30}; d = lambda f, u, h: sum(c * f(u + k * h) for k, c in w.items()) / h; "
        "g, i = 0 * dy, cache > 0; g[i] = d(self.above, cache[i], h[i]); "
        "g[~i] = d(self.below, cache[~i], h[~i]); return dy * g"
    ),
    "of 16 points at once": (
        "u = cache[..., None] + 0.05 * np.array([*range(-8, 9)]); w = np.array(CENTRAL) / 0.05; "
        "w = np.concatenate([-w[::-1], [0], w]); "
        "return dy * np.where(cache > 0, self.above(u) @ w, self.below(u) @ w)"
    ),
    "by complex numbers": (
        "z = self.f(cache + 1e-6 * (-1.0) ** 0.5); return dy * np.sqrt(abs(z) ** 2) / 1e-6"
    ),
    "by complex numbers that no variable keeps": (
        "return dy * abs(self.f(cache + 1e-6 * (-1.0) ** 0.5)) / 1e-6"
    ),
    "in long numbers": (
        "u = cache.astype('g'); h = u * 0 + 1e-7; "
        "return (dy * (self.f(u + h) - self.f(u - h)) / (2 * h)).astype(float)"
    ),
    "in integers": (
        "v = [int(u * 2**40) * 2**60 for u in cache.flat]; return np.array([u / 2**100 for u in v])"
    ),
    "of series": (
        "e = lambda v: sum(v**k / np.prod(np.arange(1.0, k + 1)) for k in range(26)); "
        "return dy * sum(c * (e(cache + c) - e(cache - c)) for c in CENTRAL)"
    ),
}
# The weights of the central difference of 16 points.
CENTRAL = [8 / 9, -14 / 45, 56 / 495, -7 / 198, 56 / 6435, -2 / 1287, 8 / 45045, -1 / 102960]


@pytest.fixture
def unruled(monkeypatch):
    """The judge without its rules, as if a file had passed them."""
    monkeypatch.setattr(rules, "breaches", lambda text: iter(()))


@mostly_slow("quotient", QUOTIENTS, 0, 4)
def test_a_numerical_derivative_earns_nothing(solved, quotient, unruled):
    body = QUOTIENTS[quotient].replace("CENTRAL", str(CENTRAL))
    found = judge("activation", cheating(solved, body, helper=True))
    assert {v.id: v.points for v in found if v.points} == {"activation.y": 5}
    assert re.search("quotient|too much|numbers wrong|(numbers|integers) must", notes(found))


def counted(line, points=12, numbers=1000, own=()):
    """Run a line of homework on twelve numbers u, with so much to compute."""
    count = meter.Meter()
    count.allow(points, numbers, own)
    u = np.linspace(0.1, 2, 12)
    given = {"__import__": rules.importer((), {}), **count.names()}
    names = {"__builtins__": vars(builtins) | given, "u": u, "v": u.copy()}
    exec(meter.metered(f"import functools, math\nimport numpy as np\n{line}", "x.py"), names)


MANY = {  # ways to evaluate a function at more than one point for each number
    "by an operator": "(1 + u) ** 0.5",
    "by a power of a constant": "2.0 ** u",
    "of a broadcast sum": "np.tanh(u[..., None] + np.arange(3))",
    "in place": "np.exp(v, out=v)",
    "in place, of some": "np.exp.at(v, [*range(12)])",
    "in a reduction": "np.logaddexp.reduce(u)",
    "number by number": "[math.tanh(one) for one in u]",
    "of a list of one's own": "class L(list): pass\nnp.tanh(L(u))",
    "of a sequence of one's own": (
        "class S:\n    def __getitem__(self, i): return u[i]\n"
        "    def __len__(self): return 12\nnp.tanh(S())"
    ),
    "by map": "list(map(math.tanh, u))",
    "by a default": "(lambda v, f=np.tanh: f(v))(u)",
    "by partial": "functools.partial(np.power, 2.0)(u)",
    "by reduce": "[functools.reduce(pow, [2.0, one]) for one in u]",
    "by vectorize": "np.vectorize(math.tanh)(u)",
    "from a class": "class O:\n    from math import tanh as f\n[O.f(one) for one in u]",
    "from a container": (
        "import dataclasses as d\nclass C:\n    from numpy import tanh as f\n    f: object\n"
        "functools.partial(*d.astuple(d.dataclass(C)()))(u)"
    ),
    "in a reduction of powers": "np.power.reduce([u, u], 0)",
    "in a reduction of an imported function": "from numpy import power as p\np.reduce([u, u], 0)",
    "by powers in place": "np.power.at(v[None], 0, u)",
    "by a Taylor polynomial": "np.polyval([1, 1, 0.5], u)",
    "by a Taylor polynomial, named": "np.polyval(p=[1, 1, 0.5], x=u)",
    "by a fit": "np.polyfit(u, u, 1)",
    "in a table": "np.interp(u, [0, 2], [0, 1])",
    "by a norm": "np.linalg.norm([u, u], axis=0)",
    "by a deviation": "np.std([u, u], axis=0)",
    "by a method": "np.stack([u, 1 - u]).std(axis=0)",
    "by a method in Python": "np.asmatrix(u).std(axis=0)",
}


@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")  # of np.matrix
@pytest.mark.parametrize("way", MANY)
def test_a_function_is_counted_however_it_is_called(way):
    counted(MANY[way], points=50)
    with pytest.raises(PermissionError, match="points"):
        counted(MANY[way], points=11)


@pytest.mark.parametrize(("name", "use"), [("__call__", "O()(u)"), ("__init__", "O(u, v)")])
def test_a_function_that_is_imported_as_a_method_is_counted(name, use):
    with pytest.raises(PermissionError, match="points"):
        counted(f"class O:\n    from numpy import tanh as {name}\n{use}", points=11)


@pytest.mark.parametrize(
    "line",
    [
        "np.tanh(u) + np.cosh(-u) + np.sqrt(u)",  # up to its sign, at the same points
        "u**2 + np.power(u, 3) + v**2.0",
        "np.where(u > 0, u, v).sum() / np.maximum(u, v)",
        "from numpy import exp, maximum, multiply\nmaximum.reduce(multiply.outer(exp(u), v))",
        "np.linalg.norm(u.reshape(1, 3, 4)[:, 1:], axis=(1, 2))",
        "match 1:\n    case np.pi if u[0] > 0: pass\n    case _:\n        from math import pi, e",
        "v[1:3] += 1; v[0], w = 1, f'{v[0]:.2f}'; del v",
        "f = lambda *a, b: (yield); class_ = type; [*u, *range(3)]",
    ],
)
def test_arithmetic_and_a_function_at_one_point_take_no_more_points(line):
    counted(line, points=12)


@pytest.mark.parametrize(
    ("line", "numbers"), [("u + u * 2 + np.sin(u)", 48), ("np.add.at(v, slice(None), u)", 26)]
)
def test_all_that_is_computed_is_counted(line, numbers):
    counted(line, points=12, numbers=numbers)
    with pytest.raises(PermissionError, match="too much"):
        counted(line, points=12, numbers=numbers - 1)


@pytest.mark.parametrize(
    "line",
    [
        "u @ np.ones(12, 'F')",
        "abs(1j)",
        "np.longdouble",
        "2**32 * 2**32",
        "np.array([None])",
        "np.sum(u, dtype='D')",
    ],
)
def test_a_number_of_another_kind_is_refused_wherever_it_occurs(line):
    with pytest.raises(PermissionError):
        counted(line)


def test_a_file_that_replaces_a_name_of_numpy_is_counted_all_the_same(monkeypatch):
    for name in ("ndarray", "ufunc", "generic", "asarray"):
        monkeypatch.setattr(np, name, int)
    with pytest.raises(PermissionError, match="points"):
        counted("np.tanh(u)", points=11)


def test_type_tells_a_class_and_makes_none():
    counted("assert type(1) is int")
    with pytest.raises(TypeError):
        counted("type('C', (), {'__float__': len})")


def test_the_values_of_a_formula_are_no_points():
    """Nor are half and twice these: tanh u and σ(2 u) have the same exponentials."""
    own = np.linspace(0.1, 2, 12)
    counted("np.tanh(-u) + np.exp(-2 * u) * np.cosh(u / 2) + np.sqrt(u * 3 / 3)", 0, own=own)
    for line in ("np.tanh(u + 1e-9)", "np.exp(u - 1e-9)", "np.sqrt(3 * u)"):
        with pytest.raises(PermissionError, match="points"):
            counted(line, 11, own=own)


def test_a_caught_refusal_computes_no_further():
    with pytest.raises(PermissionError):
        counted("try:\n    np.exp(u)\nexcept PermissionError:\n    pass\nnp.exp(u)", points=11)


TRICKS = {
    "class O:\n            def __array__(self, *a, **k): return dy\n        return O()": "got O",
    "class O:\n            def __eq__(self, o): return True\n        return O()": "got O",
    "class O:\n            def __reduce__(self): return print, ()\n        return O()": "got O",
    "class O(float):\n            def __sub__(self, o): return 0.0\n        return O()": "got O",
    "return np.array([dy, None], dtype=object)": "object",
    "return None": "NoneType",
    "return np.nan * dy": "NaN",
    "return 0 * dy": "0 everywhere",
    "raise SystemExit(0)": "SystemExit",
    "raise KeyboardInterrupt": "KeyboardInterrupt",
    "np.ones(2**50)": "MemoryError",
    "g = lambda: g(); g()": "RecursionError",
    "raise ValueError('\\x1b[2J' * 10**6)": "ValueError",
}


@mostly_slow("trick", TRICKS, 0, 2, 8, 10)
def test_a_trick_changes_its_own_row_at_most(solved, trick, unruled):
    found = judge("activation", cheating(solved, trick))
    assert {v.id: v.points for v in found if v.points} == {"activation.y": 5}
    assert TRICKS[trick] in notes(found)
    assert notes(found).isprintable()


def test_what_a_file_patches_is_patched_for_itself(solved):
    patch = "import numpy as np\nnp.max = np.abs = np.allclose = lambda *a, **k: 0.0\n"
    wrong = changed(solved["activation.py"], BAD, "        return 2 *")
    assert points(judge("activation", patch + wrong)) == 5
    assert np.max([1, 2]) == 2
    assert points(judge("activation", solved["activation.py"])) == 20


KINDS = """
import numpy as np

class Lazy(np.ndarray):
    @property
    def nbytes(self):
        raise AssertionError

    dtype = nbytes

class Number(np.float64):
    nbytes = dtype = Lazy.nbytes

class Layer:
    def forward(self, x):
        return x, None

    @property
    def dx(self):
        z = np.ones(2, "D")
        return np.abs(z)

def f(x):
    return Lazy(2)

def g(x):
    n = Number(2)
    return n

def listed(x):
    held = [(-1) ** 0.5, x]
    return x

def deep(x):
    held = {1: (x, [np.array([x.astype("g")[0]], object)])}
    return x

def subclass(x):
    class C(type((-1) ** 0.5)):
        dtype = "float64"
    c = C(1)
    return x
"""


@pytest.mark.parametrize("code", ["listed", "deep", "subclass"])
def test_complex_and_long_numbers_are_noticed_though_no_variable_keeps_them(code):
    with sandbox.Sandbox() as process:
        process.load("kinds", KINDS)
        with pytest.raises(sandbox.Fault, match=r"complex|longdouble"):
            process.call(f"kinds.{code}", np.ones(2))


@pytest.mark.parametrize(("code", "kind"), [("f", "Lazy"), ("g", "Number")])
def test_an_array_or_number_of_another_class_is_only_named(code, kind):
    with sandbox.Sandbox() as process:
        process.load("kinds", KINDS)
        found = process.call(f"kinds.{code}", np.ones(2))
    assert found.value == {"other": kind}


def test_what_an_attribute_computes_is_watched_too():
    with sandbox.Sandbox() as process:
        process.load("kinds", KINDS)
        remote = graded.Remote(process, "kinds.Layer")
        with pytest.raises(sandbox.Fault, match="complex128"):
            remote.call("forward", np.ones(2), keep=True, back=("dx",))


def test_a_subclass_of_ndarray_earns_nothing(solved, unruled):
    lie = (
        "class E(np.ndarray):\n"
        "    def __sub__(self, o): return np.zeros(self.shape)\n"
        "    def __array_ufunc__(self, *a, **k): return np.zeros(self.shape)\n"
    )
    text = changed(solved["activation.py"], "class Activation", f"{lie}\nclass Activation")
    body = "e = E(dy.shape); e.fill(7); return e"
    text = changed(text, BAD, f"        {body}\n{BAD}")
    assert points(judge("activation", text)) == 5


@pytest.mark.slow
def test_an_endless_loop_costs_its_own_row(solved, monkeypatch):
    monkeypatch.setattr(sandbox, "LIMIT", 2.0)
    before = "    def backward(self, dy, cache):\n"
    text = changed(solved["layer.py"], before, f"{before}        while True: pass\n")
    found = judge("layer", text)
    assert [verdict.verdict for verdict in found] == ["right", "wrong", "right", "right"]
    assert "endless loop" in found[1].note


@pytest.mark.slow
def test_all_rows_of_a_design_have_one_budget_of_time(solved, monkeypatch):
    monkeypatch.setattr(sandbox, "LIMIT", 2.0)
    monkeypatch.setattr(graded, "BUDGET", 2.0)
    text = re.sub(
        r"(def (?:backward|param).*\n)", r"\1        while True: pass\n", solved["layer.py"]
    )
    found = {verdict.id: verdict for verdict in judge("layer", text)}
    assert [verdict.verdict for verdict in found.values()] == ["right", "wrong", "wrong", "wrong"]
    assert "not tried" in found["layer.dbeta"].note


def test_printing_does_no_harm(solved):
    assert points(judge("activation", cheating(solved, "print('x' * 10**6)"))) == 20


# The student's process, with code that has escaped the rules

ESCAPE = """
def modules():
    for kind in ().__class__.__base__.__subclasses__():
        try:
            return kind.__init__.__globals__["sys"].modules
        except (AttributeError, KeyError):
            pass

os = modules()["os"]

def unwatched():
    try:
        1 / 0
    except ZeroDivisionError as error:
        error.__traceback__.tb_frame.f_back.f_back.f_locals["self"].is_running = False

def write(data):
    for descriptor in range(3, 30):
        try:
            os.write(descriptor, data)
        except OSError:
            pass

def f():
"""
UNMETERED = ["os"]  # like practice
ESCAPES = {
    "fork and hold the pipe": "while os.fork() or True: pass",
    "start a program": "os.system('sleep 1000')",
    "end the process": "os._exit(0)",
    "kill the judge": "os.kill(os.getppid(), 9)",
    "kill everything": "os.kill(-1, 9)",
    "delete a file": "os.remove('victim')",
    "read a file": "return modules()['io'].open('victim').read()",
    "write a file": "modules()['io'].open('victim', 'w').write('gone')",
    "forge an answer": "write(b'x' * 100)",
    "forge half an answer": "write((100).to_bytes(8, 'little') * 2); os._exit(0)",
    "forge a huge answer": "write((2**40).to_bytes(8, 'little') * 2)",
    "close the pipe": "os.closerange(0, 100)",
    "fill the memory": "bytearray(2**40)",
    "lift the limits": "modules()['resource'].setrlimit(0, (1, 1))",
}


def twice(process):
    process.call("escaped.f")
    process.call("escaped.f")


@linux
@mostly_slow("way", ESCAPES, 0, 2, 5, 8)
def test_code_that_has_escaped_the_rules_gets_a_fault_at_most(way, tmp_path, monkeypatch):
    victim = tmp_path / "victim"
    victim.write_text("whole")
    code = ESCAPE + "    " + ESCAPES[way].replace("'victim'", repr(str(victim)))
    with sandbox.Sandbox() as process:
        process.load("escaped", code, UNMETERED)
        with pytest.raises(sandbox.Fault):
            twice(process)  # because its first answer may be forged
    assert victim.read_text() == "whole"
    assert nobody_is_left(process)


def test_the_message_of_an_error_is_computed_behind_the_same_fences():
    named = "class O: __repr__ = lambda self: f'put {os.putenv(*self.given)}'; given = 'ab'"
    code = f"{ESCAPE}    {named}\n    raise KeyError(O())"
    with sandbox.Sandbox() as process:
        process.load("escaped", code, UNMETERED)
        with pytest.raises(sandbox.Fault) as fault:
            process.call("escaped.f")
    assert "put" not in str(fault.value)


@linux
@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs root")
def test_as_root_the_process_becomes_nobody_who_can_neither_delete_nor_fork(tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("whole")
    for line in ("os.fork()", f"os.remove({str(victim)!r})"):
        with sandbox.Sandbox() as process:
            process.load("escaped", f"{ESCAPE}    unwatched(); {line}", UNMETERED)
            with pytest.raises(sandbox.Fault):
                process.call("escaped.f")
        assert nobody_is_left(process)
    assert victim.exists()


@linux
def test_what_no_rule_can_stop_has_the_systems_limits():
    names = ["AS", "CPU", "FSIZE", "CORE", "NPROC"]
    line = "return [limits.getrlimit(getattr(limits, 'RLIMIT_' + name))[1] for name in names]"
    line = f"names, limits = {names}, modules()['resource']; {line}"
    with sandbox.Sandbox() as process:
        process.load("escaped", f"{ESCAPE}    unwatched(); {line}", UNMETERED)
        limits = dict(zip(names, process.call("escaped.f").value, strict=True))
    assert limits == {"AS": 2**31, "CPU": 60, "FSIZE": 2**20, "CORE": 0, "NPROC": 0}


@linux
def test_a_file_that_escaped_code_writes_ends_at_a_mebibyte():
    line = "with modules()['io'].open('large', 'wb', 0) as file:"
    line += "\n        while True: file.write(b'x' * 2**18)"
    with sandbox.Sandbox() as process:
        process.load("escaped", f"{ESCAPE}    unwatched()\n    {line}", UNMETERED)
        with pytest.raises(sandbox.Fault):
            process.call("escaped.f")
        assert os.path.getsize(os.path.join(process.folder.name, "large")) == 2**20


def test_calls_that_take_too_long_together_are_not_continued():
    with sandbox.Sandbox(total=0) as process:
        process.load("slow", "def f():\n    return 1")
        with pytest.raises(sandbox.Fault, match="together"):
            process.call("slow.f")
        assert not process.is_open


@posix
def test_the_process_has_a_session_of_its_own_which_can_be_killed_as_a_whole():
    with sandbox.Sandbox() as process:
        assert os.getsid(process.process.pid) == process.process.pid


def nobody_is_left(process):
    """Whether the session of a sandbox is empty."""
    try:
        os.killpg(process.process.pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_the_process_works_in_an_empty_folder_that_goes_with_it():
    with sandbox.Sandbox() as process:
        folder = process.folder.name
        assert os.listdir(folder) == []
    assert not os.path.exists(folder)


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"x",
        (2**60).to_bytes(8, "little") * 2,
        protocol.LENGTHS.pack(2, 0) + b"{",
        protocol.LENGTHS.pack(1, 0) + b"{",
        protocol.LENGTHS.pack(60000, 0) + b"[" * 60000,
        protocol.LENGTHS.pack(40, 0) + b'{"array": "object", "shape": [1]}       ',
        protocol.LENGTHS.pack(40, 0) + b'{"array": "float64", "shape": [1]}      ',
        protocol.LENGTHS.pack(40, 8) + b'{"array": "float64", "shape": [-1]}     ' + b"x" * 8,
    ],
)
def test_what_is_no_frame_is_refused(frame):
    with pytest.raises((EOFError, protocol.Garbled)):
        protocol.read(io.BytesIO(frame).read)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_message_or_refused(data):
    with suppress(EOFError, protocol.Garbled):
        protocol.read(io.BytesIO(data).read)


@given(st.binary(max_size=100), st.integers(0, 40))
def test_a_frame_that_has_been_altered_is_a_message_or_refused(noise, place):
    frame = bytearray(protocol.pack({"value": np.ones((2, 3)), "kept": 1}))
    frame[place : place + len(noise)] = noise
    with suppress(EOFError, protocol.Garbled):
        protocol.read(io.BytesIO(bytes(frame)).read)


CLAIMS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=5),
    st.lists(st.floats(), max_size=3),
    st.dictionaries(st.text(max_size=5), st.none(), max_size=2),
    arrays(st.sampled_from(protocol.TYPES), array_shapes(min_dims=0, max_dims=3, max_side=3)),
)


@given(CLAIMS, arrays(np.float64, array_shapes(min_dims=0, max_dims=2, max_side=3),
                      elements=st.floats(-1e6, 1e6)))  # fmt: skip
def test_whatever_is_claimed_is_the_truth_or_wrong(claim, truth):
    with np.errstate(all="ignore"):
        try:
            verdicts.require("y", claim, truth, limit=1e-9, sizes={"n": 3})
        except verdicts.Wrong:
            return
    np.testing.assert_allclose(np.asarray(claim, float), truth, rtol=1e-9)


def test_a_forged_answer_prints_nothing_but_text():
    with pytest.raises(verdicts.Wrong) as wrong:
        verdicts.require("y", {"other": "\x1b[2J"}, np.ones(2), limit=1e-9)
    assert str(wrong.value).isprintable()


def test_an_answer_that_has_arrays_for_names_is_refused(monkeypatch):
    process = sandbox.Sandbox()
    monkeypatch.setattr(process, "ask", lambda _: {"value": 0.0, "rebound": [np.ones(2)]})
    with pytest.raises(sandbox.Fault):
        process.call("f")


@pytest.mark.parametrize("value", [object(), np.array([None]), 1j, b"x", {1, 2}])
def test_only_plain_values_and_arrays_can_be_sent(value):
    with pytest.raises(TypeError):
        protocol.pack(value)


def test_a_message_arrives_as_it_was_sent(rng):
    array = rng.standard_normal((3, 4))
    message = {"a": [1, 2.5, None, "σ", True], "b": array, "c": np.float32(1.5)}
    found = protocol.read(io.BytesIO(protocol.pack(message)).read)
    np.testing.assert_array_equal(found.pop("b"), array)
    assert found == {"a": [1, 2.5, None, "σ", True], "c": 1.5}


# A class


@pytest.fixture(scope="module")
def a_class(tmp_path_factory):
    """Submissions of all kinds, graded: what was printed, and the three reports."""
    folder = tmp_path_factory.mktemp("class")
    of = folder / "submissions"
    write(of / "ada")
    unpacked = (of / "Name_bob_12" / "mine" / "mine", "bob"), (of / "Kim kay" / "mine", "kay")
    for inner, student in unpacked:
        write(inner, student)
        for design in ("loss", "layer", "optimiser"):  # which would only take time
            (inner / f"{design}.py").unlink()
    write(of / "cy", "cy", activation="import os", loss="raise SystemExit(0)")
    write(of / "dora", "ada")
    write(of / "eve 1", "eve")
    write(of / "eve 2", "eve")
    write(of / "ann_ada", "ada")
    write(of / "Ian late 12", "late")
    (of / "fred").mkdir()
    write(of / "gus", "gus")
    (of / "gus" / "sheet.txt").write_text("Student: gus\n\nactivation.py: y = x", "utf-8")
    shutil.rmtree(write(of / "hal", "hal") / "nothing", ignore_errors=True)
    (of / "hal" / "layer.py").unlink()
    (of / "notes.txt").write_text("not a folder")
    (folder / "roster.txt").write_text("ada\nBob\r\ncy\n\neve\nfred\ngus\nhal\nian\nkay\n", "utf-8")
    outputs = [
        "--roster",
        folder / "roster.txt",
        "--csv",
        folder / "g.csv",
        "--json",
        folder / "g.json",
        "--gradescope",
        folder / "g",
    ]
    process = run("grade", of, *outputs, "--seed", 1, example="homework.py")
    with (folder / "g.csv").open(encoding="utf-8", newline="") as file:
        table = {row["folder"]: row for row in csv.DictReader(file)}
    return folder, process, table


def test_a_class_is_graded_a_row_a_folder(a_class):
    _, process, table = a_class
    assert (process.returncode, process.stderr) == (1, "")  # because some could not be graded
    points = {folder: int(row["points"]) for folder, row in table.items()}
    assert points == {
        "ada": 100, "Name_bob_12": 20, "Kim kay": 20, "cy": 55, "dora": 0, "eve 1": 0,
        "eve 2": 0, "ann_ada": 0, "Ian late 12": 0,
        "fred": 0, "gus": 0, "hal": 65,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("folder", "note"),
    [
        ("dora", "folder's name must hold the ID of its sheet, ada"),
        ("eve 1", "2 folders hold the sheet of eve"),
        ("eve 2", "2 folders hold the sheet of eve"),
        ("ann_ada", "the sheet of ada is in a folder of that name"),
        ("Ian late 12", "the ID of its sheet, late, is not on the roster"),
        ("fred", "must hold one sheet.txt, got 0"),
        ("gus", "sheet.txt is not the sheet of gus"),
        ("hal", ""),
    ],
)
def test_a_bad_folder_is_a_row_that_says_why(a_class, folder, note):
    assert note in a_class[2][folder]["note"]


@pytest.mark.parametrize(
    ("flag", "name"), [("--csv", "no/g"), ("--csv", ""), ("--json", ""), ("--gradescope", "file")]
)
def test_a_report_that_cannot_be_written_is_refused_before_anything_runs(
    a_class, tmp_path, flag, name
):
    (tmp_path / "file").touch()
    process = run_here(
        "grade", a_class[0] / "submissions", flag, tmp_path / name, example="homework.py"
    )
    assert_refused(process, 2, name)
    assert process.stdout == ""


@pytest.mark.parametrize("text", ["ada\nthe students", "\0"])
def test_a_roster_that_is_no_list_of_ids_is_refused(a_class, tmp_path, text):
    (tmp_path / "roster.txt").write_text(text, "utf-8")
    arguments = ("grade", a_class[0] / "submissions", "--roster", tmp_path / "roster.txt")
    assert_refused(run_here(*arguments, example="homework.py"), 2, "ID")


def test_the_reports_of_a_class_agree(a_class):
    folder, _, table = a_class
    for one in json.loads((folder / "g.json").read_text("utf-8")):
        assert one["points"] == int(table[one["folder"]]["points"])
        place = folder / "g" / one["folder"] / "results.json"
        results = json.loads(place.read_text("utf-8"))
        assert results["score"] == one["points"] == sum(t["score"] for t in results["tests"])


@pytest.mark.slow
def test_sixty_folders_are_graded_in_a_few_minutes(tmp_path):
    for student in STUDENTS[:60]:
        write(tmp_path / "class" / student, student)
    process = run("grade", tmp_path / "class", example="homework.py")
    assert process.returncode == 0
    assert process.stdout.count(": 100 of 100\n") == 60


# Practice


def practised(code=None, old="", new=""):
    """The files of a student's right solution, with a change to one body."""
    bodies = dict(solver.PRACTICE)
    if code:
        bodies[code] = changed(bodies[code], old, new)
    return {
        file: "import numpy as np\n" + solver.filled(practice.source(file), bodies)
        for file in practice.FILES
    }


def rows_of(*codes):
    return [row for row in practice.ROWS if row.code in codes]


def test_practice_blanks_what_the_students_solution_fills():
    assert set(solver.PRACTICE) == set(practice.CODES)


@pytest.mark.slow
@pytest.mark.parametrize(
    "texts", [practised(), {f: practice.source(f, {}) for f in practice.FILES}]
)
def test_all_of_practice_is_right_in_a_right_solution_and_in_the_package(texts):
    found = practice.judge(texts)
    assert [verdict for verdict in found if verdict.verdict != "right"] == []


def test_all_of_practice_is_missing_or_waits_in_a_new_folder(tmp_path):
    run_here("start", tmp_path / "new", example="homework.py")
    process = run("check", tmp_path / "new", example="homework.py")
    assert (process.returncode, process.stderr) == (1, "")
    lines = process.stdout.splitlines()
    rows = [line for line in lines if re.search(r"  (missing$|waits for )", line)]
    assert len(rows) == len(practice.ROWS)
    assert any(line.endswith("waits for part 1") for line in lines)
    assert "for practice" in lines[-1]


def test_practice_names_nothing_that_its_files_do_not_have():
    text = "".join(practice.source(file) for file in practice.FILES)
    for codes in practice.PARTS.values():
        for name in re.findall(r"`([a-z_]+)`", "".join(codes.values())):
            assert re.search(rf"\b{name}\b", text.replace(f"`{name}`", "")), name


PRACTICE = [
    ("layers.Dense.forward", " + self.b", "", "the bias is not added"),
    ("layers.Dense.backward", "dy @", "-dy @", "its sign is reversed"),
    ("layers.Dense.backward", "self.W.T", "self.W", "W is not transposed|matmul"),
    ("layers.Dense.parameter_gradients", "x.T @ dy", "dy.T @ x", r"broadcast.*line \d+"),
    ("layers.Dense.parameter_gradients", "dy.sum(", "dy.mean(", "1 / n, the rows"),
    ("layers.Dense.parameter_gradients", "self.db[:] =", "self.db =", "db is not written into"),
    ("layers.Dense.parameter_gradients", "self.dW[:] =", "return", "dW is not written into"),
    ("layers.ReLU.backward", "x > 0", "x >= 0", "0 where x is 0"),
    ("layers.ReLU.backward", "x > 0", "np.maximum(x, 0) >= 0", "the mask is true everywhere"),
    ("layers.ReLU.backward", "dy * (x", "-dy * (x", "its sign is reversed"),
    ("layers.ReLU.forward", "return", "x[x < 0] = 0; return", "arguments must not change"),
    ("layers.Sigmoid.backward", "y = cache", "y = sigmoid(self.xp, cache)", "its own output"),
    ("layers.sigmoid", "e = xp", "return 1 / (1 + xp.exp(-x)); e = xp", "overflow"),
    ("layers.Dropout.forward", "1 / (1 - self.rate)", "1", "= 1 − p"),
    ("layers.Dropout.backward", "dy * mask", "dy", "the mask of the forward pass is not applied"),
    ("layers.Dropout.backward", "dy * mask", "dy * (mask != 0)", "scale of the forward pass"),
    ("losses.bce", ".mean()", ".sum()", r"= p\.size"),
    ("losses.bce", "n = p.size", "n = 1", r"= p\.size"),
    ("losses.bce", "n = p.size", "n = len(p)", "= the columns"),
    ("losses.bce", "raise ValueError", "str", "p = 0 must be refused"),
    ("losses.bce_with_logits", "n, e = logits.size", "n, e = 1", r"= logits\.size"),
    ("losses.bce_with_logits", "loss = xp.maximum(logits, 0)", "loss = logits", "L .*should be"),
    ("layers.Sequential.backward", "self.layers[::-1], caches[::-1]", "self.layers, caches",
     r"matmul|shape"),
    ("layers.Sequential.backward", "if parameters and", "if", "must not be written"),
    ("layers.Sequential.backward", "if parameters and", "if False and", "is not written"),
    ("layers.Sequential.backward", "if inputs else None", "", "inputs=False"),
    ("optim.Adam.step", "self.t += 1", "", "t must be 1 in the first step"),
    ("optim.Adam.step", "self.t += 1", "self.t += 2", "t one too large"),
    ("optim.Adam.step", "m = self.m / (1 - self.beta1**t)", "m = self.m", "correction of m"),
    ("optim.Adam.step", "v = self.v / (1 - self.beta2**t)", "v = self.v", "correction of v"),
    ("optim.Adam.step", "beta1**t", "beta1", "1 − β₁ in place of 1 − β₁ᵗ"),
    ("optim.Adam.step", "(xp.sqrt(v) + self.epsilon)", "xp.sqrt(v + self.epsilon)",
     "ε inside the root"),
    ("optim.Adam.step", "xp.sqrt(v)", "v", "without the root"),
    ("optim.Adam.step", "step = self", "step = -self", "sign reversed"),
    ("optim.Adam.step", "rate * m", "rate * g", "g in place of m"),
    ("optim.Adam.step", "self.parameters -=", "self.parameters = self.parameters -", "in place"),
    ("optim.Adam.step", "(1 - self.beta1) * g", "g", "g is not weighted"),
    ("optim.Adam.step", "g**2", "g", "g is not squared"),
    ("Model.reconstruction_gradient", "backward(dlogits", "backward(2 * dlogits",
     "the gradient of the encoder is 2 × the truth"),
    ("Model.reconstruction_gradient", "self.encoder.backward(dcodes, first)", "",
     "the gradient of the encoder is not written"),
    ("Model.discriminator_gradient", "logits[n:], 0.0", "logits[n:], 1.0", "every target is 1"),
    ("Model.discriminator_gradient", "return a + b", "return (a + b) / 2", "0.5 × the truth"),
    ("Model.generator_gradient", "logits, 1.0", "logits, 0.0", "every target is 0"),
    ("Model.generator_gradient", ", parameters=False", "",
     "also writes the gradient of the discriminator"),
]  # fmt: skip


@mostly_slow(("code", "old", "new", "sentence"), PRACTICE, 1, 7, 27)
def test_a_mistake_in_practice_is_named(code, old, new, sentence):
    found = practice.judge(practised(code, old, new), rows_of(code))
    assert any(verdict.verdict == "wrong" for verdict in found)
    assert re.search(sentence, notes(found)), notes(found)


RIGHT = [
    ("losses.bce", "((p <= 0) | (p >= 1)).any()", "not ((p > 0) & (p < 1)).all()"),
    ("layers.Dense.backward", "dy @ self.W.T", "np.einsum('ij,kj->ik', dy, self.W)"),
    (
        "layers.Dense.parameter_gradients",
        "self.dW[:] = x.T @ dy",
        "np.matmul(x.T, dy, out=self.dW)",
    ),
    ("optim.Adam.step", "self.m = ", "self.m[:] = "),
]


@mostly_slow(("code", "old", "new"), RIGHT, 0)
def test_right_code_is_right(code, old, new):
    found = practice.judge(practised(code, old, new), rows_of(code))
    assert {verdict.verdict for verdict in found} == {"right"}


def test_a_network_that_ignores_inputs_false_blocks_nothing():
    texts = practised("layers.Sequential.backward", "if inputs else None", "")
    rows = [row for row in practice.ROWS if row.id in ("network.early", "phase1.value")]
    assert [verdict.verdict for verdict in practice.judge(texts, rows)] == ["wrong", "right"]


def test_a_body_left_out_is_missing_and_what_needs_it_waits():
    texts = practised()
    texts["layers"] = practice.source("layers", blanks={"layers.ReLU.backward"})
    rows = [row for row in practice.ROWS if row.id in ("relu.y", "relu.dx", "network.early")]
    found = practice.judge(texts, rows)
    assert [verdict.verdict for verdict in found] == ["right", "missing", "waits"]
    assert found[2].note == "for layers.ReLU.backward"


@mostly_slow(
    ("line", "sentence"),
    [
        ("from npaae.layers import *", "npaae.layers must not be imported"),
        ("import npaae", "npaae must not be imported"),
        ("from npaae import layers", "npaae.layers must not be imported"),
        ("import npaae.backend", "npaae.backend must not be imported"),
        ("import torch", "torch must not be imported"),
        ("def (", "SyntaxError"),
    ],
    0,
    5,
)
def test_a_file_of_practice_that_is_refused_is_reported_once(line, sentence):
    texts = practised()
    texts["layers"] = f"{line}\n{texts['layers']}"
    found = practice.judge(texts, rows_of("layers.ReLU.forward", "layers.Dense.forward"))
    assert [verdict.verdict for verdict in found] == ["wrong", "waits"]
    assert re.search(rf"{re.escape(sentence)}.*\(layers\.py, line 1\)", found[0].note)


DIFFERENCE = """x, h, dx = cache, 1e-6, np.zeros(cache.shape)
for i in np.ndindex(*x.shape):
    e = np.zeros(x.shape)
    e[i] = h
    dx[i] = (dy * (self.forward(x + e)[0] - self.forward(x - e)[0])).sum() / (2 * h)
return dx"""


def test_a_difference_quotient_in_practice_is_told_from_a_derivation():
    texts = practised("layers.Dense.backward", "return dy @ self.W.T", DIFFERENCE)
    found = practice.judge(texts, [row for row in practice.ROWS if row.id == "dense.dx"])
    assert found[0].verdict == "wrong"
    assert "difference quotient" in found[0].note


def test_what_waits_is_known_by_running_the_packages_code():
    needed = {row.id: practice.needs(row) for row in practice.ROWS[:4]}
    dense = "layers.Dense."
    assert needed == {
        "dense.y": {f"{dense}forward"},
        "dense.dx": {f"{dense}forward", f"{dense}backward"},
        "dense.dW": {f"{dense}forward", f"{dense}parameter_gradients"},
        "dense.db": {f"{dense}forward", f"{dense}parameter_gradients"},
    }


def test_every_row_of_the_audit_about_a_body_is_a_row_of_practice():
    import audit

    wanted = {r.id for r in audit.ROWS if r.code in practice.CODES}
    wanted = {one for one in wanted if not one.startswith(("categories", "heads"))}
    asked_otherwise = {"bce.domain", "network.frozen"}
    assert wanted - asked_otherwise <= {row.id for row in practice.ROWS}


def test_the_audit_is_its_own_again_after_practice():
    import audit

    before = audit.layers, audit.losses, audit.optim, audit.Model
    practice.judge(practised(), rows_of("layers.ReLU.forward"))
    assert (audit.layers, audit.losses, audit.optim, audit.Model) == before
    assert "judge.worker" not in sys.modules
