"""Write the latent plane of a run as one HTML file, RUN_DIR/explore.html: point at the plane and see what it decodes to.

The page holds the decoder's weights and the test images' codes, and decodes in the browser: it needs no server and no network.
"""

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np

from npaae import AdversarialAutoencoder, command_line, experiment
from npaae.data import Dataset
from npaae.errors import InvalidInput
from npaae.files import replacing
from npaae.layers import Dense
from npaae.priors import gaussian

TEMPLATE = Path(__file__).with_name("explore.html")
TITLES = {"mnist": "MNIST", "fashion-mnist": "Fashion-MNIST"}
DRAWS = 3000  # shown of a prior that circles do not describe


def page(title: str, model: AdversarialAutoencoder, dataset: Dataset) -> str:
    """The page as HTML. Raises InvalidInput where the model's code is no plane."""
    if model.latent != 2:
        raise InvalidInput(f"a run with --latent {model.latent} came, and a plane has two dimensions; name one with --latent 2")
    dense = [layer for layer in model.decoder.layers if isinstance(layer, Dense)]
    circles = type(model.prior) is gaussian
    run = {
        "title": title,
        "epochs": model.epoch,
        "sizes": [model.latent, *(layer.b.size for layer in dense)],  # 2, 128, 256, 784
        "parameters": packed(np.concatenate([array.ravel() for layer in dense for array in (layer.W, layer.b)]), "<f4"),
        "codes": packed(model.encode(dataset.test_images), "<f4"),
        "labels": packed(dataset.test_labels, "u1"),
        "label_names": dataset.label_names,
        "prior_std": model.prior.std if circles else None,
        "prior_draws": packed(np.empty(0) if circles else model.sample_prior(DRAWS, seed=0), "<f4"),
    }
    # No text in it can end the script element that holds it, for there is no "<" left.
    return TEMPLATE.read_text(encoding="utf-8").replace("RUN_AS_JSON", json.dumps(run).replace("<", r"\u003c"))


def packed(array: Any, dtype: str) -> str:
    """The array's numbers in reading order, as `dtype`, in base64."""
    return base64.b64encode(np.asarray(array).astype(dtype).tobytes()).decode()


def main() -> None:
    parser = command_line.Parser(description=__doc__)
    parser.add_argument("run_dir", metavar="RUN_DIR", type=Path, help="folder of a run of mnist.py or fashion_mnist.py")
    command_line.add_source(parser, sample=False)
    flags = parser.parse_args()
    name, model, dataset = experiment.reopen(flags.run_dir, flags.data_dir)
    html = page(TITLES[name], model, dataset).encode()
    path = flags.run_dir / "explore.html"
    with replacing(path) as file:
        file.write(html)
    print(f"{path} is ready, {len(html) / 1e6:.1f} MB: open it in a browser")


if __name__ == "__main__":
    command_line.launch(main)
