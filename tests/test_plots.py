import io

import numpy as np
import pytest
from matplotlib import colormaps
from matplotlib.colors import to_rgb

import npaae
from npaae import plots
from npaae.errors import InvalidInput
from npaae.priors import gaussian_mixture, swiss_roll, uniform_disc

NAMES = tuple("0123456789")


def drawn(figure):
    """The pixels of a figure as a person would see them."""
    file = io.BytesIO()
    figure.savefig(file, format="rgba", dpi=50)
    return np.frombuffer(file.getvalue(), np.uint8)


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (25, 3, 3), dtype=np.uint8)


def test_the_loss_curves_hold_every_epoch_and_the_lines_of_balance(small_model, images):
    history = list(npaae.train(small_model(), images, test_images=images, epochs=3))
    figure = plots.losses(history)
    left, middle, right = figure.axes
    for axes, values in ((left, "reconstruction"), (middle, "discriminator"), (right, "generator")):
        np.testing.assert_array_equal(axes.lines[0].get_ydata(), [getattr(record, values) for record in history])
    np.testing.assert_array_equal(left.lines[1].get_ydata(), [record.test_reconstruction for record in history])
    assert middle.lines[1].get_ydata()[0] == pytest.approx(1.3863, abs=1e-4)
    assert right.lines[1].get_ydata()[0] == pytest.approx(0.6931, abs=1e-4)
    drawn(figure)


@pytest.mark.parametrize("loss", [1.377, 1.0, 1.386])
def test_the_line_of_balance_lies_clear_of_the_frame_wherever_the_curve_ends(loss):
    history = [npaae.Record(k, 0.3, value, 0.8, 0.3, (), (), 1.0) for k, value in enumerate((1.18, loss), start=1)]
    bottom, top = plots.losses(history).axes[1].get_ylim()
    assert top - 2 * np.log(2) > 0.02 * (top - bottom)


def test_the_loss_curves_can_be_drawn_before_the_first_epoch_ends():
    drawn(plots.losses([]))


@pytest.mark.parametrize("latent", [1, 2, 3])
def test_every_figure_can_be_drawn_for_codes_of_any_dimension(small_model, images, latent):
    model = small_model(latent=latent)
    labels = np.arange(25) % 10
    for figure in (
        plots.samples(model),
        plots.manifold(model),
        plots.latent(model, images, labels, NAMES),
        plots.reconstructions(model, images),
    ):
        assert len(np.unique(drawn(figure))) > 2


def test_the_manifold_stands_on_the_percentiles_of_the_prior(small_model, monkeypatch):
    model, seen = small_model(prior=npaae.priors.gaussian(std=2.0)), []
    decode = model.decode
    monkeypatch.setattr(model, "decode", lambda codes: seen.append(codes) or decode(codes))
    plots.manifold(model, side=4)
    codes = seen[0].reshape(4, 4, 2)
    quantiles = 2.0 * np.array([-1.1503, -0.3186, 0.3186, 1.1503])  # of the normal distribution at 1/8, 3/8, 5/8, 7/8
    np.testing.assert_allclose(codes[0, :, 0], quantiles, atol=0.04)
    np.testing.assert_allclose(codes[:, 0, 1], quantiles[::-1], atol=0.04)
    assert (codes[:, :, 0] == codes[0, :, 0]).all()


def test_the_latent_plane_shows_every_code_and_the_priors_circles(small_model, images):
    model = small_model()
    axes = plots.latent(model, images, np.arange(25) % 10, NAMES).axes[0]
    np.testing.assert_allclose(axes.collections[0].get_offsets(), model.encode(images))
    radii = [circle.width / 2 for circle in axes.patches]
    np.testing.assert_allclose(radii, [5, 10], rtol=0.02)
    assert axes.collections[0].get_alpha() > 0.3


def test_the_priors_circles_stand_where_the_prior_is(small_model, images):
    def elsewhere(rng, n, dim):
        return rng.standard_normal((n, dim)) + np.array([3.0, -4.0])

    axes = plots.latent(small_model(prior=elsewhere), images, np.arange(25) % 10, NAMES).axes[0]
    for circle in axes.patches:
        np.testing.assert_allclose(circle.center, [3, -4], atol=0.05)


def test_each_code_has_the_colour_of_its_label_and_is_where_it_belongs(small_model, images):
    labels = np.arange(25) % 10
    points = plots.latent(small_model(), images, labels, NAMES).axes[0].collections[0]
    points.update_scalarmappable()
    for label, colour in zip(labels, points.get_facecolor(), strict=True):
        assert to_rgb(colour) == to_rgb(colormaps["tab10"](int(label)))


def test_a_code_of_one_dimension_stands_between_the_priors_lines(small_model, images):
    axes = plots.latent(small_model(latent=1), images, np.arange(25) % 10, NAMES).axes[0]
    np.testing.assert_allclose([line.get_xdata()[0] for line in axes.lines], [-10, -5, 5, 10], atol=0.1)


def test_a_single_epoch_is_a_point_that_can_be_seen(small_model, images):
    history = list(npaae.train(small_model(), images, test_images=images, epochs=2))
    assert plots.losses(history[:1]).axes[0].lines[0].get_marker() == "."
    assert plots.losses(history).axes[0].lines[0].get_marker() == ""


def test_the_lines_of_balance_are_named(small_model, images):
    _, middle, right = plots.losses(list(npaae.train(small_model(), images, epochs=2))).axes
    names = [[text.get_text() for text in axes.get_legend().get_texts()][1] for axes in (middle, right)]
    assert names == ["2 ln 2: codes and prior look alike", "ln 2: codes and prior look alike"]


def test_the_samples_are_a_hundred_in_ten_rows_always_the_same(small_model):
    model = small_model()
    canvas, again = (plots.samples(model).axes[0].images[0].get_array() for _ in range(2))
    assert canvas.shape == (10 * 3 + 9 * 2, 10 * 3 + 9 * 2)
    np.testing.assert_array_equal(canvas, again)
    np.testing.assert_array_equal(canvas[:3, :3].ravel(), model.sample(100, seed=0)[0])


def test_the_manifold_has_twenty_rows_of_twenty(small_model):
    assert plots.manifold(small_model()).axes[0].images[0].get_array().shape == (20 * 3 + 19 * 2, 20 * 3 + 19 * 2)


def test_ink_is_dark_on_white_and_its_scale_the_same_in_every_picture():
    (picture,) = plots.image_grid(np.full((1, 4), 0.25), columns=1).axes[0].images
    assert picture.get_cmap()(0.0)[:3] == (1, 1, 1)
    assert picture.get_cmap()(1.0)[:3] == (0, 0, 0)
    assert picture.get_clim() == (0, 1)


def test_the_legend_names_each_colour_rightly_when_the_test_set_lacks_some_labels(small_model, images):
    axes = plots.latent(small_model(), images, np.full(25, 7), NAMES).axes[0]
    points = axes.collections[0]
    points.update_scalarmappable()
    legend = axes.get_legend()
    handles = dict(zip([text.get_text() for text in legend.get_texts()], legend.legend_handles, strict=True))
    assert tuple(handles) == NAMES
    assert to_rgb(handles["7"].get_color()) == to_rgb(points.get_facecolor()[0])


def test_reconstructions_stand_below_their_images(small_model, images):
    model = small_model()
    canvas = np.asarray(plots.reconstructions(model, images).axes[0].images[0].get_array())
    np.testing.assert_array_equal(canvas[:3, :3], images[0] / 255)
    np.testing.assert_array_equal(canvas[5:8, :3], model.reconstruct(images[:1]).reshape(3, 3))
    np.testing.assert_array_equal(canvas[10:13, :3], images[10] / 255)
    assert canvas.shape == (4 * 3 + 3 * 2, 10 * 3 + 9 * 2)


@pytest.mark.parametrize(("n", "strips", "columns"), [(1, 1, 1), (9, 1, 9), (13, 1, 10), (20, 2, 10), (25, 2, 10)])
def test_of_fewer_than_twenty_images_one_strip_is_shown(small_model, images, n, strips, columns):
    model = small_model()
    canvas = np.asarray(plots.reconstructions(model, images[:n]).axes[0].images[0].get_array())
    assert canvas.shape == (2 * strips * 5 - 2, columns * 5 - 2)
    last = columns * strips - 1
    corner = canvas[-3:, -3:]
    np.testing.assert_allclose(corner, model.reconstruct(images[last : last + 1]).reshape(3, 3))


def test_reconstructions_of_floats_equal_those_of_the_bytes(small_model, images):
    a, b = (plots.reconstructions(small_model(), same).axes[0].images[0].get_array() for same in (images, images / 255))
    np.testing.assert_array_equal(a, b)


def test_a_long_code_is_known_by_fewer_draws(small_model, monkeypatch):
    model, asked = small_model(latent=500), []
    draw = model.sample_prior
    monkeypatch.setattr(model, "sample_prior", lambda n, seed: asked.append(n) or draw(n, seed=seed))
    plots.manifold(model)
    assert asked[0] * 500 <= 10**6


def test_a_grid_shows_images_in_reading_order():
    canvas = plots.image_grid(np.eye(4), columns=2).axes[0].images[0].get_array()
    np.testing.assert_array_equal(canvas[4:6, 4:6], [[0, 0], [0, 1]])
    assert canvas.shape == (6, 6)


def test_images_that_are_not_square_are_refused():
    with pytest.raises(InvalidInput, match="5 pixels came; only square"):
        plots.image_grid(np.zeros((1, 5)), columns=1)


# Other priors than the Gaussian


def test_the_latent_plane_shows_draws_of_a_prior_that_has_no_circles(small_model, images):
    model = small_model(prior=uniform_disc(radius=3.0))
    axes = plots.latent(model, images, np.zeros(25), NAMES).axes[0]
    assert not axes.patches
    codes, draws = (np.asarray(points.get_offsets()) for points in axes.collections)
    np.testing.assert_allclose(codes, model.encode(images))
    radius = np.linalg.norm(draws, axis=1)
    assert 2.9 < radius.max() <= 3
    assert axes.get_title() == "Encoded test set over draws from the prior"


def test_the_manifold_of_a_prior_with_parts_goes_through_them_row_by_row(small_model, monkeypatch):
    model, decoded = small_model(prior=gaussian_mixture(components=10, radial_std=0.1, tangential_std=0.1)), []
    decode = model.decode
    monkeypatch.setattr(model, "decode", lambda codes: decoded.append(codes) or decode(codes))
    plots.manifold(model, side=20)
    angle = np.arctan2(*decoded[0].T[::-1]) % (2 * np.pi)
    np.testing.assert_array_equal(np.round(angle / (2 * np.pi / 10)) % 10, np.repeat(np.arange(10), 40))


def test_the_priors_stand_beside_the_codes_that_they_were_imposed_on(small_model, images):
    models = {"disc": small_model(prior=uniform_disc()), "roll": small_model(prior=swiss_roll(), classes=10)}
    labels = np.arange(25) % 10
    figure = plots.priors(models, images, labels)
    drawn(figure)
    top, middle, bottom = (figure.axes[i : i + 2] for i in (0, 2, 4))
    assert [axes.get_title() for axes in top] == ["disc", "roll"]
    for axes, model in zip(middle, models.values(), strict=True):
        np.testing.assert_allclose(axes.collections[0].get_offsets(), model.encode(images))
        np.testing.assert_array_equal(axes.collections[0].get_array(), labels)
    assert [axes.get_xlim() == above.get_xlim() for axes, above in zip(middle, top, strict=True)] == [True, True]
    assert [len(axes.images) for axes in bottom] == [1, 1]


def test_the_parts_of_a_prior_have_the_colours_of_the_labels_that_they_are_for(small_model, images):
    figure = plots.priors({"roll": small_model(prior=swiss_roll(), classes=10)}, images, np.arange(25) % 10)
    position = (np.arange(25) + 0.5) / 25  # of the draws, which are in order
    np.testing.assert_array_equal(figure.axes[0].collections[0].get_array(), np.floor(10 * position))
    figure = plots.priors({"roll": small_model(prior=swiss_roll(), classes=3)}, images, np.arange(25) % 3)
    np.testing.assert_array_equal(figure.axes[0].collections[0].get_array(), np.floor(3 * position))


def test_a_code_of_one_dimension_beside_its_prior_is_refused(small_model, images):
    with pytest.raises(InvalidInput, match=r"^the model called 'line' has a code of one dimension; pass models"):
        plots.priors({"line": small_model(latent=1)}, images, np.arange(25) % 10)
