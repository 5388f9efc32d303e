"""Train the adversarial autoencoder of the report on MNIST, or images of your own, and draw it.

--data-dir names a file or folder of images: see `npaae.data.load`. If the full MNIST is neither
found nor can be downloaded, the bundled sample of 10,000 digits is used. `fashion_mnist.py` is this
program with another data set.
"""

import interruptible as interruptible  # first: from here on, Ctrl-C is silent
from results import print_results  # in the same folder

import npaae
from npaae.experiment import Run, launch, load_data, training_flags


def main(name: str = "MNIST", epochs: int = 100) -> None:
    flags = training_flags(name, epochs=epochs)
    if flags.evaluate:
        print_results([flags.out], flags.data_dir, sample=flags.sample, backend=flags.backend)
        return

    comm = npaae.parallel.world()  # None unless mpiexec started several of this program
    images = load_data(flags.dataset, flags.data_dir, sample=flags.sample)
    if flags.resume:
        path = flags.out / "model.npz"
        model = npaae.AdversarialAutoencoder.load(path, backend=flags.backend, comm=comm)
    else:
        model = npaae.AdversarialAutoencoder(
            hidden=flags.hidden,
            latent=flags.latent,
            visible=images.train_images[0].size,
            prior=npaae.priors.gaussian(std=flags.prior_std),
            lr_reconstruction=flags.lr_reconstruction,
            lr_regularization=flags.lr_regularization,
            backend=flags.backend,
            dtype=flags.dtype,
            seed=flags.seed,
            comm=comm,
        )

    with Run(
        flags.out,
        images.name,
        model,
        images,
        epochs=flags.epochs,
        batch_size=flags.batch_size,
        resume=flags.resume,
        overwrite=flags.overwrite,
        bar=not flags.no_progress,
    ) as run:
        records = npaae.train(
            model,
            images.train_images,
            test_images=images.test_images,
            epochs=run.epochs_left,
            batch_size=flags.batch_size,
        )
        for record in run.progress(records):
            run.record(record)  # a row in losses.csv, and model.npz
            if record.epoch % flags.figures_every == 0 and record.epoch < flags.epochs:
                run.draw()
        run.draw()  # losses, samples, manifold, latent and reconstructions, each a .png


if __name__ == "__main__":
    launch(main)
