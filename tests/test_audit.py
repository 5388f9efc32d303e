"""Tests of the tests: famous bugs are planted, and the audit must see each, in the row where a reader would look."""

import importlib.util
import inspect
import os
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import npaae
from npaae import layers, losses, model, network, optim
from npaae.layers import Dense, Dropout, ReLU

PROJECT = Path(__file__).resolve().parents[1]
specification = importlib.util.spec_from_file_location("audit", PROJECT / "examples" / "audit.py")
audit = importlib.util.module_from_spec(specification)
specification.loader.exec_module(audit)


def red_rows():
    return {row.formula for row in audit.ROWS if not audit.examine(row, cases=20).holds}


def test_as_it_stands_every_row_holds():
    assert red_rows() == set()


def test_every_derivative_of_the_package_has_a_row():
    derivatives = {
        f"{owner.__name__}.{name}"
        for module in (layers, network, model)
        for owner in vars(module).values()
        if inspect.isclass(owner) and owner.__module__ == module.__name__ and not getattr(owner, "_is_protocol", False)
        for name in vars(owner)
        if name == "backward" or name.endswith(("_gradient", "_gradients"))
    } | {
        name
        for name, function in vars(losses).items()
        if getattr(function, "__module__", "") == losses.__name__ and not name.startswith("_")
    }
    assert len(derivatives) == 11
    audited = {getattr(row.code, "__qualname__", "") for row in audit.ROWS}
    assert derivatives <= audited
    assert "Adam.step" in audited


# The bugs, each in the place of the right code


def dropout_without_its_scale(self, x, rng=None):
    if rng is None or self.rate == 0:
        return x, None
    mask = (rng.random(x.shape) >= self.rate).astype(x.dtype)
    return x * mask, mask


def dropout_backward_that_forgets_the_mask(self, dy, cache):
    return dy


def relu_that_asks_its_output(self, x, rng=None):
    y = np.maximum(x, 0)
    return y, y


def relu_backward_that_lets_zero_pass(self, dy, cache):
    return dy * (cache >= 0)


def stale_relu_forward(self, x, rng=None):
    self.x = x
    return np.maximum(x, 0), None


def stale_relu_backward(self, dy, cache):
    return dy * (self.x > 0)


def averaged_db(self, dy, cache):
    self.dW[...] = cache.T @ dy
    self.db[...] = dy.mean(axis=0)


def transposed_db(self, dy, cache):
    self.dW[...] = cache.T @ dy
    self.db[...] = dy.sum(axis=1)


def left_over_gradient(self, dy, cache):
    self.dW += cache.T @ dy
    self.db += dy.sum(axis=0)


def one_entry_wrong_by_a_thousandth(self, dy, cache):
    self.dW[...] = cache.T @ dy
    self.dW[0, 0] *= 1.001
    self.db[...] = dy.sum(axis=0)


def adam_with_the_correction_of_step_one(self):
    self.t += 1
    m, v = (1 - self.beta1) * (self.beta1 * self.M + self.gradient), self.beta2 * self.V + self.gradient**2
    self.M[...], self.V[...] = m / (1 - self.beta1), v
    m, v = m / (1 - self.beta1), (1 - self.beta2) * v / (1 - self.beta2)
    self.parameters -= self.learning_rate * m / (np.sqrt(v) + self.epsilon)


def generator_that_moves_the_discriminator(self, codes, encoder_caches, rng, labels=None):
    logits, caches = self.discriminator.forward(codes, rng)
    loss, dlogits = losses.bce_with_logits(self.xp, logits, 1.0)
    self.encoder.backward(self.discriminator.backward(dlogits, caches), encoder_caches, inputs=False)
    return loss


def generator_that_saturates(self, codes, encoder_caches, rng, labels=None):
    logits, caches = self.discriminator.forward(codes, rng)
    loss, dlogits = losses.bce_with_logits(self.xp, logits, 0.0)
    self.encoder.backward(self.discriminator.backward(-dlogits, caches, parameters=False), encoder_caches, inputs=False)
    return -loss


def swapped_labels(self, codes, rng, labels=None):
    real, n = self.draw_prior(rng, len(codes)), len(codes)
    logits, caches = self.discriminator.forward(np.concatenate((real, codes)), rng)
    t = np.repeat([[0.0], [1.0]], n, axis=0)
    loss, dlogits = losses.bce_with_logits(np, logits, t)
    self.discriminator.backward(2 * dlogits, caches, inputs=False)
    return 2 * loss


def prior_that_ignores_the_labels(self, rng, n, labels=None):
    return self.prior(rng, n, self.latent)


def generator_that_is_told_the_wrong_labels(self, codes, encoder_caches, rng, labels=None):
    return right_generator_gradient(self, codes, encoder_caches, rng, None if labels is None else labels[::-1])


def relu_backward_that_spoils_its_argument(self, dy, cache):
    dy *= 2 * (cache > 0)
    return dy


def step_that_forgets_an_adam(self, x, rng, labels=None):
    reconstruction = self.reconstruction_gradient(x, rng)
    self.reconstruction_adam.step()
    codes, caches = self.encoder.forward(x, rng)
    discriminator = self.discriminator_gradient(codes, rng)
    generator = self.generator_gradient(codes, caches, rng)
    self.generator_adam.step()
    return reconstruction, discriminator, generator


def forward_that_drops_nothing(self, x, rng=None):
    caches = []
    for layer in self.layers:
        x, cache = layer.forward(x)
        caches.append(cache)
    return x, caches


def sigmoid_that_overflows(xp, x):
    return 1 / (1 + xp.exp(-x))


def summed_loss(xp, logits, t):
    loss, gradient = right_bce_with_logits(xp, logits, t)
    return loss * logits.size, gradient * logits.size


right_bce_with_logits = losses.bce_with_logits
right_generator_gradient = npaae.AdversarialAutoencoder.generator_gradient


@pytest.mark.parametrize(
    ("place", "bugs", "row"),
    [
        (Dropout, {"forward": dropout_without_its_scale}, "dropout: m = 1 / (1 − p), so E[m x] = x"),
        (Dropout, {"backward": dropout_backward_that_forgets_the_mask}, "dropout: dx = m · dy"),
        (
            ReLU,
            {"forward": relu_that_asks_its_output, "backward": relu_backward_that_lets_zero_pass},
            "ReLU: dx = dy · [x > 0]",
        ),
        (ReLU, {"backward": relu_backward_that_lets_zero_pass}, "ReLU: dx = 0 at x = 0"),
        (
            ReLU,
            {"forward": stale_relu_forward, "backward": stale_relu_backward},
            "every layer: backward uses its own forward",
        ),
        (Dense, {"parameter_gradients": averaged_db}, "dense: db = Σᵢ dyᵢ"),
        (Dense, {"parameter_gradients": transposed_db}, "dense: db = Σᵢ dyᵢ"),
        (Dense, {"parameter_gradients": left_over_gradient}, "dense: dW = xᵀ dy"),
        (Dense, {"parameter_gradients": left_over_gradient}, "phase 3: dL by encoder, through D"),
        (Dense, {"parameter_gradients": one_entry_wrong_by_a_thousandth}, "dense: dW = xᵀ dy"),
        (Dense, {"parameter_gradients": one_entry_wrong_by_a_thousandth}, "phase 1: dL by encoder and decoder"),
        (optim.Adam, {"step": adam_with_the_correction_of_step_one}, "Adam: θ ← θ − α m̂ / (√v̂ + ε)"),
        (
            npaae.AdversarialAutoencoder,
            {"generator_gradient": generator_that_moves_the_discriminator},
            "phase 3: moves nothing else, D least of all",
        ),
        (npaae.AdversarialAutoencoder, {"generator_gradient": generator_that_saturates}, "phase 3: L = BCE(D(z), 1)"),
        (npaae.AdversarialAutoencoder, {"discriminator_gradient": swapped_labels}, "phase 2: L = BCE(D(z*), 1) + BCE(D(z), 0)"),
        (npaae.AdversarialAutoencoder, {"draw_prior": prior_that_ignores_the_labels}, "phase 2 with labels: L"),
        (
            npaae.AdversarialAutoencoder,
            {"generator_gradient": generator_that_is_told_the_wrong_labels},
            "phase 3 with labels: L",
        ),
        (ReLU, {"backward": relu_backward_that_spoils_its_argument}, "ReLU: dx = dy · [x > 0]"),
        (npaae.AdversarialAutoencoder, {"step": step_that_forgets_an_adam}, "step: phases 1, 2, 3, each then moved"),
        (network.Sequential, {"forward": forward_that_drops_nothing}, "network: dense, ReLU, dropout, …, dense"),
        (losses, {"sigmoid": sigmoid_that_overflows}, "BCE of logits: finite and right at ±1e4"),
        (model, {"bce_with_logits": summed_loss}, "phase 1: L = BCE(decoder(z), x)"),
    ],
    ids=lambda value: " and ".join(bug.__name__ for bug in value.values()) if isinstance(value, dict) else "",
)
def test_a_planted_bug_turns_its_row_red(monkeypatch, place, bugs, row):
    for name, bug in bugs.items():
        monkeypatch.setattr(place, name, bug)
    assert row in red_rows()


def test_the_planted_adam_is_wrong_in_its_bias_correction_alone():
    theta, right = np.ones((2, 3))
    bugged, adam = (optim.Adam(np, vector, np.full(3, 0.5), 0.1) for vector in (theta, right))
    adam_with_the_correction_of_step_one(bugged)
    adam.step()
    np.testing.assert_allclose(theta, right, rtol=1e-12)  # at the first step the two agree


# The program


def run_audit(*arguments, package=PROJECT):
    environment = os.environ | {"PYTHONPATH": str(package), "PYTHONIOENCODING": "utf-8"}
    command = [sys.executable, str(PROJECT / "examples" / "audit.py"), *arguments]
    return subprocess.run(command, capture_output=True, encoding="utf-8", timeout=120, env=environment)


@pytest.mark.slow
def test_the_audit_prints_every_row_with_its_line_in_the_code_and_exits_0():
    process = run_audit()
    assert (process.returncode, process.stderr) == (0, "")
    lines = process.stdout.splitlines()
    assert len(lines) == 1 + len(audit.ROWS)
    assert all(line.endswith("holds") for line in lines[1:])
    line_number = 1 + (PROJECT / "npaae" / "layers.py").read_text().splitlines().index(
        "    def parameter_gradients(self, dy: Array, cache: Array) -> None:"
    )
    assert f"npaae/layers.py:{line_number} " in process.stdout


def test_the_audit_is_a_table_in_markdown_too(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["audit.py", "--markdown"])
    monkeypatch.setattr(audit, "examine", partial(audit.examine, cases=3))
    audit.main()
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == "| --- | --- | --- | --- | --- | --- | --- |"
    assert all(line.count("|") == 8 for line in lines)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "right", "wrong", "row"),
    [
        ("layers.py", "(1 / (1 - self.rate))", "(1 / 1)", "dropout: m = 1 / (1 − p)"),
        ("layers.py", "dy @ self.W.T", "dy @ self.W", "dense: dx = dy Wᵀ"),
        ("losses.py", "(sigmoid(xp, logits) - t) / count", "(sigmoid(xp, logits) - t) / len(logits)", "BCE of logits"),
    ],
)
def test_a_line_broken_in_the_source_is_named_and_the_audit_exits_1(tmp_path, file, right, wrong, row):
    shutil.copytree(PROJECT / "npaae", tmp_path / "npaae", ignore=shutil.ignore_patterns("sample", "__pycache__"))
    source = (tmp_path / "npaae" / file).read_text()
    assert source.count(right) == 1
    (tmp_path / "npaae" / file).write_text(source.replace(right, wrong))
    process = run_audit(package=tmp_path)
    assert process.returncode == 1
    assert row in process.stderr
    assert "FALLS SHORT" in process.stdout or "Error" in process.stdout
