"""Write the latent plane of a run as one HTML file: point at the plane and see what it decodes to.

RUN_DIR/explore.html holds the decoder's weights and the codes of the test images, and decodes in
the browser: it needs no server and no network.
"""

import base64
import json
from pathlib import Path
from typing import Any

import interruptible as interruptible  # first: from here on, Ctrl-C is silent
import numpy as np

from npaae import AdversarialAutoencoder, InvalidInput
from npaae.checkpoint import replacing
from npaae.data import Dataset
from npaae.experiment import Parser, launch, reopen
from npaae.layers import Dense
from npaae.priors import gaussian

TEMPLATE = Path(__file__).with_name("explore.html")
DRAWS = 3000  # shown of a prior that circles do not describe


def main() -> None:
    parser = Parser(description=__doc__)
    parser.add_argument("run_dir", metavar="RUN_DIR", type="folder", help="the folder of a run")
    parser.add_data_flags()
    flags = parser.parse_args()
    config, model, dataset = reopen(flags.run_dir, flags.data_dir)
    html = page(config["dataset"], model, dataset).encode()
    path = flags.run_dir / "explore.html"
    with replacing(path) as file:
        file.write(html)
    print(f"{path} is ready, {len(html) / 1e6:.1f} MB: open it in a browser")


def page(title: str, model: AdversarialAutoencoder, dataset: Dataset) -> str:
    """The page as HTML. Rows that are no images are drawn as bars.

    Raises InvalidInput unless the model's codes are planar.
    """
    if model.latent != 2:
        raise InvalidInput(f"latent must be 2 for a plane, got a run with latent={model.latent}")
    dense = [layer for layer in model.decoder.layers if isinstance(layer, Dense)]
    parameters = [array.ravel() for layer in dense for array in (layer.W, layer.b)]
    circles = type(model.prior) is gaussian
    draws = np.empty(0) if circles else model.sample_prior(DRAWS, seed=0)
    run = {
        "title": title,
        "epochs": model.epoch,
        "image_size": dataset.image_size,
        "sizes": [model.latent, *(layer.b.size for layer in dense)],  # 2, 128, 256, 784
        "parameters": packed(np.concatenate(parameters), "<f4"),
        "codes": packed(model.encode(dataset.test_images), "<f4"),
        "labels": packed([] if dataset.test_labels is None else dataset.test_labels, "<u4"),
        "label_names": dataset.label_names,
        "prior_std": getattr(model.prior, "std", None) if circles else None,
        "prior_draws": packed(draws, "<f4"),
    }
    # Without a "<", no text in it can end the script element that holds it.
    text = json.dumps(run).replace("<", r"\u003c")
    return TEMPLATE.read_text(encoding="utf-8").replace("RUN_AS_JSON", text)


def packed(array: Any, dtype: str) -> str:
    """The numbers of the array in reading order, as `dtype`, in base64."""
    return base64.b64encode(np.asarray(array).astype(dtype).tobytes()).decode()


if __name__ == "__main__":
    launch(main)
