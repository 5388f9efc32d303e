"""Cluster digits without a label: section 6 of Makhzani et al.

Each category is named after the label of its most confident held-out image, and the error is the
share of images whose category has a different name from their label. It is `semi_supervised.py`
with no labels and more categories; --categories 16 and 30 are the paper's settings.
"""

import interruptible as interruptible  # first: from here on, Ctrl-C is silent
from semi_supervised import main  # in the same folder

from npaae.experiment import launch

ABOUT = "Cluster digits without a label"

if __name__ == "__main__":
    launch(lambda: main("clustering", about=ABOUT, labels=0, categories=16, latent=5))
