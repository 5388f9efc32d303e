"""Estimate the likelihood of unseen digits under the model: Table 1 of Makhzani et al.

Their model (arXiv:1511.05644) has two hidden layers of 1000 units and an 8-D code under N(0, 5² I).
It is trained on 50,000 digits of MNIST. The width of the Parzen windows around 10,000 samples is
chosen on the other 10,000 digits; then the test set is scored. Every epoch is saved: after Ctrl-C
at any time, the same command continues and ends as if it had never stopped.

In the first half of the epochs the learning rates fall to 0, because the noise of large steps
lowers the score. In the second half they are constant, and an average of the parameters over the
last epochs is scored, which has less noise than any of them (P. Izmailov et al., "Averaging weights
leads to wider optima and better generalization", 2018).
"""

from pathlib import Path

import interruptible as interruptible  # first: from here on, Ctrl-C is silent
import numpy as np
from tqdm import tqdm

import npaae
from npaae import InvalidInput, metrics
from npaae.backend import BACKENDS
from npaae.checkpoint import remove_partial
from npaae.experiment import Parser, launch, locked

HIDDEN = (1000, 1000)
RECONSTRUCTION, DISCRIMINATOR, GENERATOR = 5e-4, 5e-4, 2e-4  # learning rates of the first epoch
LATER = 0.4  # of these rates, in the second half of the epochs
HORIZON = 15  # epochs that the average reaches back
WIDTHS = np.arange(0.1, 0.2501, 0.005).round(3).tolist()
TRAINED = 50_000  # digits; the rest are held out
SAMPLES = 10_000


def main() -> None:
    parser = Parser(description=__doc__)
    shown = "%(default)s by default"
    parser.add_argument(
        "--epochs", type="positive integer", default=160, help=f"per model; {shown}"
    )
    parser.add_argument("--seeds", type="non-negative integer", nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type="folder", default=Path("runs/likelihood"), help=shown)
    parser.add_argument("--backend", choices=BACKENDS, default="numpy", help=shown)
    parser.add_data_flags()
    flags = parser.parse_args()
    digits = npaae.data.mnist(flags.data_dir)
    if len(digits.train_images) <= TRAINED:
        n = len(digits.train_images)
        raise InvalidInput(f"the data set must be the full MNIST, got {n:,} training digits")
    flags.out.mkdir(parents=True, exist_ok=True)

    train, held_out, test = (
        images.reshape(-1, 784) / 255
        for images in (
            digits.train_images[:TRAINED][:SAMPLES],
            digits.train_images[TRAINED:],
            digits.test_images,
        )
    )
    scores = []
    for seed in flags.seeds:
        path = flags.out / f"{flags.epochs}-epochs-seed-{seed}.npz"
        with locked(path.with_suffix(".lock")):
            model = trained(digits, flags.epochs, seed, path, flags.backend)
        score = metrics.parzen(test, held_out, model.sample(SAMPLES, seed=seed), WIDTHS)
        scores.append(score.mean)
        print(f"seed {seed}: {described(score)}", flush=True)
    if len(scores) > 1:
        spread = f"{np.mean(scores):.1f} ± {np.std(scores, ddof=1):.1f}"
        print(f"{len(scores)} seeds: {spread} nats a test image")
    score = metrics.parzen(test, held_out, train, WIDTHS)
    print(f"training images in place of samples: {described(score)}")


def trained(
    digits: npaae.data.Dataset, epochs: int, seed: int, path: Path, backend: str = "numpy"
) -> npaae.AdversarialAutoencoder:
    """The average model of one seed after all its epochs.

    Continues from `path` and the average beside it, if they exist.
    """
    averaged = path.with_stem(f"{path.stem}-average")
    remove_partial(path.parent, (path.name, averaged.name))
    model, average = (saved_or_new(file, seed, backend) for file in (path, averaged))
    if average.epoch - model.epoch not in (0, 1):  # 1 if it was stopped between the two files
        raise InvalidInput(
            f"{path} and {averaged.name} are not of one run; move both away, or name another "
            "folder with --out"
        )
    annealed = epochs // 2
    with tqdm(desc=f"seed {seed}", total=epochs, initial=model.epoch, unit="epoch") as bar:
        while model.epoch < epochs:
            # The adversaries' rates fall more slowly: the last epochs go into meeting the prior.
            left = 1 - model.epoch / annealed if model.epoch < annealed else LATER
            model.reconstruction_adam.learning_rate = RECONSTRUCTION * left
            model.discriminator_adam.learning_rate = DISCRIMINATOR * left**0.5
            model.generator_adam.learning_rate = GENERATOR * left**0.5
            train, held_out = digits.train_images[:TRAINED], digits.train_images[TRAINED:]
            (record,) = npaae.train(model, train, test_images=held_out, epochs=1)
            if average.epoch < model.epoch:
                share = 1 / min(max(model.epoch - annealed, 1), HORIZON)
                average.theta[...] = (1 - share) * average.theta + share * model.theta
                average.epoch = model.epoch
                average.save(averaged)
            model.save(path)
            losses = (record.test_reconstruction, record.discriminator, record.generator)
            bar.set_postfix_str("R {:.4f}  D {:.3f}  G {:.3f}".format(*losses))
            bar.update()
    return average


def saved_or_new(path: Path, seed: int, backend: str = "numpy") -> npaae.AdversarialAutoencoder:
    """The model in `path`, or a new one if there is none."""
    model = npaae.AdversarialAutoencoder(
        hidden=HIDDEN,
        latent=8,
        prior=npaae.priors.gaussian(std=5.0),
        dropout=0.25,
        discriminator_dropout=0.2,
        lr_reconstruction=RECONSTRUCTION,
        lr_regularization=GENERATOR,
        backend=backend,
        seed=seed,
    )
    if not path.exists():
        return model
    saved = npaae.AdversarialAutoencoder.load(path, backend=backend)
    if saved.config != model.config:
        raise InvalidInput(
            f"{path} holds another model; move it away, or name another folder with --out"
        )
    return saved


def described(score: metrics.Parzen) -> str:
    """The score in words; says so if its width is the smallest or largest tried."""
    edge = ", at the edge of those tried" if score.width in (WIDTHS[0], WIDTHS[-1]) else ""
    return f"{score.mean:.1f} ± {score.error:.1f} nats a test image, width {score.width:.3f}{edge}"


if __name__ == "__main__":
    launch(main)
