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

from npaae import categorical, gradcheck, layers, losses, metrics, model, optim, priors, training

from ..running import EXAMPLES
from ..strategies import seeds, some

import audit  # isort: skip  # an example


BY_ID = {row.id: row for row in audit.ROWS}


def test_identifiers_are_unique():
    assert len(BY_ID) == len(audit.ROWS)


every_row = pytest.mark.parametrize("row", audit.ROWS, ids=lambda row: row.id)


def holds(row, seed, is_real):
    """Whether the row finds no error in the case with this seed, which is small or of real size."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(audit, "is_real", lambda rng: is_real)
        try:
            error = row.check(np.random.default_rng(seed))
        except gradcheck.Kink:
            reject()
    return error <= row.limit


@every_row
@some(0.1)
@given(seed=seeds)
def test_every_formula_holds(row, seed):
    assert holds(row, seed, is_real=False)


@every_row
@some(0.02)
@given(seed=seeds)
def test_every_formula_holds_at_real_size(row, seed):
    assert holds(row, seed, is_real=True)


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
ClusterHeads = categorical.layers.ClusterHeads

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
    "relu.dx": [(layers._where_positive, "(x > 0) => (xp.maximum(x, 0) >= 0)")],
    "relu.zero": [
        (layers._where_positive, "(x > 0) => (x >= 0)"),
        (layers._where_positive, "return dy * (x > 0) => dy *= x > 0; return dy"),
    ],
    "sigmoid.y": [(layers.sigmoid, "x >= 0 => x < 0")],
    "sigmoid.extremes": [(layers.sigmoid, "-xp.abs(x) => -x")],
    "sigmoid.dx": [(Sigmoid.backward, "(y * (1 - y)) => y")],
    "dropout.dx": [(Dropout.backward, "dy if mask is None else dy * mask => dy")],
    "dropout.scale": [
        (Dropout.forward, "2**16 / (2**16 - self.threshold) => 1")
    ],
    "dropout.rate": [(layers._drop, "words >= least => words < least")],
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
        (Sequential.backward, "parameters and learns(layer) => learns(layer)"),
        (Sequential.backward, "return None => return caches"),
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
    "labels.phase2.gradient": [
        (Model.discriminator_gradient, "(dreal, dfake) => (dfake, dreal)")
    ],
    "labels.phase2.value": [(Model._draw_from, "if labels is None => if True")],
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
    "model.rates": [
        (Model.networks, "self.network(decoder, rate) => self.network(decoder, discriminators)"),
        (Model._adam, "learning_rate, **others) => learning_rate, beta2=0.99, **others)"),
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
        (BatchNorm.forward, "self.momentum * (variance => self.momentum**2 * (variance"),
    ],
    "batch_norm.dx": [
        (BatchNorm.backward, "d -= d.mean(axis=0) => d -= 0"),
        (BatchNorm.backward, "d -= x_hat * along => d -= 0"),
        (BatchNorm.backward, "self.gamma * dy => dy"),
    ],
    "batch_norm.off": [(BatchNorm.backward, "if of_the_batch => if True")],
    "batch_norm.dbeta": [(BatchNorm.parameter_gradients, "sum(dy, axis => mean(dy, axis")],
    "batch_norm.dgamma": [(BatchNorm.parameter_gradients, "dy * x_hat => dy * x_hat**2")],
    "side_by_side.y": [(SideBySide.forward, "x, self.ends => x[:, ::-1], self.ends")],
    "side_by_side.dx": [(SideBySide.backward, "(column, => (columns[0],")],
    "side_by_side.parameters": [
        (SideBySide.backward, "(column, => (columns[0],"),
        (SideBySide.backward, "=parameters, => =network is not self.layers[2],"),
    ],
    "cluster_heads.y": [(ClusterHeads.forward, "e += z => pass")],
    "cluster_heads.dx": [(ClusterHeads.backward, "cache), dy) => cache), 2 * dy)")],
    "cluster_heads.dW": [(Dense.parameter_gradients, LEFT_OVER)],
    "cluster_heads.db": [(Dense.parameter_gradients, "xp.sum => xp.mean")],
    "repulsion.value": [
        (categorical.losses.repulsion, ".sum() / 2 => .sum()"),
        (categorical.losses.repulsion, "~xp.eye(len(W), dtype=bool) => (length > 0)"),
    ],
    "repulsion.gradient": [(categorical.losses.repulsion, "return loss, - => return loss, 2 * -")],
    "categories.prior": [
        (Categorical.draw_prior, "self.categories, (n, 1)) => max(1, self.categories - 1), (n, 1))")
    ],
    "heads.phase1.value": [
        (Categorical.reconstruction_gradient, "loss + REPULSION => loss - REPULSION")
    ],
    "heads.phase1.gradient": [
        (Categorical.reconstruction_gradient, "+= REPULSION => -= REPULSION")
    ],
    "categories.phase2.value": [
        (Model.discriminator_gradient, "return real_loss => return 2 * real_loss")
    ],
    "categories.phase2.gradient": [(SideBySide.backward, "(column, => (columns[0],")],
    "categories.phase1.gradient": [
        (BatchNorm.backward, "d -= d.mean(axis=0) => d -= 0"),
        (BatchNorm.parameter_gradients, "sum(dy, axis => sum(normal, axis"),
    ],
    "categories.phase3.gradient": [
        (SideBySide.backward, "(column, => (columns[0],"),
        (PartialSoftmax.backward, "dlogits, dy[:, k:] => dlogits, 0 * dy[:, k:]"),
    ],
    "phase4.value": [
        (Categorical.classification_gradient, "categories], labels => categories], 0 * labels")
    ],
    "phase4.gradient": [
        (Categorical.classification_gradient, "_style(dlogits) => _style(-dlogits)"),
        (Categorical._without_style, "xp.zeros( => xp.ones("),
    ],
    "phase4.isolation": [
        (Categorical.classification_gradient, "return loss => self.gradient[-1] += 1; return loss")
    ],
    "phase5.isolation": [
        (Categorical.smoothness_gradient, "return loss => self.gradient[-1] += 1; return loss")
    ],
    "categories.step": [
        (Categorical.step, "self.classification_adam => self.generator_adam"),
        (Categorical.step, "self.perturb(x, rng) => self.perturb(images, rng)"),
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
        (Model.labels_of_batches, "else labels[batch] => else labels[: len(batch)]"),
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

REPEATED = "[:, [i if i < 2 else 0 for i in range(dim)]]"
EARLY = "* (self.xp.arange(len(dy)) < 64)[:, None]"

# Bugs that are right for a few rows, categories or dimensions and wrong for a real batch.
BUGS_AT_REAL_SIZE = {
    "dense.y": [(Dense.forward, "y += self.b => y[:64] += self.b")],
    "dense.dx": [(Dense.backward, f"dy @ self => dy {EARLY} @ self")],
    "dense.dW": [(Dense.parameter_gradients, "matmul(x.T, dy => matmul(x[:128].T, dy[:128]")],
    "dense.db": [(Dense.parameter_gradients, "xp.sum(dy => xp.sum(dy[:100]")],
    "relu.dx": [(ReLU.backward, f"self.xp, dy, => self.xp, dy {EARLY},")],
    "sigmoid.dx": [(Sigmoid.backward, f"return dy => return dy {EARLY}")],
    "dropout.independence": [
        (Dropout.forward, "words = random_words(self.xp, rng, x.shape) => words = self.xp.resize("
         "random_words(self.xp, rng, (64, *x.shape[1:])), x.shape)"),
    ],
    "dropout.scale": [
        (layers._drop, "(words >= least) * scale => (words >= least) * scale; "
         "mask[64:] *= 1.01"),
    ],
    "network.parameters": [(Dense.parameter_gradients, "sum(dy, axis => sum(dy[:64], axis")],
    "network.dx": [(layers._where_positive, "(x > 0) => (x > 0) * (xp.arange(x.shape[1]) < 64)")],
    "bce.value": [(losses.bce, ").mean() => )[:64].mean()")],
    "bce.gradient": [(losses.bce, "* p.size => * min(p.size, 64)")],
    "bce_with_logits.value": [(losses.bce_with_logits, "losses.mean() => losses[:100].mean()")],
    "bce_with_logits.gradient": [
        (losses.bce_with_logits, "t, logits.size => t, min(logits.size, 64)")
    ],
    "adam.step": [
        (Adam.step, "self.m, self.v) => self.m, self.v); vectors = [v[: 2**15] for v in vectors]"),
        (optim._update, "step *= rate => step *= rate * (len(step) in (5, 2**15))"),
    ],
    "phase1.value": [
        (losses.bce_with_logits, "losses.mean() => losses[:64].mean()"),
    ],
    "phase1.gradient": [(Dense.parameter_gradients, "matmul(x.T, dy => matmul(x[:64].T, dy[:64]")],
    "phase2.gradient": [
        (Model.discriminator_gradient, "(dreal, dfake) => (dreal * (len(dreal) < 64), dfake)")
    ],
    "phase3.gradient": [
        (Model.generator_gradient, "dinputs[:, : self.code_size] => dinputs[:, : min(self.code_size"
         ", 64)] * (self.xp.arange(len(dinputs)) < 64)[:, None]"),
    ],
    "labels.phase2.value": [
        (Model._draw_from, "(labels + u) / self.classes, u) => "
         "(self.xp.minimum(labels, 9) + u) / self.classes, u)"),
    ],
    "decode.images": [(Model._in_pieces, "rows[i : i + ROWS_AT_ONCE] => rows[:ROWS_AT_ONCE]")],
    "log_softmax.y": [
        (categorical.layers.log_softmax, "xp.exp(shifted).sum => xp.exp(shifted[:, :16]).sum")
    ],
    "softmax.y": [
        (categorical.layers.softmax, "log_softmax(xp, logits) => log_softmax(xp, logits[:, :30])")
    ],
    "cross_entropy.value": [
        (categorical.losses.softmax_cross_entropy, "sum(axis=1).mean => sum(axis=1)[:100].mean")
    ],
    "cross_entropy.gradient": [
        (categorical.losses.softmax_cross_entropy, "(len(logits)) => (min(len(logits), 50))")
    ],
    "divergence.value": [
        (categorical.losses.divergence, ".sum(axis=1).mean() => .sum(axis=1)[:100].mean()")
    ],
    "divergence.gradient": [
        (categorical.losses.divergence, "type(len(logits)) => type(min(len(logits), 100))")
    ],
    "information.value": [
        (categorical.losses.information, "type(len(logits)) => type(min(len(logits), 64))")
    ],
    "information.gradient": [
        (categorical.losses.information, "axis=1, keepdims=True) => axis=1, keepdims=True); "
         "of_row[64:] = 0"),
    ],
    "repulsion.value": [(categorical.losses.repulsion, "W[:, None] - W => W[:10, None] - W[:10]")],
    "repulsion.gradient": [
        (categorical.losses.repulsion, "xp.where(length > 0, length, 1) => "
         "xp.where(length > 0, length, 1) * (xp.arange(len(W)) < 10)"),
    ],
    "partial_softmax.y": [
        (PartialSoftmax.forward, "x[:, :k]), x[:, k:] => x[:, : min(k, 16)]), x[:, min(k, 16) :]")
    ],
    "partial_softmax.dx": [(PartialSoftmax.backward, "(p * dp).sum => (p * dp)[:, :16].sum")],
    "noise.y": [
        (Noise.forward, "y *= self.std => y[64:] = np.resize(y[:64], y[64:].shape); y *= self.std")
    ],
    "batch_norm.y": [(BatchNorm.forward, "x.mean(axis=0) => x[:64].mean(axis=0)")],
    "batch_norm.dx": [(BatchNorm.backward, "d.mean(axis=0) => d[:64].mean(axis=0)")],
    "batch_norm.dbeta": [(BatchNorm.parameter_gradients, "sum(dy, axis => sum(dy[:64], axis")],
    "side_by_side.dx": [
        (SideBySide.backward, f"backward(column, => backward(column {EARLY},")
    ],
    "cluster_heads.y": [(ClusterHeads.forward, "e += z => e[:64] += z[:64]")],
    "cluster_heads.dW": [(Dense.parameter_gradients, "matmul(x.T, dy => matmul(x[:99].T, dy[:99]")],
    "categories.prior": [
        (Categorical.draw_prior, "self.categories, (n, 1)) => min(self.categories, 16), (n, 1))"),
        (Categorical.draw_prior, "(rng, n) => (rng, n); style[:, 2:] = style[:, :1]"),
    ],
    "categories.phase1.gradient": [
        (BatchNorm.parameter_gradients, "sum(dy, axis => sum(dy[:64], axis")
    ],
    "phase4.gradient": [
        (categorical.losses.softmax_cross_entropy, "(len(logits)) => (min(len(logits), 50))")
    ],
    "own_samples.images": [
        (Categorical.own_samples, ": self.categories] => : min(self.categories, 16)]")
    ],
    "perturb.direction": [
        (categorical.model._unit_rows, "return x / => length[64:] = 1; return x /"),
        (Categorical.perturb, "logits[:, :k]) => logits[:, :k]); dlogits[64:] = 0"),
    ],
    "phase5.value": [
        (categorical.losses.information, "type(len(logits)) => type(min(len(logits), 64))")
    ],
    "train.images": [(training._one_epoch, ".permutation(n) => .permutation(n) % 500")],
    "gaussian.samples": [
        (priors.gaussian.__call__, f"(n, dim)) => (n, dim)){REPEATED}")
    ],
    "uniform_square.samples": [
        (priors.uniform_square.__call__, f"(n, dim)) => (n, dim)){REPEATED}")
    ],
    "uniform_disc.samples": [
        (priors.uniform_disc.__call__,
         f"(n, dim)) => (n, dim)){REPEATED}"),
    ],
    "gaussian_mixture.sample_at": [
        (priors.gaussian_mixture.sample_at, "pi / self.components => pi / min(self.components, 10)")
    ],
    "gaussian_mixture.samples": [
        (priors.gaussian_mixture.sample_at, "xp.floor(position * self.components) => "
         "(xp.floor(position * self.components) % 10)"),
    ],
    "moments.values": [(metrics.moments, "/ len(z) => / min(len(z), 64)")],
    "energy_test.distance": [(metrics.energy_test, "2 / (n * m) => 2 / (min(n, 64) * m)")],
    "energy_test.p": [
        (metrics.energy_test, "rng.permutation(given) => "
         "np.append(rng.permutation(given[:50]), given[50:])"),
    ],
    "parzen.density": [
        (metrics._parzen_log_likelihoods, "-700)).mean => -700))[:, :64].mean")
    ],
    "neighbours.vote": [
        (metrics.neighbour_accuracy, "squared, k - 1 => squared[:, :99], min(k - 1, 98)")
    ],
    "cluster_names.names": [
        (metrics.cluster_names, "confidences.argmax => confidences[:100].argmax")
    ],
}  # fmt: skip


def test_every_row_has_a_planted_bug():
    assert set(BUGS) == set(BY_ID)


@pytest.mark.parametrize(
    ("row", "function", "change"),
    [(row, *bug) for bugs in (BUGS, BUGS_AT_REAL_SIZE) for row in bugs for bug in bugs[row]],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_planted_bug_turns_its_row_red(monkeypatch, row, function, change):
    right, wrong = change.split(" => ")
    function = inspect.unwrap(function)
    source = textwrap.dedent(inspect.getsource(function))
    assert source.count(right) == 1
    namespace = dict(vars(sys.modules[function.__module__]))
    # In a function, because a method that calls super() refers to its class as __class__.
    source = f"{source.replace(right, wrong)}\nreturn {function.__name__}"
    exec(f"def plant(__class__):\n{textwrap.indent(source, '    ')}", namespace)
    changed = inspect.unwrap(namespace["plant"](None))
    monkeypatch.setattr(function, "__code__", changed.__code__)  # wherever it was imported to
    assert not audit.examine(BY_ID[row]).holds


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


def test_an_unknown_row_is_refused(audit_in_two_cases, capsys):
    with pytest.raises(SystemExit):
        audit_in_two_cases("dens")
    assert "ID" in capsys.readouterr().err


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
    source.write_text(right.replace("dy @ self.W.T", "dy @ self.W.T[1:]"), encoding="utf-8")
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
