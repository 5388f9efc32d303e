"""The report's experiment: the facts of its author's code, and the programs that repeat it."""

import re

import numpy as np
import pytest

import npaae
from npaae import AdversarialAutoencoder, gradcheck
from npaae.layers import Dense, Dropout, ReLU

from ..running import FILES, assert_equal_runs, assert_refused, files, rows, run_here

import report  # isort: skip  # an example

X = np.random.default_rng(1).random((6, 9))


@pytest.fixture
def published():
    def make(kind=report.Published, **options):
        return kind(hidden=(7, 5), visible=9, dtype="float64", seed=3, **options)

    return make


# The model


def test_only_the_decoders_second_layer_has_no_relu(published):
    dense = [Dense, ReLU, Dropout, Dense, ReLU, Dropout, Dense]
    networks = published().networks()
    kinds = [[type(layer) for layer in network.layers] for network in networks]
    assert kinds == [dense, [Dense, ReLU, Dropout, Dense, Dropout, Dense], dense]


def codes_seen(model):
    """The codes that phases 2 and 3 receive in one step, and the encoder's own, dropout off.

    The encoder is as it is after phase 1 in both phases.
    """
    seen, phase_2, phase_3 = {}, model.discriminator_gradient, model.generator_gradient

    def discriminator_gradient(codes, rng):
        seen["2"], seen["off"] = codes, model.encoder.forward(X)[0]
        return phase_2(codes, rng)

    def generator_gradient(codes, caches, rng):
        seen["3"] = codes
        return phase_3(codes, caches, rng)

    model.discriminator_gradient = discriminator_gradient
    model.generator_gradient = generator_gradient
    model.step(X, np.random.default_rng(0))
    return seen


def test_dropout_is_off_in_the_codes_of_phase_2(published):
    seen = codes_seen(published())
    np.testing.assert_array_equal(seen["2"], seen["off"])


def test_dropout_is_on_in_the_codes_of_phase_3(published):
    seen = codes_seen(published())
    assert not np.array_equal(seen["3"], seen["off"])


def test_with_its_departure_dropout_is_on_in_phase_2_in_a_pass_of_its_own(published):
    seen = codes_seen(published(report.WithDropout))
    assert not np.array_equal(seen["2"], seen["off"])
    assert not np.array_equal(seen["2"], seen["3"])


def test_with_its_departure_the_decoder_mirrors_the_encoder(published):
    _, decoder, _ = published(report.WithReLU).networks()
    assert sum(isinstance(layer, ReLU) for layer in decoder.layers) == 2


def test_one_pass_and_relu_together_are_the_models_of_mnist_py(published):
    class Both(report.OnePass, report.WithReLU):
        """Both departures that its text has."""

    ours, default = published(Both), published(AdversarialAutoencoder)
    for model in (ours, default):
        model.step(X, np.random.default_rng(0))
    np.testing.assert_array_equal(ours.theta, default.theta)


def test_without_dropout_its_step_is_that_of_mnist_py(published):
    off = {"dropout": 0.0, "discriminator_dropout": 0.0}
    ours, default = (published(kind, **off) for kind in (report.WithReLU, AdversarialAutoencoder))
    for seed in range(3):
        losses = [model.step(X, np.random.default_rng(seed)) for model in (ours, default)]
        assert losses[0] == losses[1]
    np.testing.assert_array_equal(ours.theta, default.theta)


@pytest.mark.parametrize("phase", ["reconstruction", "discriminator", "generator"])
def test_the_gradients_of_the_three_phases_are_those_of_its_losses(published, phase):
    model = published()
    adam = model.adams()[f"{phase}_adam"]
    codes, _ = model.encoder.forward(X)

    def loss(parameters):
        adam.parameters[:] = parameters
        rng = np.random.default_rng(4)
        if phase == "reconstruction":
            return model.reconstruction_gradient(X, rng)
        if phase == "discriminator":
            return model.discriminator_gradient(codes, rng)
        return model.generator_gradient(*model.encoder.forward(X, rng), rng)

    start = adam.parameters.copy()
    loss(start)
    direction = np.random.default_rng(5).standard_normal(start.size)
    assert gradcheck.along(loss, start, adam.gradient.copy(), direction) < 1e-6


# The curves


@pytest.mark.parametrize(
    ("name", "epochs", "first", "last"),
    [
        ("MNIST", 100, (0.2455, 0.653, 1.875), (0.1852, 1.321, 0.7807)),
        ("Fashion-MNIST", 50, (0.3702, 0.366, 1.905), (0.2884, 0.5157, 2.2595)),
    ],
)
def test_the_reports_curves_have_a_row_for_each_epoch(name, epochs, first, last):
    curves = report.read_curves(name)
    assert curves["epoch"].tolist() == list(range(1, epochs + 1))
    for row, expected in ((curves[0], first), (curves[-1], last)):
        np.testing.assert_allclose([row[loss] for loss in report.LOSSES], expected, rtol=1e-9)


def test_the_table_has_the_epochs_that_both_have(capsys):
    curves = report.read_curves("Fashion-MNIST")
    record = npaae.Record(1, 0.1, 0.2, 0.3, None, (), (), 0.0)
    report.print_table(curves, [record._replace(epoch=i) for i in range(1, 61)])
    _, _, *lines = capsys.readouterr().out.splitlines()
    assert [int(line.split("|")[1]) for line in lines] == [1, 2, 5, 10, 25, 50]
    assert lines[0] == "| 1 | 0.3702 / 0.3660 / 1.9050 | 0.1000 / 0.2000 / 0.3000 |"


# The programs

SMALL = ("--epochs", 2, "--hidden", 8, 6, "--batch-size", 100, "--no-progress")


@pytest.fixture(scope="module")
def run_of_report(digits, tmp_path_factory):
    folder = tmp_path_factory.mktemp("report") / "run"
    arguments = (*SMALL, "--data-dir", digits, "--out", folder)
    return folder, run_here(*arguments, example="report.py", pictures=True)


@pytest.mark.parametrize(
    ("flags", "shown"),
    [
        ([], ["100", "256", "1000 1000", "2", "5.0"]),
        (["--data", "fashion"], ["50", "256", "1000 1000", "12", "4.0"]),
    ],
    ids=["MNIST", "Fashion-MNIST"],
)
def test_its_defaults_are_the_authors_or_for_fashion_those_that_were_found(flags, shown):
    text = " ".join(run_here(*flags, "--help", example="report.py").stdout.split())
    for flag, default in zip(("epochs", "batch-size", "hidden", "latent", "prior-std"), shown,
                             strict=True):  # fmt: skip
        assert re.search(rf"--{flag} [^-]* \(default: {default}\)", text)


def test_each_departure_is_the_class_that_its_flag_names():
    kinds = [report.Published, report.WithReLU, report.WithDropout, report.OnePass]
    names = ["none", "relu", "dropout", "one-pass"]
    assert list(report.DEPARTURES.items()) == list(zip(names, kinds, strict=True))


@pytest.fixture
def fashion(digits, monkeypatch):
    """Few images in place of Fashion-MNIST, wherever it is."""
    monkeypatch.setattr(npaae.data, "fashion_mnist", lambda: npaae.data.mnist(digits))


@pytest.mark.usefixtures("fashion")
def test_a_run_of_fashion_mnist_is_continued_and_evaluated_as_what_it_is(tmp_path):
    train = ("--data", "fashion", *SMALL, "--epochs", 1, "--prior-std", 3)
    again = ("--out", tmp_path / "run", "--no-progress")
    process = run_here(*train, *again, example="report.py")
    assert process.stdout.splitlines()[-1].startswith("| 1 | 0.3702 / 0.3660 / 1.9050 | ")
    process = run_here("--resume", "--epochs", 2, *again, example="report.py")
    assert (process.returncode, process.stderr) == (0, "")
    assert process.stdout.splitlines()[-1].startswith("| 2 | 0.3225 / 0.2380 / 3.5620 | ")
    model = report.Published.load(tmp_path / "run" / "model.npz")
    assert (model.latent, model.prior.std, model.epoch) == (12, 3, 2)
    assert run_here("--evaluate", *again, example="report.py").returncode == 0
    process = run_here("--resume", "--data", "mnist", *again, example="report.py")
    assert_refused(process, 2, "--data mnist contradicts", "fashion")


def test_the_bundled_sample_is_no_fashion_mnist(tmp_path):
    flags = ("--data", "fashion", "--sample", "--out", tmp_path / "run")
    assert_refused(run_here(*flags, example="report.py"), 2, "--sample")


def test_it_leaves_the_files_of_a_run_and_prints_the_table(run_of_report):
    folder, process = run_of_report
    assert (process.returncode, process.stderr) == (0, "")
    assert files(folder) == FILES
    assert process.stdout.splitlines()[-2].startswith("| 1 | 0.2455 / 0.6530 / 1.8750 | ")


def test_its_losses_are_those_of_the_published_model(run_of_report, digits):
    folder, _ = run_of_report
    images = npaae.data.mnist(digits)
    model = report.Published(hidden=(8, 6))
    *_, record = npaae.train(
        model, images.train_images, test_images=images.test_images, epochs=2, batch_size=100
    )
    assert float(rows(folder)[-1]["generator"]) == record.generator


def test_a_resumed_run_ends_as_if_it_had_never_stopped(run_of_report, digits, tmp_path):
    half = (*SMALL, "--data-dir", digits, "--out", tmp_path / "run")
    assert run_here(*half, "--epochs", 1, example="report.py").returncode == 0
    resume = ("--resume", "--epochs", 2, "--no-progress", "--out", tmp_path / "run")
    assert run_here(*resume, example="report.py", pictures=True).returncode == 0
    assert_equal_runs(run_of_report[0], tmp_path / "run")


def test_another_program_does_not_resume_it(run_of_report):
    process = run_here("--resume", "--out", run_of_report[0])
    assert_refused(process, 2, "a run of report")


def test_it_is_evaluated_as_what_it_is(run_of_report):
    folder, _ = run_of_report
    process = run_here("--evaluate", "--out", folder, example="report.py")
    assert (process.returncode, process.stderr) == (0, "")
    test_loss = float(rows(folder)[-1]["test_reconstruction"])
    assert f"| {test_loss:.3f} |" in process.stdout


def test_departures_are_compared_setting_by_setting(run_of_report, digits, tmp_path):
    with_relu, other_seed = tmp_path / "relu", tmp_path / "seed"
    options = (*SMALL, "--data-dir", digits)
    for folder, option in ((with_relu, ("--departure", "relu")), (other_seed, ("--seed", 1))):
        assert run_here(*options, *option, "--out", folder, example="report.py").returncode == 0
    runs = (run_of_report[0], with_relu, other_seed)
    process = run_here(*runs, example="departures.py")
    assert (process.returncode, process.stderr) == (0, "")
    _, _, *lines = process.stdout.splitlines()
    assert [line.split("|")[2].strip() for line in lines] == ["2", "1"]
    assert "departure relu" in lines[1]
    cells = [cell.strip() for cell in lines[0].split("|")]
    for place, name in ((5, "generator"), (6, "test_reconstruction")):
        values = [float(rows(folder)[-1][name]) for folder in (runs[0], runs[2])]
        spread = abs(values[0] - values[1]) / np.sqrt(2)
        assert cells[place] == f"{np.mean(values):.4f} ± {spread:.4f}"
    assert "±" not in lines[1]
    stds = [float(rows(with_relu)[-1][f"code_std_{k}"]) for k in (0, 1)]
    assert float(lines[1].split("|")[-2]) == pytest.approx(np.mean(stds) / 5, rel=0.1)


@pytest.mark.parametrize(
    ("options", "rows"),
    [
        (["--seed", 5, "--latent", 3], ["hidden (8, 6)", "hidden (8, 6), latent 3"]),
        (["--seed", 5, "--prior-std", 1], ["hidden (8, 6)", "hidden (8, 6), prior's std 1.0"]),
        (["--seed", 5, "--hidden", 7], ["hidden (8, 6)", "hidden (7,)"]),
    ],
    ids=["latent", "prior's std", "hidden"],
)
def test_runs_that_differ_are_rows_of_their_own(run_of_report, digits, tmp_path, options, rows):
    given = (*SMALL, *options, "--batch-size", 256, "--data-dir", digits, "--out", tmp_path / "run")
    assert run_here(*given, example="report.py").returncode == 0
    lines = run_here(run_of_report[0], tmp_path / "run", example="departures.py").stdout
    labels = [line.split("|")[1].strip() for line in lines.splitlines()[2:]]
    assert labels == [f"batch size 100, {rows[0]}", rows[1]]


def test_departures_refuse_one_run_twice(run_of_report):
    folder, _ = run_of_report
    assert_refused(run_here(folder, folder, example="departures.py"), 2, folder, "seed")


def test_departures_refuse_runs_on_other_data(run_of_report, tmp_path):
    given = (*SMALL, "--seed", 1, "--sample", "--out", tmp_path / "run")
    assert run_here(*given, example="report.py").returncode == 0
    process = run_here(run_of_report[0], tmp_path / "run", example="departures.py")
    assert_refused(process, 2, tmp_path / "run", "data set")


def test_departures_refuse_a_run_of_another_program(finished):
    assert_refused(run_here(finished[0], example="departures.py"), 2, "report.py")


def test_each_loss_is_drawn_beside_its_own_curve(digits, tmp_path):
    given = (*SMALL, "--epochs", 1, "--data-dir", digits, "--out", tmp_path / "run")
    assert run_here(*given, example="report.py").returncode == 0
    drawn = (tmp_path / "run" / "losses.png").read_bytes()  # the numbers of its lines, by `sketch`
    curves = report.read_curves("MNIST")
    lines = [np.stack((curves["epoch"], curves[loss]), axis=1) for loss in report.LOSSES]
    places = [drawn.find(line.tobytes()) for line in lines]
    assert -1 < places[0] < places[1] < places[2]
