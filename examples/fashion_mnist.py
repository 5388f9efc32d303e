"""Train the adversarial autoencoder of the report on Fashion-MNIST: `mnist.py` on other images.

The data set is downloaded on first use; --data-dir names a file or folder that holds it.
"""

import interruptible as interruptible  # first: from here on, Ctrl-C is silent
from mnist import main  # in the same folder

from npaae.experiment import launch

if __name__ == "__main__":
    launch(lambda: main("Fashion-MNIST", epochs=50))
