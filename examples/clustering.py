"""Cluster digits without a label: section 6 of Makhzani et al.

Each category is named by the held-out image that the model is surest of, and the error is the share
of images whose category has another name than their label. It is `semi_supervised.py` with no
labels and more categories; --categories 16 and 30 are those of the paper.
"""

from semi_supervised import main  # the program beside this one

from npaae.experiment import launch

ABOUT = "Cluster digits without a label"

if __name__ == "__main__":
    launch(lambda: main("clustering", about=ABOUT, labels=0, categories=16, latent=5))
