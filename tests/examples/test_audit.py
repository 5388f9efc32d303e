"""The audit: every formula holds, and famous bugs, planted one by one, are seen by their rows."""

import inspect
import os
import shutil
import subprocess
import sys
import textwrap
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, reject

from npaae import categorical, gradcheck, layers, losses, metrics, model, optim, priors, training

from ..running import EXAMPLES
from ..strategies import seeds

import audit  # isort: skip  # an example

BY_FORMULA = {row.formula: row for row in audit.ROWS}


@pytest.mark.parametrize("row", audit.ROWS, ids=lambda row: row.formula)
@given(seed=seeds)
def test_every_formula_holds(row, seed):
    try:
        error = row.check(np.random.default_rng(seed))
    except gradcheck.Kink:
        reject()
    assert error <= row.limit


def test_every_formula_of_the_package_has_a_row():
    derivatives = {
        f"{owner.__name__}.{name}"
        for module in (layers, model, categorical)
        for owner in vars(module).values()
        if inspect.isclass(owner) and owner.__module__ == module.__name__
        for name in vars(owner)
        if name == "backward" or name.endswith(("_gradient", "_gradients"))
    }
    functions = {
        name
        for module in (losses, metrics, categorical)
        for name, function in inspect.getmembers(module, inspect.isfunction)
        if function.__module__ == module.__name__ and not name.startswith("_")
    } - {"parzen", "prior_draws", "report"}  # which only put the others together
    expected = derivatives | functions | {prior.__name__ for prior in priors.PRIORS}
    assert len(derivatives) == 18
    audited = {audit.named(row.code).__qualname__ for row in audit.ROWS if row.code != "layers"}
    assert expected - audited == set()
    assert {"Adam.step", "AdversarialAutoencoder.step", "train", "evaluate"} <= audited


Model = model.AdversarialAutoencoder
Dense, ReLU, Sigmoid, Dropout = layers.Dense, layers.ReLU, layers.Sigmoid, layers.Dropout
Sequential, Adam = layers.Sequential, optim.Adam
Categorical = categorical.CategoricalAutoencoder
PartialSoftmax, Noise = categorical.PartialSoftmax, categorical.Noise
BatchNorm, SideBySide = categorical.BatchNorm, categorical.SideBySide

SWAPPED = (
    "radial_std * noise[:, 0]\n    return _turned(xp, angle, outwards, self.tangential_std => "
    "tangential_std * noise[:, 0]\n    return _turned(xp, angle, outwards, self.radial_std"
)
LEFT_OVER = "matmul(x.T, dy, out=self.dW) => add(self.dW, x.T @ dy, self.dW)"

# For each formula, functions and the change to their source that plants a bug.
BUGS = {
    "dense: y = x W + b": [(Dense.forward, "y += self.b => y -= self.b")],
    "dense: dx = dy Wᵀ": [(Dense.backward, "self.W.T => self.W")],
    "dense: dW = xᵀ dy": [
        (Dense.parameter_gradients, LEFT_OVER),
        (Dense.parameter_gradients, "x = cache => x = cache * (1 + 1e-3 * (cache == cache[0, 0]))"),
    ],
    "dense: db = Σᵢ dyᵢ": [
        (Dense.parameter_gradients, "xp.sum => xp.mean"),
        (Dense.parameter_gradients, "axis=0 => axis=1"),
    ],
    "initial weights: uniform on ±1/√fan_in": [
        (Dense.initialise, "1 / sqrt => 0.98 / sqrt"),
        (
            Dense.initialise,
            "rng.uniform(-bound, bound, parameter.shape) => "
            "bound * self.xp.sin(rng.uniform(-1.5708, 1.5708, parameter.shape))",
        ),
        (Dense.initialise, "parameter.shape => parameter.shape[-1:]"),
    ],
    "ReLU: y = max(x, 0)": [(ReLU.forward, "maximum(x, 0) => abs(x)")],
    "ReLU: dx = dy · [x > 0]": [(ReLU.backward, "cache > 0 => self.xp.maximum(cache, 0) >= 0")],
    "ReLU at 0: dx = 0": [
        (ReLU.backward, "cache > 0 => cache >= 0"),
        (ReLU.backward, "return dy * (cache > 0) => dy *= cache > 0; return dy"),
    ],
    "sigmoid: y = 1 / (1 + e⁻ˣ)": [(layers.sigmoid, "x >= 0 => x < 0")],
    "sigmoid: finite and right at ±1e4": [(layers.sigmoid, "-xp.abs(x) => -x")],
    "sigmoid: dx = dy · y (1 − y)": [(Sigmoid.backward, "(y * (1 - y)) => y")],
    "dropout: dx = m · dy": [(Dropout.backward, "dy if mask is None else dy * mask => dy")],
    "dropout: m = 1 / (1 − p), so E[m x] = x": [
        (Dropout.forward, "2**16 / (2**16 - self.threshold) => 1")
    ],
    "dropout: P(m = 0) = p": [(layers._drop, "words >= threshold => words < threshold")],
    "dropout: each element on its own": [
        (Dropout.forward, "rng, x.shape => rng, (len(x), 1)"),
        (Dropout.forward, "rng, x.shape => rng, x.shape[1:]"),
        (Dropout.forward, "rng, x => self.xp.random.default_rng(0), x"),
    ],
    "dropout: off, it is the identity": [
        (Dropout.forward, "rng is None => False")
    ],
    "every layer: backward uses its own forward": [
        (ReLU.forward, "(x, 0), x => (x, 0), vars(self).update(x=x) or self"),
    ],
    "network: dense, ReLU, dropout, …, dense": [(Sequential.forward, "x, rng) => x)")],
    "network: frozen, or without dx": [
        (Sequential.backward, "parameters and hasattr => hasattr"),
        (Sequential.backward, "not inputs and not any => False and not any"),
    ],
    "network: the chain rule, dx": [(Sequential.backward, "caches[i] => caches[0]")],
    "network: the chain rule, dW and db of each": [
        (Sequential.backward, "if parameters and => if i and")
    ],
    "BCE: L = −mean[t ln p + (1 − t) ln(1 − p)]": [(losses.bce, ".mean() => .sum()")],
    "BCE: dp = (p − t) / (p (1 − p)) / N": [(losses.bce, "* p.size => * len(p)")],
    "BCE: refuses p outside (0, 1)": [(losses.bce, "p > 0) => p >= 0)")],
    "BCE of logits: L": [(losses._cross_entropies, "xp.maximum(logits, 0) => xp.abs(logits)")],
    "BCE of logits: dl = (σ(l) − t) / N": [
        (losses.bce_with_logits, "logits.size => len(logits)")
    ],
    "BCE of logits: finite and right at ±1e4": [
        (losses._cross_entropies, "-xp.abs(logits) => -logits"),
    ],
    "BCE of logits = BCE after sigmoid": [(Sigmoid.forward, "return y, y => return y, x")],
    "Adam: θ ← θ − α m̂ / (√v̂ + ε)": [
        (Adam.step, "self.beta1**self.t => self.beta1"),
        (Adam.step, "self.beta2**self.t => self.beta2"),
        (optim._update, "step += epsilon => pass"),
        (optim._update, "step += epsilon => step = xp.sqrt(V + epsilon)"),
    ],
    "Adam: m below 1e-30 left out, ≤ α β₁ m / ε": [(optim._flush, "abs(M) >= => abs(M) / 10 >=")],
    "phase 1: L = BCE(decoder(z), x)": [
        (losses.bce_with_logits, "losses.mean() => losses.sum()"),
        (Model.reconstruction_gradient, "forward(codes, rng) => forward(codes)"),
    ],
    "phase 1: dL by encoder and decoder": [
        (Dense.parameter_gradients, "x = cache => x = cache * (1 + 1e-3 * (cache == cache[0, 0]))"),
        (Model.reconstruction_gradient, "backward(dcodes => backward(-dcodes"),
    ],
    "phase 1: moves nothing else": [
        (Model.reconstruction_gradient, "return loss => self.gradient[-1] += 1; return loss")
    ],
    "phase 2: L = BCE(D(z*), 1) + BCE(D(z), 0)": [
        (Model.discriminator_gradient, "[:n], 1.0 => [:n], 0.0"),
    ],
    "phase 2: dL by discriminator": [
        (Model.discriminator_gradient, "(dreal, dfake) => (dfake, dreal)")
    ],
    "phase 2: moves nothing else": [
        (Model.discriminator_gradient, "return real => self.gradient[0] += 1; return real")
    ],
    "phase 3: L = BCE(D(z), 1)": [
        (Model.generator_gradient, "logits, 1.0 => logits, 0.0"),
    ],
    "phase 3: dL by encoder, through D": [
        (Dense.parameter_gradients, LEFT_OVER),
        (Model.generator_gradient, "backward(dlogits => backward(-dlogits"),
    ],
    "phase 3: moves nothing else, D least of all": [
        (Model.generator_gradient, ", parameters=False => ")
    ],
    "phase 2 with labels: L": [(Model.draw_prior, "if labels is None => if True")],
    "phase 3 with labels: L": [
        (Model.generator_gradient, "_beside(codes, labels) => _beside(codes, self.xp.flip(labels))")
    ],
    "phase 3 with labels: dL by encoder": [
        (Model.generator_gradient, "[:, : self.code_size] => [:, -self.code_size :]")
    ],
    "step: phases 1, 2, 3, each then moved": [
        (Model.step, "self.discriminator_adam => self.generator_adam"),
        (Model.step, "encoder_caches, rng, labels => encoder_caches, None, labels"),
    ],
    "decode: σ(decoder(z)), dropout off": [(Model._decode, "sigmoid(self.xp, => (")],
    "ln softmax: l − ln Σ exp(l)": [
        (categorical.log_softmax, "logits.max(axis=axis, keepdims=True) => 0"),
        (categorical.log_softmax, "xp.exp(shifted).sum(axis=axis => xp.exp(shifted).sum(axis=1"),
    ],
    "softmax: p = exp(l) / Σ exp(l)": [(categorical.softmax, "xp.exp( => (")],
    "softmax's cross-entropy: L": [(categorical.softmax_cross_entropy, "-(log_p => (log_p")],
    "softmax's cross-entropy: dl = (p − t) / n": [
        (categorical.softmax_cross_entropy, "type(len(logits)) => type(logits.size)"),
        (categorical.softmax_cross_entropy, "xp.exp(log_p) - one_hot => xp.exp(log_p)"),
    ],
    "divergence: KL = Σ p (ln p − ln q) / n": [
        (categorical.divergence, "(log_p - log_q) => -log_q"),
        (categorical.divergence, ".sum(axis=1).mean() => .mean()"),
    ],
    "divergence: dl = (q − p) / n": [
        (categorical.divergence, "xp.exp(log_q) - p => p - xp.exp(log_q)"),
        (categorical.divergence, "type(len(logits)) => type(logits.size)"),
    ],
    "information: I = Σ q (ln q − ln q̄) / n": [
        (categorical.information, "+ xp.log(n) => + 0"),
        (categorical.information, "axis=0 => axis=1"),
    ],
    "information: dl = q (g − Σ q g) / n": [
        (categorical.information, "(gain - of_row) => gain"),
        (categorical.information, "of_row) / n => of_row)"),
    ],
    "two heads: softmax, and the rest": [(PartialSoftmax.forward, "x[:, k:]), => x[:, k:] * 2),")],
    "two heads: dl = p · (dp − Σ p dp)": [
        (PartialSoftmax.backward, "(dp - (p * dp).sum(axis=1, keepdims=True)) => dp"),
        (PartialSoftmax.backward, "(p * dp).sum => dp.sum"),
    ],
    "noise: N(x, std²), and off, x": [
        (Noise.forward, "y *= self.std => y *= self.std**2"),
        (Noise.forward, "rng is None or self.std == 0 => self.std == 0"),
    ],
    "noise: dx = dy": [(Noise.backward, "return dy => return dy * self.std")],
    "batch norm: y = γ (x − μ) / s + β": [
        (BatchNorm.forward, "((x - mean) ** 2).mean => (x**2).mean")
    ],
    "batch norm: its running averages": [
        (BatchNorm.forward, "self.share * (variance => self.share**2 * (variance"),
    ],
    "batch norm: dx": [
        (BatchNorm.backward, "d -= d.mean(axis=0) => d -= 0"),
        (BatchNorm.backward, "d -= normal * along => d -= 0"),
        (BatchNorm.backward, "self.gamma * dy => dy"),
    ],
    "batch norm: off, dx = γ dy / s": [(BatchNorm.backward, "if of_the_batch => if True")],
    "batch norm: dγ, dβ": [(BatchNorm.parameter_gradients, "dy * normal => dy * normal**2")],
    "side by side: y": [(SideBySide.forward, "x, self.ends => x[:, ::-1], self.ends")],
    "side by side: dx, and dW, db of each": [
        (SideBySide.backward, "dy[:, i : i + 1] => dy[:, :1]")
    ],
    "repulsion: Σ max(0, η − ‖wᵢ − wⱼ‖)": [(categorical.repulsion, ".sum() / 2 => .sum()")],
    "repulsion: dW": [(categorical.repulsion, "return loss, - => return loss, 2 * -")],
    "categories, phase 1: dL, by γ and β too": [
        (BatchNorm.backward, "d -= d.mean(axis=0) => d -= 0"),
        (BatchNorm.parameter_gradients, "sum(dy, axis => sum(normal, axis"),
    ],
    "categories, phase 3: dL through both D": [
        (SideBySide.backward, "dy[:, i : i + 1] => dy[:, :1]"),
        (PartialSoftmax.backward, "dlogits, dy[:, k:] => dlogits, 0 * dy[:, k:]"),
    ],
    "phase 4: L = −ln y_label": [
        (Categorical.classification_gradient, "categories], labels => categories], 0 * labels")
    ],
    "phase 4: dL by encoder": [
        (Categorical.classification_gradient, "_style(dlogits) => _style(-dlogits)"),
        (Categorical._without_style, "xp.zeros( => xp.ones("),
    ],
    "own samples: σ(decoder(y*, z*)) and y*": [
        (Categorical.own_samples, "sigmoid(self.xp, => ("),
        (Categorical.own_samples, "argmax => argmin"),
    ],
    "phase 5: r along dKL(y ‖ y(x + r))": [
        (Categorical.perturb, "x + PROBE * => x + 100 * PROBE *"),
        (Categorical.perturb, "_unit_rows(xp, dx) => dx"),
        (Categorical.perturb, "_unit_rows(xp, dx) => _unit_rows(xp, -dx)"),
        (Categorical.perturb, "layers[1:-1] => layers[:-1]"),
    ],
    "phase 5: L = KL(y ‖ q) − w I(q)": [
        (Categorical.smoothness_gradient, "loss - weight * gained => loss + weight * gained"),
        (Categorical.smoothness_gradient, "layers[1:-1] => layers[:-1]"),
    ],
    "phase 5: dL by encoder": [
        (Categorical.smoothness_gradient, "dlogits - weight => dlogits + weight"),
        (Categorical._without_style, "xp.zeros( => xp.ones("),
    ],
    "train: a record is a mean over images": [(training._epochs, "weights=sizes => weights=None")],
    "train: every image once an epoch, shuffled": [
        (training._one_epoch, "start + batch_size] => start + batch_size - 1]"),
        (training._one_epoch, "labels[batch] => labels[start : start + batch_size]"),
        (training._one_epoch, ".permutation(n) => .integers(n, size=n)"),
        (training._one_epoch, "backend.SHUFFLE, epoch => backend.SHUFFLE, 1"),
    ],
    "evaluate: BCE by pixel, codes' mean and sd": [
        (training.evaluate, "+= loss * len(x) => += loss"),
        (training.evaluate, "z.std(axis=0) => z.std(axis=0, ddof=1)"),
    ],
    "Gaussian: N(0, std² I)": [
        (priors.gaussian.__call__, "self.std * rng => self.std + rng"),
        (priors.gaussian.__call__, "(n, dim)) => (n, 1)).repeat(dim, axis=1)"),
    ],
    "square: uniform": [(priors.uniform_square.__call__, "- 0.5 => - 0.4")],
    "disc: uniform in direction and volume": [
        (priors.uniform_disc.__call__, " ** (1 / dim) => "),
        (priors.uniform_disc.__call__, " / length => "),
    ],
    "mixture: sd outwards and across": [
        (priors.gaussian_mixture.at, SWAPPED),
    ],
    "mixture: equally many of each": [
        (priors.gaussian_mixture.at, "position * self => position**2 * self")
    ],
    "roll: at s, normal around the spiral": [(priors.swiss_roll.at, "self.std * => self.std**2 *")],
    "roll: √s, even along the spiral": [(priors.swiss_roll.at, "xp.sqrt(position) => position")],
    "moments: mean and covariance": [(metrics.moments, "/ len(z) => / (len(z) - 1)")],
    "energy distance": [(metrics.energy_test, "2 / (n * m) => 1 / (n * m)")],
    "energy test: threshold, p": [(metrics.energy_test, "0.95 => 0.5")],
    "Parzen: ln p(x)": [
        (metrics.parzen_log_likelihood, ".ravel() => .ravel() * 0"),
        (metrics._parzen_log_likelihoods, "2 * pi * h**2 => 2 * pi * h"),
    ],
    "nearest neighbours: the vote": [(metrics.neighbour_accuracy, "[:, :k] => [:, :1]")],
    "clusters: named by the surest image": [(metrics.cluster_names, "argmax(axis => argmin(axis")],
    "standard error of blocks": [(metrics.block_standard_error, "(blocks - 1) => blocks")],
}  # fmt: skip


@pytest.mark.parametrize(
    ("formula", "function", "change"),
    [(formula, *bug) for formula, bugs in BUGS.items() for bug in bugs],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_planted_bug_turns_its_row_red(monkeypatch, formula, function, change):
    right, wrong = change.split(" => ")
    function = inspect.unwrap(function)
    source = textwrap.dedent(inspect.getsource(function))
    assert source.count(right) == 1
    namespace = dict(vars(sys.modules[function.__module__]))
    exec(source.replace(right, wrong), namespace)
    changed = inspect.unwrap(namespace[function.__name__])
    monkeypatch.setattr(function, "__code__", changed.__code__)  # wherever it was imported to
    assert not audit.examine(BY_FORMULA[formula], cases=20).holds


def test_layers_of_ones_own_are_judged_by_the_same_rows(monkeypatch):
    class Own(Dense):
        def backward(self, dy, cache):
            return dy.dot(self.W.transpose()) * factor

    monkeypatch.setattr(audit, "layers", SimpleNamespace(**vars(layers) | {"Dense": Own}))
    for factor in (1, 1.001):
        assert audit.examine(BY_FORMULA["dense: dx = dy Wᵀ"], cases=3).holds == (factor == 1)


def test_a_layer_that_keeps_its_input_turns_the_row_of_caches_red(monkeypatch):
    class Keeping(Dense):
        def forward(self, x, rng=None):
            self.kept = x
            return super().forward(x, rng)

        def parameter_gradients(self, dy, cache):
            super().parameter_gradients(dy, self.kept)

    monkeypatch.setattr(audit, "layers", SimpleNamespace(**vars(layers) | {"Dense": Keeping}))
    row = BY_FORMULA["every layer: backward uses its own forward"]
    assert not audit.examine(row, cases=3).holds


# The program


def run_audit(package):
    environment = os.environ | {"PYTHONPATH": str(package), "PYTHONIOENCODING": "utf-8"}
    command = [sys.executable, str(EXAMPLES / "audit.py")]
    options = {"capture_output": True, "encoding": "utf-8", "timeout": 600, "env": environment}
    return subprocess.run(command, **options)


@pytest.mark.slow
def test_the_audit_prints_every_row_and_exits_0():
    process = run_audit(EXAMPLES.parent)
    assert (process.returncode, process.stderr) == (0, "")
    lines = process.stdout.splitlines()
    assert len(lines) == 1 + len(audit.ROWS)
    assert all(line.rstrip().endswith("holds") for line in lines[1:])


@pytest.mark.slow
def test_a_line_broken_in_the_source_is_named_and_the_audit_exits_1(tmp_path):
    ignored = shutil.ignore_patterns("sample", "__pycache__")
    shutil.copytree(EXAMPLES.parent / "npaae", tmp_path / "npaae", ignore=ignored)
    source = tmp_path / "npaae" / "layers.py"
    right = source.read_text(encoding="utf-8")
    source.write_text(right.replace("dy @ self.W.T", "dy @ self.W"), encoding="utf-8")
    process = run_audit(tmp_path)
    assert process.returncode == 1
    assert "dense: dx = dy Wᵀ" in process.stderr
    assert "ValueError" in process.stdout


def test_the_table_names_the_line_of_each_formula_and_may_be_markdown(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["audit.py", "--markdown"])
    monkeypatch.setattr(audit, "examine", partial(audit.examine, cases=2))
    audit.main()
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == "| --- | --- | --- | --- | --- | --- | --- |"
    assert all(line.count("|") == 8 for line in lines)
    number = inspect.getsourcelines(Dense.backward)[1]
    assert any("dx = dy Wᵀ" in line and f"npaae/layers.py:{number} |" in line for line in lines)
