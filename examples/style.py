"""Separate the style of a digit from its identity: section 4 of Makhzani et al.

With all labels, the category is the digit, so z holds how the digit is written. Each row of
style.png shows all ten digits in the style of the image on its left. It is
`semi_supervised.py` with all labels, a longer style and one discriminator of both.
"""

import interruptible as interruptible  # first: from here on, Ctrl-C is silent
from semi_supervised import main  # in the same folder

from npaae.experiment import ALL, launch

ABOUT = "Separate the style of a digit from its identity"

if __name__ == "__main__":
    launch(lambda: main("style", about=ABOUT, labels=ALL, latent=15, joint=True))
