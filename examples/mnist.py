"""Train the adversarial autoencoder of the report on MNIST, and draw what it learned.

Without the full MNIST, and with no network to fetch it, this trains on the sample of 10,000 digits that is bundled.
"""

import npaae
from npaae import command_line, experiment


def main() -> None:
    flags = command_line.parse_flags(__doc__, epochs=100, sample=True)
    if flags.evaluate:
        command_line.print_metrics(flags)
        return
    digits = command_line.mnist(flags)  # the full set, or the bundled sample
    model = command_line.build(flags)  # npaae.AdversarialAutoencoder(hidden=flags.hidden, latent=flags.latent, …)
    with experiment.Run("mnist", flags, model, digits) as run:
        epochs = npaae.train(
            model,
            digits.train_images,
            test_images=digits.test_images,
            epochs=run.epochs_left,
            batch_size=flags.batch_size,
        )
        for record in run.progress(epochs):
            run.record(record)  # a row in losses.csv, a checkpoint, and now and then the figures
        run.draw()
        run.save()


if __name__ == "__main__":
    command_line.launch(main)
