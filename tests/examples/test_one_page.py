"""The model on one page is the package's model, to the last digits."""

import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import npaae
from npaae.backend import random_words
from npaae.layers import named_parameters

PAGE = Path(__file__).resolve().parents[2] / "examples" / "one_page.py"
NETWORKS = ("encoder", "decoder", "discriminator")


class PackagesRandomNumbers:
    """A generator that decides what dropout drops by the 16-bit words that the package draws."""

    def __init__(self, rng):
        self.rng = rng
        self.standard_normal = rng.standard_normal

    def random(self, shape):
        return random_words(np, self.rng, shape) / 2**16


def parameters_of_both(page, model):
    """(on the page, in the package) for every parameter, in the order of the networks."""
    pages = [p for name in NETWORKS for p in page["Adam"](page[name], 1.0).parameters]
    named = [n for name in NETWORKS for n in named_parameters(getattr(model, name))]
    return list(zip(pages, [getattr(layer, name) for _, layer, name in named], strict=True))


def test_it_is_one_page_of_numpy():
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 100
    imports = [line.split()[1] for line in lines if line.startswith(("import ", "from "))]
    assert {name.partition(".")[0] for name in imports} - sys.stdlib_module_names == {"numpy"}


def test_ten_steps_from_the_same_weights_and_random_numbers_end_where_the_packages_do():
    page = runpy.run_path(str(PAGE))
    for name in NETWORKS:  # the package rounds rates to 16 bits
        page[name][:] = [
            (layer, round(arguments[0] * 2**16) / 2**16)
            if layer is page["dropout"]
            else (layer, *arguments)
            for layer, *arguments in page[name]
        ]
    model = npaae.AdversarialAutoencoder(dtype="float64")
    for own, packages in parameters_of_both(page, model):
        packages[...] = own
    page["step"].__globals__["rng"] = PackagesRandomNumbers(np.random.default_rng(1))
    rng = np.random.default_rng(1)
    digits = npaae.data.mnist_sample().train_images[:1000].reshape(10, 100, 784) / 255
    for x in digits:
        assert page["step"](x) == pytest.approx(model.step(x, rng), rel=0, abs=1e-12)
    for own, packages in parameters_of_both(page, model):
        np.testing.assert_allclose(own, packages, rtol=0, atol=1e-12)


@pytest.mark.slow
def test_it_trains_from_any_folder(tmp_path):
    run = subprocess.run(
        [sys.executable, PAGE], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    rows = [line.strip("]").split("[")[1].split() for line in run.stdout.splitlines()]
    reconstruction = [float(row[0]) for row in rows]
    assert reconstruction == sorted(reconstruction, reverse=True)
    assert reconstruction[-1] < 0.23
