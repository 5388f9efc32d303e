"""Train the adversarial autoencoder of the report on Fashion-MNIST, and draw what it learned.

The data set is downloaded on first use; --data-dir names a folder that has it.
"""

import npaae
from npaae import command_line, experiment


def main() -> None:
    flags = command_line.parse_flags(__doc__, epochs=50)
    if flags.evaluate:
        command_line.print_metrics(flags)
        return
    clothes = npaae.data.fashion_mnist(flags.data_dir)
    model = command_line.build(flags)  # npaae.AdversarialAutoencoder(hidden=flags.hidden, latent=flags.latent, …)
    with experiment.Run("fashion-mnist", flags, model, clothes) as run:
        epochs = npaae.train(
            model,
            clothes.train_images,
            test_images=clothes.test_images,
            epochs=run.epochs_left,
            batch_size=flags.batch_size,
        )
        for record in run.progress(epochs):
            run.record(record)
        run.draw()
        run.save()


if __name__ == "__main__":
    command_line.launch(main)
