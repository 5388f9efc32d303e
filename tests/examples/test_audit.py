"""The audit: every formula holds, and famous bugs, planted one by one, are seen by their rows."""

import inspect
import os
import re
import shutil
import subprocess
import sys
import textwrap
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, reject

from npaae import (
    InvalidInput,
    categorical,
    gradcheck,
    layers,
    losses,
    metrics,
    model,
    optim,
    priors,
    training,
)

from ..running import EXAMPLES
from ..strategies import seeds

import audit  # isort: skip  # an example

BY_ID = {row.id: row for row in audit.ROWS}


def test_identifiers_are_unique():
    assert len(BY_ID) == len(audit.ROWS)


@pytest.mark.parametrize("row", audit.ROWS, ids=lambda row: row.id)
@given(seed=seeds)
def test_every_formula_holds(row, seed):
    try:
        error = row.check(np.random.default_rng(seed))
    except gradcheck.Kink:
        reject()
    assert error <= row.limit


def test_every_formula_of_the_package_has_a_row():
    second = categorical.layers, categorical.losses, categorical.model
    derivatives = {
        f"{owner.__name__}.{name}"
        for module in (layers, model, *second)
        for owner in vars(module).values()
        if inspect.isclass(owner) and owner.__module__ == module.__name__
        for name in vars(owner)
        if name == "backward" or name.endswith(("_gradient", "_gradients"))
    }
    functions = {
        name
        for module in (losses, metrics, *second)
        for name, function in inspect.getmembers(module, inspect.isfunction)
        if function.__module__ == module.__name__ and not name.startswith("_")
    } - {"parzen", "prior_draws", "measure"}  # which only put the others together
    expected = derivatives | functions | {prior.__name__ for prior in priors.PRIORS}
    assert len(derivatives) == 18
    audited = {audit.named(row.code).__qualname__ for row in audit.ROWS if row.code != "layers"}
    assert expected - audited == set()
    assert {"Adam.step", "AdversarialAutoencoder.step", "train", "evaluate"} <= audited


Model = model.AdversarialAutoencoder
Dense, ReLU, Sigmoid, Dropout = layers.Dense, layers.ReLU, layers.Sigmoid, layers.Dropout
Sequential, Adam = layers.Sequential, optim.Adam
Categorical = categorical.model.CategoricalAutoencoder
PartialSoftmax, Noise = categorical.layers.PartialSoftmax, categorical.layers.Noise
BatchNorm, SideBySide = categorical.layers.BatchNorm, categorical.layers.SideBySide

SWAPPED = (
    "radial_std * noise[:, 0]\n    return _turned(xp, angle, outwards, self.tangential_std => "
    "tangential_std * noise[:, 0]\n    return _turned(xp, angle, outwards, self.radial_std"
)
LEFT_OVER = "matmul(x.T, dy, out=self.dW) => add(self.dW, x.T @ dy, self.dW)"

# For each row, functions and the change to their source that plants a bug.
BUGS = {
    "dense.y": [(Dense.forward, "y += self.b => y -= self.b")],
    "dense.dx": [(Dense.backward, "self.W.T => self.W")],
    "dense.dW": [
        (Dense.parameter_gradients, LEFT_OVER),
        (Dense.parameter_gradients, "x = cache => x = cache * (1 + 1e-3 * (cache == cache[0, 0]))"),
    ],
    "dense.db": [
        (Dense.parameter_gradients, "xp.sum => xp.mean"),
        (Dense.parameter_gradients, "axis=0 => axis=1"),
    ],
    "dense.initial": [
        (Dense.initialise, "1 / sqrt => 0.98 / sqrt"),
        (
            Dense.initialise,
            "rng.uniform(-bound, bound, parameter.shape) => "
            "bound * self.xp.sin(rng.uniform(-1.5708, 1.5708, parameter.shape))",
        ),
        (Dense.initialise, "parameter.shape => parameter.shape[-1:]"),
    ],
    "relu.y": [(ReLU.forward, "maximum(x, 0) => abs(x)")],
    "relu.dx": [(ReLU.backward, "cache > 0 => self.xp.maximum(cache, 0) >= 0")],
    "relu.zero": [
        (ReLU.backward, "cache > 0 => cache >= 0"),
        (ReLU.backward, "return dy * (cache > 0) => dy *= cache > 0; return dy"),
    ],
    "sigmoid.y": [(layers.sigmoid, "x >= 0 => x < 0")],
    "sigmoid.extremes": [(layers.sigmoid, "-xp.abs(x) => -x")],
    "sigmoid.dx": [(Sigmoid.backward, "(y * (1 - y)) => y")],
    "dropout.dx": [(Dropout.backward, "dy if mask is None else dy * mask => dy")],
    "dropout.scale": [
        (Dropout.forward, "2**16 / (2**16 - self.threshold) => 1")
    ],
    "dropout.rate": [(layers._drop, "words >= threshold => words < threshold")],
    "dropout.independence": [
        (Dropout.forward, "rng, x.shape => rng, (len(x), 1)"),
        (Dropout.forward, "rng, x.shape => rng, x.shape[1:]"),
        (Dropout.forward, "rng, x => self.xp.random.default_rng(0), x"),
    ],
    "dropout.off": [
        (Dropout.forward, "rng is None => False")
    ],
    "layers.caches": [
        (ReLU.forward, "(x, 0), x => (x, 0), vars(self).update(x=x) or self"),
    ],
    "network.y": [(Sequential.forward, "x, rng) => x)")],
    "network.frozen": [
        (Sequential.backward, "parameters and hasattr => hasattr"),
        (Sequential.backward, "not inputs and not any => False and not any"),
    ],
    "network.dx": [(Sequential.backward, "caches[i] => caches[0]")],
    "network.parameters": [
        (Sequential.backward, "if parameters and => if i and")
    ],
    "bce.value": [(losses.bce, ".mean() => .sum()")],
    "bce.gradient": [(losses.bce, "* p.size => * len(p)")],
    "bce.domain": [(losses.bce, "p > 0) => p >= 0)")],
    "bce_with_logits.value": [(losses._cross_entropies, "xp.maximum(logits, 0) => xp.abs(logits)")],
    "bce_with_logits.gradient": [
        (losses.bce_with_logits, "logits.size => len(logits)")
    ],
    "bce_with_logits.extremes": [
        (losses._cross_entropies, "-xp.abs(logits) => -logits"),
    ],
    "bce_with_logits.composition": [(Sigmoid.forward, "return y, y => return y, x")],
    "adam.step": [
        (Adam.step, "self.beta1**self.t => self.beta1"),
        (Adam.step, "self.beta2**self.t => self.beta2"),
        (optim._update, "step += epsilon => pass"),
        (optim._update, "step += epsilon => step = xp.sqrt(v + epsilon)"),
    ],
    "adam.flush": [(optim._flush, "abs(m) >= => abs(m) / 10 >=")],
    "phase1.value": [
        (losses.bce_with_logits, "losses.mean() => losses.sum()"),
        (Model.reconstruction_gradient, "forward(codes, rng) => forward(codes)"),
    ],
    "phase1.gradient": [
        (Dense.parameter_gradients, "x = cache => x = cache * (1 + 1e-3 * (cache == cache[0, 0]))"),
        (Model.reconstruction_gradient, "backward(dcodes => backward(-dcodes"),
    ],
    "phase1.isolation": [
        (Model.reconstruction_gradient, "return loss => self.gradient[-1] += 1; return loss")
    ],
    "phase2.value": [
        (Model.discriminator_gradient, "[:n], 1.0 => [:n], 0.0"),
    ],
    "phase2.gradient": [
        (Model.discriminator_gradient, "(dreal, dfake) => (dfake, dreal)")
    ],
    "phase2.isolation": [
        (Model.discriminator_gradient, "return real => self.gradient[0] += 1; return real")
    ],
    "phase3.value": [
        (Model.generator_gradient, "logits, 1.0 => logits, 0.0"),
    ],
    "phase3.gradient": [
        (Dense.parameter_gradients, LEFT_OVER),
        (Model.generator_gradient, "backward(dlogits => backward(-dlogits"),
    ],
    "phase3.isolation": [
        (Model.generator_gradient, ", parameters=False => ")
    ],
    "labels.phase2.value": [(Model.draw_prior, "if labels is None => if True")],
    "labels.phase3.value": [
        (Model.generator_gradient, "(codes, labels) => (codes, self.xp.flip(labels))")
    ],
    "labels.phase3.gradient": [
        (Model.generator_gradient, "[:, : self.code_size] => [:, -self.code_size :]")
    ],
    "step.phases": [
        (Model.step, "self.discriminator_adam => self.generator_adam"),
        (Model.step, "encoder_caches, rng, labels => encoder_caches, None, labels"),
    ],
    "decode.images": [(Model._decode, "sigmoid(self.xp, => (")],
    "log_softmax.y": [
        (categorical.layers.log_softmax, "logits.max(axis=axis, keepdims=True) => 0"),
        (categorical.layers.log_softmax, "(shifted).sum(axis=axis => (shifted).sum(axis=1"),
    ],
    "softmax.y": [(categorical.layers.softmax, "xp.exp( => (")],
    "cross_entropy.value": [(categorical.losses.softmax_cross_entropy, "-(log_p => (log_p")],
    "cross_entropy.gradient": [
        (categorical.losses.softmax_cross_entropy, "type(len(logits)) => type(logits.size)"),
        (categorical.losses.softmax_cross_entropy, "xp.exp(log_p) - one_hot => xp.exp(log_p)"),
    ],
    "divergence.value": [
        (categorical.losses.divergence, "(log_p - log_q) => -log_q"),
        (categorical.losses.divergence, ".sum(axis=1).mean() => .mean()"),
    ],
    "divergence.gradient": [
        (categorical.losses.divergence, "xp.exp(log_q) - p => p - xp.exp(log_q)"),
        (categorical.losses.divergence, "type(len(logits)) => type(logits.size)"),
    ],
    "information.value": [
        (categorical.losses.information, "+ xp.log(n) => + 0"),
        (categorical.losses.information, "axis=0 => axis=1"),
    ],
    "information.gradient": [
        (categorical.losses.information, "(gain - of_row) => gain"),
        (categorical.losses.information, "of_row) / n => of_row)"),
    ],
    "partial_softmax.y": [(PartialSoftmax.forward, "x[:, k:]), => x[:, k:] * 2),")],
    "partial_softmax.dx": [
        (PartialSoftmax.backward, "(dp - (p * dp).sum(axis=1, keepdims=True)) => dp"),
        (PartialSoftmax.backward, "(p * dp).sum => dp.sum"),
    ],
    "noise.y": [
        (Noise.forward, "y *= self.std => y *= self.std**2"),
        (Noise.forward, "rng is None or self.std == 0 => self.std == 0"),
    ],
    "noise.dx": [(Noise.backward, "return dy => return dy * self.std")],
    "batch_norm.y": [
        (BatchNorm.forward, "((x - mean) ** 2).mean => (x**2).mean")
    ],
    "batch_norm.averages": [
        (BatchNorm.forward, "self.share * (variance => self.share**2 * (variance"),
    ],
    "batch_norm.dx": [
        (BatchNorm.backward, "d -= d.mean(axis=0) => d -= 0"),
        (BatchNorm.backward, "d -= normal * along => d -= 0"),
        (BatchNorm.backward, "self.gamma * dy => dy"),
    ],
    "batch_norm.off": [(BatchNorm.backward, "if of_the_batch => if True")],
    "batch_norm.parameters": [(BatchNorm.parameter_gradients, "dy * normal => dy * normal**2")],
    "side_by_side.y": [(SideBySide.forward, "x, self.ends => x[:, ::-1], self.ends")],
    "side_by_side.gradients": [
        (SideBySide.backward, "dy[:, i : i + 1] => dy[:, :1]")
    ],
    "repulsion.value": [(categorical.losses.repulsion, ".sum() / 2 => .sum()")],
    "repulsion.gradient": [(categorical.losses.repulsion, "return loss, - => return loss, 2 * -")],
    "categories.phase1.gradient": [
        (BatchNorm.backward, "d -= d.mean(axis=0) => d -= 0"),
        (BatchNorm.parameter_gradients, "sum(dy, axis => sum(normal, axis"),
    ],
    "categories.phase3.gradient": [
        (SideBySide.backward, "dy[:, i : i + 1] => dy[:, :1]"),
        (PartialSoftmax.backward, "dlogits, dy[:, k:] => dlogits, 0 * dy[:, k:]"),
    ],
    "phase4.value": [
        (Categorical.classification_gradient, "categories], labels => categories], 0 * labels")
    ],
    "phase4.gradient": [
        (Categorical.classification_gradient, "_style(dlogits) => _style(-dlogits)"),
        (Categorical._without_style, "xp.zeros( => xp.ones("),
    ],
    "own_samples.images": [
        (Categorical.own_samples, "sigmoid(self.xp, => ("),
        (Categorical.own_samples, "argmax => argmin"),
    ],
    "perturb.direction": [
        (Categorical.perturb, "x + PROBE * => x + 100 * PROBE *"),
        (Categorical.perturb, "_unit_rows(xp, dx) => dx"),
        (Categorical.perturb, "_unit_rows(xp, dx) => _unit_rows(xp, -dx)"),
        (Categorical.perturb, "layers[1:-1] => layers[:-1]"),
    ],
    "phase5.value": [
        (Categorical.smoothness_gradient, "loss - weight * gained => loss + weight * gained"),
        (Categorical.smoothness_gradient, "layers[1:-1] => layers[:-1]"),
    ],
    "phase5.gradient": [
        (Categorical.smoothness_gradient, "dlogits - weight => dlogits + weight"),
        (Categorical._without_style, "xp.zeros( => xp.ones("),
    ],
    "train.records": [(training._epochs, "weights=sizes => weights=None")],
    "train.images": [
        (training._one_epoch, "start + batch_size] => start + batch_size - 1]"),
        (training._one_epoch, "labels[batch] => labels[start : start + batch_size]"),
        (training._one_epoch, ".permutation(n) => .integers(n, size=n)"),
        (training._one_epoch, "backend.SHUFFLE, epoch => backend.SHUFFLE, 1"),
    ],
    "evaluate.values": [
        (training.evaluate, "+= loss * len(x) => += loss"),
        (training.evaluate, "z.std(axis=0) => z.std(axis=0, ddof=1)"),
    ],
    "gaussian.samples": [
        (priors.gaussian.__call__, "self.std * rng => self.std + rng"),
        (priors.gaussian.__call__, "(n, dim)) => (n, 1)).repeat(dim, axis=1)"),
    ],
    "uniform_square.samples": [(priors.uniform_square.__call__, "- 0.5 => - 0.4")],
    "uniform_disc.samples": [
        (priors.uniform_disc.__call__, " ** (1 / dim) => "),
        (priors.uniform_disc.__call__, " / length => "),
    ],
    "gaussian_mixture.sample_at": [
        (priors.gaussian_mixture.sample_at, SWAPPED),
    ],
    "gaussian_mixture.samples": [
        (priors.gaussian_mixture.sample_at, "position * self => position**2 * self")
    ],
    "swiss_roll.sample_at": [(priors.swiss_roll.sample_at, "self.std * => self.std**2 *")],
    "swiss_roll.samples": [(priors.swiss_roll.sample_at, "xp.sqrt(position) => position")],
    "moments.values": [(metrics.moments, "/ len(z) => / (len(z) - 1)")],
    "energy_test.distance": [(metrics.energy_test, "2 / (n * m) => 1 / (n * m)")],
    "energy_test.p": [(metrics.energy_test, "0.95 => 0.5")],
    "parzen.density": [
        (metrics.parzen_log_likelihood, ".ravel() => .ravel() * 0"),
        (metrics._parzen_log_likelihoods, "2 * pi * h**2 => 2 * pi * h"),
    ],
    "neighbours.vote": [(metrics.neighbour_accuracy, "[:, :k] => [:, :1]")],
    "cluster_names.names": [(metrics.cluster_names, "argmax(axis => argmin(axis")],
    "block_error.value": [(metrics.block_standard_error, "(blocks - 1) => blocks")],
}  # fmt: skip


@pytest.mark.parametrize(
    ("row", "function", "change"),
    [(row, *bug) for row, bugs in BUGS.items() for bug in bugs],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_planted_bug_turns_its_row_red(monkeypatch, row, function, change):
    right, wrong = change.split(" => ")
    function = inspect.unwrap(function)
    source = textwrap.dedent(inspect.getsource(function))
    assert source.count(right) == 1
    namespace = dict(vars(sys.modules[function.__module__]))
    exec(source.replace(right, wrong), namespace)
    changed = inspect.unwrap(namespace[function.__name__])
    monkeypatch.setattr(function, "__code__", changed.__code__)  # wherever it was imported to
    assert not audit.examine(BY_ID[row], cases=20).holds


def test_layers_of_ones_own_are_judged_by_the_same_rows(monkeypatch):
    class Own(Dense):
        def backward(self, dy, cache):
            return dy.dot(self.W.transpose()) * factor

    monkeypatch.setattr(audit, "layers", SimpleNamespace(**vars(layers) | {"Dense": Own}))
    for factor in (1, 1.001):
        assert audit.examine(BY_ID["dense.dx"], cases=3).holds == (factor == 1)


def test_a_layer_that_keeps_its_input_turns_the_row_of_caches_red(monkeypatch):
    class Keeping(Dense):
        def forward(self, x, rng=None):
            self.kept = x
            return super().forward(x, rng)

        def parameter_gradients(self, dy, cache):
            super().parameter_gradients(dy, self.kept)

    monkeypatch.setattr(audit, "layers", SimpleNamespace(**vars(layers) | {"Dense": Keeping}))
    row = BY_ID["layers.caches"]
    assert not audit.examine(row, cases=3).holds


# The program


def run_audit(*arguments, package=EXAMPLES.parent, columns=80):
    environment = os.environ | {"PYTHONPATH": str(package), "PYTHONIOENCODING": "utf-8"}
    environment["COLUMNS"] = str(columns)
    command = [sys.executable, str(EXAMPLES / "audit.py"), *arguments]
    options = {"capture_output": True, "encoding": "utf-8", "timeout": 600, "env": environment}
    return subprocess.run(command, **options)


@pytest.fixture
def audit_in_two_cases(monkeypatch, capsys):
    """Runs the program in this process, with two cases of each row, and gives its lines."""

    def run_in_two_cases(*arguments, columns=80):
        monkeypatch.setenv("COLUMNS", str(columns))
        monkeypatch.setattr(sys, "argv", ["audit.py", *arguments])
        monkeypatch.setattr(audit, "examine", partial(audit_examine, cases=2))
        audit.main()
        return capsys.readouterr().out.splitlines()

    audit_examine = audit.examine
    return run_in_two_cases


@pytest.mark.slow
def test_the_audit_prints_every_row_and_exits_0():
    process = run_audit()
    assert (process.returncode, process.stderr) == (0, "")
    lines = process.stdout.splitlines()
    assert re.match(rf"{len(audit.ROWS)} formulas, .* \d+ seconds", lines[0])
    assert all(line.split()[-1] == "holds" for line in lines[3:-2])
    assert len(lines[3:-2]) == len(audit.ROWS)
    assert lines[-1] == f"All {len(audit.ROWS)} formulas hold."


@pytest.mark.parametrize("columns", [80, 100, 200])
def test_the_table_fits_the_terminal(audit_in_two_cases, columns):
    lines = audit_in_two_cases("dense", "relu.zero", columns=columns)
    assert max(map(len, lines)) <= columns
    assert [line.split()[0] for line in lines[3:-2]] == 4 * ["dense:"] + ["initial", "ReLU"]


def test_an_unknown_row_is_refused(audit_in_two_cases):
    with pytest.raises(InvalidInput, match="ID"):
        audit_in_two_cases("dens")


def test_rows_are_printed_as_they_are_found(monkeypatch, capsys):
    shown = []

    def examine(row):
        shown.append(capsys.readouterr().out)
        return audit.Finding(row, 1, 0.0, "")

    monkeypatch.setattr(sys, "argv", ["audit.py", "dense"])
    monkeypatch.setattr(audit, "examine", examine)
    audit.main()
    assert all(row.formula in text for row, text in zip(audit.ROWS[:4], shown[1:], strict=True))


def test_a_line_broken_in_the_source_is_named_and_the_audit_exits_1(tmp_path):
    ignored = shutil.ignore_patterns("sample", "__pycache__")
    shutil.copytree(EXAMPLES.parent / "npaae", tmp_path / "npaae", ignore=ignored)
    source = tmp_path / "npaae" / "layers.py"
    right = source.read_text(encoding="utf-8")
    source.write_text(right.replace("dy @ self.W.T", "dy @ self.W"), encoding="utf-8")
    process = run_audit("dense.y", "dense.dx", package=tmp_path)
    assert process.returncode == 1
    assert process.stderr == "1 of 2 formulas are broken: dense.dx\n"
    assert "npaae/layers.py:" in process.stdout
    assert "ValueError" in process.stdout
    assert max(map(len, process.stdout.splitlines())) <= 80


def test_the_table_names_the_line_of_each_formula_and_may_be_markdown(audit_in_two_cases):
    header, rule, *lines = audit_in_two_cases("--markdown", "dense")
    assert rule == "| --- | --- | --- | --- | --- | --- | --- |"
    assert all(line.count("|") == 8 for line in (header, *lines))
    number = inspect.getsourcelines(Dense.backward)[1]
    assert any("dx = dy Wᵀ" in line and f"npaae/layers.py:{number} |" in line for line in lines)
