"""How likely are unseen digits under an adversarial autoencoder? Table 1 of Makhzani et al. (arXiv:1511.05644), on MNIST.

Their likelihood model, two hidden layers of 1000 and an 8-D code under N(0, 5² I), is trained on 50,000 digits; the other
10,000 choose the width of the Parzen windows about 10,000 samples, under which the test set is then scored. Every epoch is
saved: stopped with Ctrl-C at any time, the same command goes on from there, and ends as if it had never stopped.

In the first half of the epochs the learning rates fall to nothing, for the noise of large steps costs 10 nats. In the second
half they are constant, and what is scored is an average of the parameters over the last epochs, which has less noise than
any of them (P. Izmailov et al., "Averaging weights leads to wider optima and better generalization", 2018).
"""

from pathlib import Path

import numpy as np
from tqdm import tqdm

import npaae
from npaae import command_line, metrics
from npaae.errors import InvalidInput

RECONSTRUCTION, DISCRIMINATOR, GENERATOR = 5e-4, 5e-4, 2e-4  # the learning rates of the first epoch
LEFT = 0.4  # what the second half of the epochs have of the autoencoder's
HORIZON = 15  # how many epochs the average reaches back
WIDTHS = np.arange(0.1, 0.2501, 0.005).round(3).tolist()
TRAINED = 50_000  # digits; the rest are held out
SAMPLES = 10_000


def main() -> None:
    parser = command_line.Parser(description=__doc__)
    parser.add_argument("--epochs", type=command_line.whole(1), default=160, help="of each model (default: %(default)s)")
    parser.add_argument("--seeds", type=command_line.whole(0), nargs="+", default=[0, 1, 2], help="a model for each")
    parser.add_argument("--out", type=Path, default=Path("runs/likelihood"), help="for the models (default: %(default)s)")
    command_line.add_source(parser, sample=False)
    flags = parser.parse_args()
    digits = npaae.data.mnist(flags.data_dir)
    if len(digits.train_images) <= TRAINED:
        raise InvalidInput(f"{len(digits.train_images):,} digits came, {TRAINED:,} are trained on; pass the full MNIST")
    flags.out.mkdir(parents=True, exist_ok=True)

    train, held_out, test = (
        images.reshape(-1, 784) / 255
        for images in (digits.train_images[:TRAINED][:SAMPLES], digits.train_images[TRAINED:], digits.test_images)
    )
    scores = []
    for seed in flags.seeds:
        model = trained(digits, flags.epochs, seed, flags.out / f"{flags.epochs}-epochs-seed-{seed}.npz")
        score = metrics.parzen(test, held_out, model.sample(SAMPLES, seed=seed), WIDTHS)
        scores.append(score.mean)
        print(f"seed {seed}: {described(score)}", flush=True)
    if len(scores) > 1:
        print(f"{len(scores)} seeds: {np.mean(scores):.1f} ± {np.std(scores, ddof=1):.1f} nats an image")
    print(f"training images in place of samples: {described(metrics.parzen(test, held_out, train, WIDTHS))}")


def trained(digits: npaae.data.Dataset, epochs: int, seed: int, path: Path) -> npaae.AdversarialAutoencoder:
    """The average model of one seed after all its epochs, from where `path`, and the average beside it, left off."""
    averaged = path.with_stem(f"{path.stem}-average")
    model, average = taken_up(path, seed), taken_up(averaged, seed)
    if average.epoch - model.epoch not in (0, 1):  # 1 where what stopped it came between the two
        raise InvalidInput(f"{path} and {averaged.name} are not of one run; move both away, or name another folder with --out")
    annealed = epochs // 2
    with tqdm(desc=f"seed {seed}", total=epochs, initial=model.epoch, unit="epoch") as bar:
        while model.epoch < epochs:
            # The adversaries' rates fall more slowly, so that what is left of the epochs goes into meeting the prior.
            left = 1 - model.epoch / annealed if model.epoch < annealed else LEFT
            model.reconstruction_adam.learning_rate = RECONSTRUCTION * left
            model.discriminator_adam.learning_rate = DISCRIMINATOR * left**0.5
            model.generator_adam.learning_rate = GENERATOR * left**0.5
            (record,) = npaae.train(model, digits.train_images[:TRAINED], test_images=digits.train_images[TRAINED:], epochs=1)
            if average.epoch < model.epoch:
                share = 1 / min(max(model.epoch - annealed, 1), HORIZON)
                average.theta[...] = (1 - share) * average.theta + share * model.theta
                average.epoch = model.epoch
                average.save(averaged)
            model.save(path)
            bar.set_postfix_str(f"R {record.test_reconstruction:.4f}  D {record.discriminator:.3f}  G {record.generator:.3f}")
            bar.update()
    return average


def taken_up(path: Path, seed: int) -> npaae.AdversarialAutoencoder:
    """The model in `path`, or where there is none a new one."""
    model = npaae.AdversarialAutoencoder(
        hidden=(1000, 1000),
        latent=8,
        prior=npaae.priors.gaussian(std=5.0),
        dropout=0.25,
        discriminator_dropout=0.2,
        lr_reconstruction=RECONSTRUCTION,
        lr_regularization=GENERATOR,
        seed=seed,
    )
    if not path.exists():
        return model
    saved = npaae.AdversarialAutoencoder.load(path)
    if saved.config != model.config:
        raise InvalidInput(f"{path} holds another model; move it away, or name another folder with --out")
    return saved


def described(score: metrics.Parzen) -> str:
    return f"{score.mean:.1f} ± {score.error:.1f} nats an image, window {score.width:.3f}"


if __name__ == "__main__":
    command_line.launch(main)
