"""Draw the digits in the plane, each category around its own head: section 7 of Makhzani et al.

The decoder sees an image as a point in the plane, the head of its category plus a two-dimensional
style. plane.png shows these points. It is `semi_supervised.py` with cluster heads; --labels
1000 and --labels 0 --categories 20 are the paper's other two figures.
"""

import interruptible as interruptible  # first: from here on, Ctrl-C is silent
from semi_supervised import main  # in the same folder

from npaae.experiment import launch

ABOUT = "Draw the digits in the plane, each category around its own head"

if __name__ == "__main__":
    launch(lambda: main("reduction", about=ABOUT, latent=2, head_distance=6.0))
