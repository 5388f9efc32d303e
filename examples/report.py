"""Repeat the report's experiment as its author ran it, and compare the losses with his.

The report's text leaves the widths, the batch size and the prior open. Its author's published code
settles them. Its networks and steps differ from those of `examples/mnist.py` in two places, the
decoder and the encoder passes of phases 2 and 3: see `Published`.

Trains on MNIST for 100 epochs or, with --data fashion, on Fashion-MNIST for 50. losses.png shows
the losses beside the curves of the report's Figures 1 and 3, whose values are in `curves/`.

Source: S. Das, "Adversarial Autoencoders" (course report, 2019), and its code,
https://github.com/soumyakanti3578/Adversarial_Autoencoders.
"""

from pathlib import Path
from typing import Any

import interruptible as interruptible  # first: from here on, Ctrl-C is silent
import numpy as np
from results import print_results  # in the same folder

import npaae
from npaae import InvalidInput
from npaae.backend import Array, Generator, HostArray
from npaae.experiment import Parser, Run, figures_of_a_run, launch, load_data, training_flags
from npaae.layers import Sequential

CODES = {"mnist": (2, 5.0), "fashion": (12, 4.0)}  # numbers, the prior's standard deviation
LOSSES = ("reconstruction", "discriminator", "generator")
EPOCHS = (1, 2, 5, 10, 25, 50, 100)  # of the table


class Published(npaae.AdversarialAutoencoder):
    """The report's model as in its author's code."""

    dropout_in_phase_2 = False

    def networks(self) -> tuple[Sequential, Sequential, Sequential]:
        """The decoder has no ReLU after its second dense layer, only dropout."""
        encoder, decoder, discriminator = super().networks()
        del decoder.layers[-3]  # of Dense, ReLU, Dropout, Dense, ReLU, Dropout, Dense
        return encoder, decoder, discriminator

    def step(self, x: Array, rng: Generator, labels: Array | None = None) -> tuple[Array, ...]:
        """The three phases; phases 2 and 3 each have their own encoder pass."""
        x = self.pixels(x)
        reconstruction_loss = self.reconstruction_gradient(x, rng)
        self.reconstruction_adam.step()

        codes, _ = self.encoder.forward(x, rng if self.dropout_in_phase_2 else None)
        discriminator_loss = self.discriminator_gradient(codes, rng)
        self.discriminator_adam.step()

        codes, encoder_caches = self.encoder.forward(x, rng)
        generator_loss = self.generator_gradient(codes, encoder_caches, rng)
        self.generator_adam.step()
        return reconstruction_loss, discriminator_loss, generator_loss


class WithReLU(Published):
    """The decoder mirrors the encoder, as the report's text says."""

    networks = npaae.AdversarialAutoencoder.networks


class WithDropout(Published):
    """Dropout is also on in the encoder pass of phase 2."""

    dropout_in_phase_2 = True


class OnePass(Published):
    """One encoder pass serves phases 2 and 3."""

    step = npaae.AdversarialAutoencoder.step


DEPARTURES = {"none": Published, "relu": WithReLU, "dropout": WithDropout, "one-pass": OnePass}


def main() -> None:
    chooser = Parser(add_help=False)  # the other defaults depend on the data set
    chooser.add_argument("--data", choices=("mnist", "fashion"), default="mnist")
    data = chooser.parse_known_args()[0].data
    latent, std = CODES[data]
    kinds = (
        "a model that differs in one place: with relu, the decoder mirrors the encoder; with "
        "dropout, phase 2 has it too; with one-pass, one encoder pass serves phases 2 and 3"
    )
    flags = training_flags(
        "report",
        epochs=50 if data == "fashion" else 100,
        batch_size=256,
        about="Repeat the report's experiment as its author ran it.",
        own={
            "--data": ("data set", data, {"choices": ("mnist", "fashion")}),
            "--hidden": ("layer sizes", [1000, 1000], {"type": "positive integer", "nargs": "+"}),
            "--latent": ("dimensions of the code", latent, {"type": "positive integer"}),
            "--prior-std": ("standard deviation of the prior", std, {"type": "positive number"}),
            "--departure": (kinds, "none", {"choices": tuple(DEPARTURES)}),
        },
    )
    kind = DEPARTURES[flags.departure]
    if flags.sample and flags.data == "fashion":
        raise InvalidInput("--sample must not be given with --data fashion: it is of MNIST")
    where = {"sample": flags.sample, "backend": flags.backend}
    if flags.evaluate:
        print_results([flags.out], flags.data_dir, kind=kind, **where)
        return

    comm = npaae.parallel.world()
    name = "Fashion-MNIST" if flags.data == "fashion" else "MNIST"
    images = load_data(name, flags.data_dir, sample=flags.sample)
    if flags.resume:
        model = kind.load(flags.out / "model.npz", backend=flags.backend, comm=comm)
    else:
        prior = npaae.priors.gaussian(std=flags.prior_std)
        sizes = {"hidden": flags.hidden, "latent": flags.latent}
        model = kind(**sizes, prior=prior, backend=flags.backend, seed=flags.seed, comm=comm)
    curves = read_curves(name)

    def figures(run: Run) -> dict[str, Any]:
        found = figures_of_a_run(run)
        for axes, loss in zip(found["losses.png"].axes, LOSSES, strict=True):
            axes.plot(curves["epoch"], curves[loss], "k--", linewidth=1, label="the report")
            axes.legend(frameon=False)
        return found

    with Run(
        flags.out,
        "report",
        model,
        images,
        epochs=flags.epochs,
        batch_size=flags.batch_size,
        resume=flags.resume,
        overwrite=flags.overwrite,
        bar=not flags.no_progress,
        figures=figures,
        more={"data": flags.data, "departure": flags.departure},
    ) as run:
        records = npaae.train(
            model,
            images.train_images,
            test_images=images.test_images,
            epochs=run.epochs_left,
            batch_size=flags.batch_size,
        )
        for record in run.progress(records):
            run.record(record)
            if record.epoch % flags.figures_every == 0 and record.epoch < flags.epochs:
                run.draw()
        run.draw()
    if not comm or comm.Get_rank() == 0:
        print_table(curves, run.history)


def read_curves(name: str) -> HostArray:
    """The report's losses on a data set, epoch by epoch, as a structured array."""
    path = Path(__file__).parent / "curves" / f"{name.lower()}.csv"
    return np.genfromtxt(path, delimiter=",", names=True, skip_header=4)


def print_table(curves: HostArray, history: list[npaae.Record]) -> None:
    """The report's losses and those of a run, at some epochs."""
    print("| epoch | the report | this run |\n|--:|---|---|")
    for epoch in EPOCHS:
        if epoch <= min(len(curves), len(history)):
            sources = curves[epoch - 1], history[epoch - 1]._asdict()
            cells = [" / ".join(f"{source[loss]:.4f}" for loss in LOSSES) for source in sources]
            print(f"| {epoch} | {' | '.join(cells)} |")


if __name__ == "__main__":
    launch(main)
