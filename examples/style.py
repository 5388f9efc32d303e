"""Separate the style of a digit from what it says: section 4 of Makhzani et al.

With all labels, the category is the digit, so what remains for z is how it is written. In style.png
each row has one style, taken from the image at its left, in all ten digits. It is
`semi_supervised.py` with all labels and a longer style.
"""

from semi_supervised import main  # the program beside this one

from npaae.experiment import launch

ABOUT = "Separate the style of a digit from what it says"

if __name__ == "__main__":
    launch(lambda: main("style", about=ABOUT, epochs=50, labels=60_000, latent=15))
