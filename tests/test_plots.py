import io
from itertools import combinations

import numpy as np
import pytest
from matplotlib import colormaps
from matplotlib.colors import to_rgb

import npaae
from npaae import CategoricalAutoencoder, plots
from npaae.errors import InvalidInput
from npaae.priors import gaussian, gaussian_mixture, swiss_roll, uniform_disc

NAMES = tuple("0123456789")
LABELS = np.arange(25) % 10


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (25, 3, 3), dtype=np.uint8)


def pixels(figure):
    """The pixels of a figure as a person would see them."""
    file = io.BytesIO()
    figure.savefig(file, format="rgba", dpi=50)
    return np.frombuffer(file.getvalue(), np.uint8)


def in_order(points):
    """The points, (n, 2), in an order that does not depend on theirs."""
    points = np.asarray(points)
    return points[np.lexsort(points.T)]


def dots(axes):
    """The places of all points on the axes, and their colours."""
    places = np.concatenate([group.get_offsets() for group in axes.collections])
    return places, np.concatenate([group.get_facecolor()[:, :3] for group in axes.collections])


def canvas(figure):
    """The one picture in a figure, in the images' own pixels."""
    return np.asarray(figure.axes[0].images[0].get_array())


def test_a_notebook_shows_a_figure_by_itself(small_model):
    png = plots.samples(small_model())._repr_png_()
    assert png.startswith(b"\x89PNG")


def decoded_codes(monkeypatch, model, draw):
    """The codes that `draw` decodes."""
    seen, decode = [], model.decode
    monkeypatch.setattr(model, "decode", lambda codes: seen.append(codes) or decode(codes))
    draw(model)
    return seen[0]


# The losses


def test_the_loss_curves_hold_every_epoch_and_the_lines_of_equilibrium(small_model, images):
    history = list(npaae.train(small_model(), images, test_images=images, epochs=3))
    drawn = [line.get_ydata() for axes in plots.losses(history).axes for line in axes.lines]
    names = ("reconstruction", "test_reconstruction", "discriminator", "generator")
    R, test_R, D, G = ([getattr(record, name) for record in history] for name in names)
    for got, values in zip(drawn, [R, test_R, D, 1.3863, G, 0.6931], strict=True):
        np.testing.assert_allclose(got, values, atol=1e-4)


@pytest.mark.parametrize("loss", [1.377, 1.0, 1.386])
def test_the_line_of_equilibrium_lies_clear_of_the_frame_wherever_the_curve_ends(loss):
    history = [npaae.Record(k, 0.3, d, 0.8, 0.3, (), (), 1.0) for k, d in ((1, 1.18), (2, loss))]
    bottom, top = plots.losses(history).axes[1].get_ylim()
    assert top - 2 * np.log(2) > 0.02 * (top - bottom)


def test_a_single_epoch_is_a_point_that_can_be_seen(small_model, images):
    history = list(npaae.train(small_model(), images, test_images=images, epochs=2))
    for n, marker in ((1, "."), (2, "")):
        axes = plots.losses(history[:n]).axes[0]
        assert [line.get_marker() for line in axes.lines] == [marker, marker]
        assert not np.any(axes.get_xticks() % 1)


def test_the_legend_says_what_is_on_in_training_and_off_in_testing(small_model, images):
    model, categorical = small_model(), CategoricalAutoencoder(hidden=(7,), visible=9)
    for trained, on in ((model, "dropout"), (categorical, "noise")):
        history = list(npaae.train(trained, images, test_images=images, epochs=2))
        panels = plots.losses(history, trained, test="held out").axes
        labels = [[line.get_label() for line in axes.lines] for axes in panels]
        assert labels[0] == [f"training ({on} on)", f"held out ({on} off)"]
        assert labels[1][0].startswith("training (dropout")  # the discriminator's, in both
    assert panels[4].get_ylabel() == "KL (nats)"
    assert panels[4].lines[0].get_label() == "training"


def test_other_seeds_are_a_band_from_their_smallest_to_their_largest_loss(small_model, images):
    runs = [list(npaae.train(small_model(seed=k), images, epochs=3 + k)) for k in range(3)]
    band = plots.losses(runs[0], others=runs[1:]).axes[0].collections[0]
    values = np.array([[record.reconstruction for record in run[:3]] for run in runs])
    (box,) = (path.get_extents() for path in band.get_paths())
    np.testing.assert_allclose([box.y0, box.y1], [values.min(), values.max()])
    assert (box.x0, box.x1) == (1, 3)


def test_the_loss_curves_can_be_drawn_before_the_first_epoch_ends():
    pixels(plots.losses([]))


# Pictures made of images


def test_every_image_of_a_large_test_set_is_a_dot(small_model, rng):
    labels = np.arange(6000) % 10
    figure = plots.latent(small_model(prior=gaussian()), rng.random((6000, 3, 3)), labels)
    assert len(dots(figure.axes[0])[0]) == 6000


def test_each_seed_gives_samples_of_its_own(small_model):
    model = small_model()
    drawn = [plots.samples(model, seed=seed).axes[0].images[0].get_array() for seed in (0, 1)]
    assert not np.array_equal(*drawn)


def test_a_grid_shows_images_in_reading_order_dark_on_white():
    figure = plots.image_grid(np.eye(4), columns=2)
    assert canvas(figure).shape == (6, 6)
    np.testing.assert_array_equal(canvas(figure)[4:6, 4:6], [[0, 0], [0, 1]])
    picture = figure.axes[0].images[0]
    assert picture.get_cmap()([0.0, 1.0])[:, 0].tolist() == [1, 0]
    assert picture.get_clim() == (0, 1)  # and not what the darkest image makes of it


def test_images_of_another_size_are_refused():
    with pytest.raises(InvalidInput, match="images must be square"):
        plots.image_grid(np.zeros((1, 5)), columns=1)
    with pytest.raises(InvalidInput, match="images must be 2 × 3"):
        plots.image_grid(np.zeros((1, 5)), columns=1, size=(2, 3))


def test_images_that_are_not_square_stand_upright():
    figure = plots.image_grid(np.eye(6)[[5, 0]], columns=1, size=(2, 3))
    np.testing.assert_array_equal(canvas(figure)[:2], [[0, 0, 0], [0, 0, 1]])
    np.testing.assert_array_equal(canvas(figure)[4:], [[1, 0, 0], [0, 0, 0]])


@pytest.mark.parametrize("size", [(1, 300), (300, 1), (2, 17)])
def test_no_image_is_drawn_as_a_line(size):
    rows = np.random.default_rng(0).random((1, size[0] * size[1]))
    shown = canvas(plots.image_grid(rows, columns=1, size=size))
    assert max(shown.shape) <= 8 * min(shown.shape)
    down, across = np.array(shown.shape) // size
    np.testing.assert_array_equal(shown[::down, ::across].ravel(), rows[0])


@pytest.mark.parametrize("size", [(1, 1), (8, 8), (28, 28), (64, 48), (1, 300), (300, 300)])
def test_a_pixel_of_a_small_image_takes_up_a_whole_number_of_dots_and_no_grid_is_huge(size):
    figure = plots.image_grid(np.zeros((100, size[0] * size[1])), columns=10, size=size)
    axes, (height, width) = figure.axes[0], canvas(figure).shape
    dots = axes.get_window_extent().width / width, axes.get_window_extent().height / height
    assert dots[0] == pytest.approx(dots[1])
    if max(size) <= 64:
        assert dots[0] == pytest.approx(round(dots[0]))
        assert 45 <= 10 * round(dots[0]) * (width + 2) / 100 <= 75
    assert figure.get_size_inches().max() <= 20


def test_rows_and_columns_have_their_names_beside_them():
    options = {"rows_named": ["a", "$b"], "columns_named": [str(k) for k in range(3)]}
    axes = plots.image_grid(np.zeros((6, 900)), columns=3, **options).axes[0]
    assert [text.get_text() for text in axes.get_yticklabels()] == ["a", r"\$b"]
    assert [text.get_text() for text in axes.get_xticklabels()] == ["0", "1", "2"]
    np.testing.assert_array_equal(axes.get_xticks(), [14.5, 46.5, 78.5])


@pytest.mark.parametrize("names", ["12", ["a long name indeed"] * 3, [str(k) for k in range(100)]])
@pytest.mark.parametrize("size", [(8, 8), (64, 2)])
@pytest.mark.parametrize("label", ["xlabel", "ylabel"])
def test_no_text_around_a_grid_is_cut_or_runs_into_another(size, names, label):
    rows = np.zeros((len(names), size[0] * size[1]))
    text = {label: "a long text" * 6, "columns_named": names}
    figure = plots.image_grid(rows, columns=len(names), size=size, **text)
    figure.draw_without_rendering()  # places the labels
    axes = figure.axes[0]
    labels = [axes.xaxis.label, axes.yaxis.label, *axes.get_xticklabels()]
    boxes = [label.get_window_extent() for label in labels if label.get_text()]
    corners = np.concatenate([box.get_points() for box in boxes])
    assert corners.min() >= 0
    assert (corners <= figure.bbox.size).all()
    assert not any(one.overlaps(other) for one, other in combinations(boxes, 2))


def test_the_samples_are_the_models_a_hundred_in_ten_rows(small_model):
    model = small_model()
    shown = canvas(plots.samples(model))
    assert shown.shape == (10 * 3 + 9 * 2, 10 * 3 + 9 * 2)
    np.testing.assert_array_equal(shown[-3:, :3].ravel(), model.sample(100, seed=0)[90])


@pytest.mark.parametrize(
    ("n", "strips", "columns"), [(1, 1, 1), (13, 1, 10), (20, 2, 10), (25, 2, 10)]
)
def test_each_strip_of_images_stands_above_its_reconstructions(
    small_model, images, n, strips, columns
):
    model = small_model()
    shown = canvas(plots.reconstructions(model, images[:n]))
    assert shown.shape == (2 * strips * 5 - 2, columns * 5 - 2)
    last = columns * strips - 1
    np.testing.assert_array_equal(shown[:3, :3], images[0] / 255)
    np.testing.assert_array_equal(shown[-8:-5, -3:], images[last] / 255)
    decoded = model.reconstruct(images[last : last + 1]).reshape(3, 3)
    np.testing.assert_allclose(shown[-3:, -3:], decoded)


def test_reconstructions_of_floats_equal_those_of_the_bytes(small_model, images):
    a, b = (plots.reconstructions(small_model(), same) for same in (images, images / 255))
    np.testing.assert_array_equal(canvas(a), canvas(b))


def test_the_manifold_lies_at_the_percentiles_of_the_prior(small_model, monkeypatch):
    def prior(rng, n, dim):
        return 2 * rng.standard_normal((n, dim)) + [0, 0, 7]

    model = small_model(prior=prior, latent=3)
    codes = decoded_codes(monkeypatch, model, plots.manifold).reshape(20, 20, 3)
    np.testing.assert_allclose(codes[:, :, 2], 7, atol=0.05)  # the median
    # The quantiles of N(0, 1) at (k + 1/2) / 20, estimated from the 250 draws of each cell
    for k, quantile in {0: -1.95996, 4: -0.75542, 10: 0.06271, 19: 1.95996}.items():
        np.testing.assert_allclose(codes[:, k, 0], 2 * quantile, atol=0.4)
        np.testing.assert_allclose(codes[19 - k, :, 1], 2 * quantile, atol=0.4)


def test_each_code_of_the_manifold_stands_for_an_equal_share_of_the_prior(small_model, monkeypatch):
    """Of a disc, whose coordinates depend on each other."""
    model = small_model(prior=uniform_disc(radius=3.0))
    codes = decoded_codes(monkeypatch, model, plots.manifold)
    assert np.linalg.norm(codes, axis=1).max() < 3
    draws = model.sample_prior(40_000, seed=9)
    distances = (codes**2).sum(axis=1) - 2 * draws @ codes.T  # squared, without |draw|²
    nearest = distances.argmin(axis=1)
    assert np.bincount(nearest, minlength=400).min() > 30
    assert np.bincount(nearest).max() < 200  # of 100 on average


def test_the_manifold_of_a_prior_with_parts_goes_through_them_row_by_row(small_model, monkeypatch):
    model = small_model(prior=gaussian_mixture(components=10, radial_std=0.1, tangential_std=0.1))
    codes = decoded_codes(monkeypatch, model, plots.manifold)
    component = np.round(np.arctan2(codes[:, 1], codes[:, 0]) / (2 * np.pi / 10)) % 10
    np.testing.assert_array_equal(component, np.repeat(np.arange(10), 40))


def test_a_prior_of_long_codes_is_measured_by_fewer_draws(small_model, monkeypatch):
    model, asked = small_model(latent=500), []
    draw = model.sample_prior
    monkeypatch.setattr(
        model, "sample_prior", lambda n, seed: asked.append(n) or draw(n, seed=seed)
    )
    plots.manifold(model)
    assert asked[0] * 500 <= 10**6


# The plane of codes


def colour_of(label):
    return to_rgb(colormaps["tab10"](int(label) % 10))


def test_the_latent_plane_shows_every_code_in_the_colour_of_its_label(small_model, images):
    model = small_model()
    places, colours = dots(plots.latent(model, images, LABELS, NAMES).axes[0])
    codes = model.encode(images)
    for label in range(10):
        of_label = np.isclose(colours, colour_of(label)).all(axis=1)
        np.testing.assert_allclose(in_order(places[of_label]), in_order(codes[label == LABELS]))


def test_the_legend_is_complete_even_if_the_images_lack_some_labels(small_model, images):
    (legend,) = plots.latent(small_model(), images, np.full(25, 7), NAMES).legends
    assert [text.get_text() for text in legend.get_texts()] == list(NAMES)
    colours = [to_rgb(handle.get_color()) for handle in legend.legend_handles]
    assert colours == [colour_of(k) for k in range(10)]


@pytest.mark.parametrize("classes", [26, 100])
def test_labels_of_one_colour_have_different_markers(small_model, images, classes):
    names = [str(k) for k in range(classes)]
    (legend,) = plots.latent(small_model(), images, np.arange(25) % classes, names).legends
    looks = [(handle.get_color(), handle.get_marker()) for handle in legend.legend_handles]
    assert len(set(looks)) == classes


def test_labels_also_stand_at_the_medians_of_their_codes(small_model, images):
    model = small_model()
    texts = plots.latent(model, images, LABELS, NAMES).axes[0].texts
    places = {text.get_text(): text.get_position() for text in texts}
    median = np.median(model.encode(images)[LABELS == 3], axis=0)
    np.testing.assert_allclose(places["3"], median)


@pytest.mark.parametrize(
    "names",
    [
        NAMES,
        ("W" * 20, "m"),
        pytest.param([f"class {k}" for k in range(100)], marks=pytest.mark.slow),
    ],
)
def test_a_legend_lies_inside_its_figure(small_model, images, names):
    model, labels = small_model(), np.arange(25) % len(names)
    figures = [plots.latent(model, images, labels, names)]
    figures += [plots.priors({"one": model}, images, labels, names)]
    for figure in figures:
        pixels(figure)  # draws it
        box, (legend,) = figure.bbox, figure.legends
        extent = legend.get_window_extent()
        assert box.x0 <= extent.x0 < extent.x1 <= box.x1 + 1
        assert box.y0 <= extent.y0 < extent.y1 <= box.y1
        for axes in figure.axes:
            assert axes.get_window_extent().x1 <= extent.x0 + 1


def test_a_legend_of_losses_lies_inside_its_panel(images):
    model = CategoricalAutoencoder(hidden=(7,), visible=9)
    history = list(npaae.train(model, images, test_images=images, epochs=2))
    figure = plots.losses(history, model, test="held out", others=[history])
    pixels(figure)
    for axes in figure.axes:
        legend, panel = axes.get_legend().get_window_extent(), axes.get_window_extent()
        assert panel.x0 <= legend.x0 < legend.x1 <= panel.x1


@pytest.mark.parametrize("latent", [1, 2])
def test_a_label_for_every_image_is_drawn_with_few_markers(small_model, latent):
    images = np.random.default_rng(0).random((3000, 9))
    names = [f"image {k}" for k in range(3000)]
    figure = plots.latent(small_model(latent=latent), images, np.arange(3000), names)
    assert len(figure.axes[0].collections) <= 10
    assert figure.legends == []
    assert len(figure.axes[0].get_yticks()) <= 40


def test_unlabelled_images_are_black_and_have_no_name(small_model, images):
    labels = np.where(np.arange(25) < 20, -1, 3)
    axes = plots.latent(small_model(), images, labels, NAMES).axes[0]
    assert (dots(axes)[1] == 0).all(axis=1).sum() == 20
    assert [text.get_text() for text in axes.texts if "σ" not in text.get_text()] == ["3"]


@pytest.mark.parametrize(
    ("labels", "names", "argument"),
    [
        (LABELS[:5], NAMES, "labels"),
        (LABELS[:, None], NAMES, "labels"),
        (LABELS.astype(str), NAMES, "labels"),
        (LABELS, ("a", "b"), "label_names"),
    ],
)
def test_labels_that_do_not_fit_the_images_or_the_names_are_refused(
    small_model, images, labels, names, argument
):
    for draw in (plots.latent, lambda model, *rest: plots.priors({"a": model}, *rest)):
        with pytest.raises(InvalidInput, match=f"^{argument} must"):
            draw(small_model(), images, labels, names)


def test_losses_may_be_those_of_training_that_is_still_to_come(small_model, images):
    assert len(plots.losses(npaae.train(small_model(), images, epochs=2)).axes[0].lines) == 1


@pytest.mark.parametrize("latent", [1, 2])
def test_codes_without_labels_have_one_colour_and_no_legend(small_model, images, latent):
    figure = plots.latent(small_model(latent=latent), images)
    assert figure.legends == []
    assert len(np.unique(dots(figure.axes[0])[1], axis=0)) == 1


@pytest.mark.parametrize("names", [("a $ b", "$", "", " ", "x" * 500), tuple(map(str, range(300)))])
def test_any_names_can_be_drawn(small_model, images, names):
    figure = plots.latent(small_model(), images, np.arange(25) % len(names), names)
    assert len(np.unique(pixels(figure))) > 2
    assert figure.get_size_inches().max() < 12


@pytest.mark.parametrize(
    "names",
    [("n02123045_tabby_cat_1", "n02123045_tabby_cat_2"), ("猫" * 9, "犬"), ("か", "が\x00")],
)
def test_names_that_differ_look_different_and_are_drawn_without_a_warning(
    small_model, images, names
):
    figure = plots.latent(small_model(), images, np.arange(25) % 2, names)
    pixels(figure)
    (legend,) = figure.legends
    one, other = (text.get_text() for text in legend.get_texts())
    assert one != other
    assert max(len(one), len(other)) <= 20


def test_the_circles_stand_at_one_and_two_standard_deviations_of_the_prior(small_model, images):
    circles = plots.latent(small_model(prior=gaussian(3.0)), images, LABELS, NAMES).axes[0].patches
    np.testing.assert_allclose([circle.width / 2 for circle in circles], [3, 6], rtol=0.02)
    np.testing.assert_allclose([circle.center for circle in circles], 0, atol=0.05)


def test_a_code_of_one_dimension_stands_between_the_priors_lines(small_model, images):
    axes = plots.latent(small_model(latent=1), images, LABELS, NAMES).axes[0]
    places = [line.get_xdata()[0] for line in axes.lines]
    np.testing.assert_allclose(places, [-10, -5, 5, 10], atol=0.1)


def test_draws_stand_for_a_prior_that_is_not_gaussian(small_model, images):
    model = small_model(prior=uniform_disc(radius=3.0))
    axes = plots.latent(model, images, LABELS, NAMES).axes[0]
    assert not axes.patches
    codes, draws = (np.asarray(points.get_offsets()) for points in axes.collections)
    np.testing.assert_allclose(in_order(codes), in_order(model.encode(images)))
    assert 2.9 < np.linalg.norm(draws, axis=1).max() <= 3


@pytest.mark.parametrize("latent", [1, 2, 3])
def test_every_figure_can_be_drawn_for_codes_of_any_dimension(small_model, images, latent):
    model = small_model(latent=latent)
    figures = [plots.samples(model), plots.manifold(model), plots.reconstructions(model, images)]
    for figure in [*figures, plots.latent(model, images, LABELS, NAMES)]:
        assert len(np.unique(pixels(figure))) > 2


# Several priors


@pytest.mark.parametrize("classes", [0, 3, 10])
def test_each_prior_stands_above_the_codes_that_it_was_imposed_on(small_model, images, classes):
    roll = small_model(prior=swiss_roll(), classes=classes)
    models = {"disc": small_model(prior=uniform_disc()), "roll": roll}
    figure = plots.priors(models, images, LABELS)
    assert len(np.unique(pixels(figure))) > 2
    top, middle, bottom = (figure.axes[i : i + 2] for i in (0, 2, 4))
    assert [axes.get_title() for axes in top] == ["disc", "roll"]
    for prior, codes, decoded, model in zip(top, middle, bottom, models.values(), strict=True):
        np.testing.assert_allclose(in_order(dots(codes)[0]), in_order(model.encode(images)))
        assert codes.get_xlim() == prior.get_xlim()
        assert len(decoded.images) == 1
    # The draws of the roll are coloured part by part, those of the disc are all black.
    counts = np.unique(dots(top[1])[1], axis=0, return_counts=True)[1]
    parts = np.floor((classes or 10) * (np.arange(25) + 0.5) / 25)
    assert sorted(counts) == sorted(np.unique(parts, return_counts=True)[1])
    assert not dots(top[0])[1].any()


@pytest.mark.parametrize("count", [1, 5])
def test_more_than_four_priors_stand_in_two_rows(small_model, images, count):
    models = {str(k): small_model() for k in range(count)}
    figure = plots.priors(models, images, LABELS, NAMES)
    shown = [axes for axes in figure.axes if axes.axison]
    assert [axes.get_title() for axes in shown if axes.get_title()] == [*models]
    assert len(shown) == 3 * count
    assert "0 epochs, seed 3" in figure.get_suptitle()


def test_priors_of_rows_that_are_no_images_are_not_decoded(small_model):
    rows = np.random.default_rng(0).random((25, 7))
    figure = plots.priors({"one": small_model(visible=7)}, rows)
    assert [len(axes.images) for axes in figure.axes] == [0, 0]


def test_a_code_of_one_dimension_cannot_stand_below_its_prior(small_model, images):
    with pytest.raises(InvalidInput, match=r"^models .*'line'"):
        plots.priors({"line": small_model(latent=1)}, images, LABELS)


# Categories


@pytest.fixture
def categorical():
    return CategoricalAutoencoder(
        hidden=(7, 5), categories=3, latent=2, visible=9, head_distance=1.0, seed=3
    )


def cell(figure, row, column):
    """The image in one place of a grid of 3 × 3 images."""
    return canvas(figure)[5 * row : 5 * row + 3, 5 * column : 5 * column + 3].ravel()


def test_a_row_of_styles_is_one_images_style_in_every_category(categorical, images):
    figure = plots.styles(categorical, images, ("a", "b", "c"))
    heads = [text.get_text() for text in figure.axes[0].get_xticklabels()]
    assert heads == ["image", "", "a", "b", "c"]
    for row in (0, 9):
        np.testing.assert_allclose(cell(figure, row, 0), images[row].ravel() / 255, rtol=1e-6)
        style = categorical.encode(images[row : row + 1])[0, 3:]
        for k in range(3):
            expected = categorical.decode([[*np.eye(3)[k], *style]])[0]
            np.testing.assert_allclose(cell(figure, row, 2 + k), expected, rtol=1e-5)


def test_a_block_of_clusters_is_a_head_and_its_surest_images(categorical, images, monkeypatch):
    others = np.full((25, 3), [0.1, 0.9, 0.9])  # all others are of category 0
    others[[3, 7, 8], 1] = 0.05, 0.01, 0.03
    monkeypatch.setattr(categorical, "other_probability", lambda _: others)
    names = np.array([5, 7, 0])
    figure = plots.clusters(categorical, images, LABELS, NAMES, names)
    block = figure.axes[1]
    shown = np.asarray(block.images[0].get_array())
    head = categorical.decode([[0, 1, 0, 0, 0]])[0]
    np.testing.assert_allclose(shown[:, :3].ravel(), head, rtol=1e-5)
    for column, surest in enumerate((7, 8, 3), 2):
        expected = images[surest] / 255
        np.testing.assert_allclose(shown[:, 5 * column : 5 * column + 3], expected, rtol=1e-6)
    assert not shown[:, 25:].any()
    assert block.get_title("left") == "7: 3 images"
    framed = [round(frame.get_x() + 1.5) for frame in block.patches]
    assert framed == [15, 20]  # the images of labels 8 and 3


def test_clusters_without_labels_have_numbers_and_no_frames(categorical, images):
    blocks = plots.clusters(categorical, images).axes[:3]
    assert [axes.get_title("left").split(":")[0] for axes in blocks] == [
        "category 0",
        "category 1",
        "category 2",
    ]
    assert not any(axes.patches for axes in blocks)


@pytest.mark.parametrize("categories", [1, 30, pytest.param(100, marks=pytest.mark.slow)])
def test_clusters_of_many_categories_fit_a_screen(images, categories):
    model = CategoricalAutoencoder(hidden=(7,), categories=categories, visible=9)
    figure = plots.clusters(model, images)
    assert sum(bool(axes.images) for axes in figure.axes) == categories
    assert figure.get_size_inches().max() <= 15


def test_the_plane_shows_embedded_images_by_label_and_the_heads(categorical, images):
    axes = plots.plane(categorical, images, LABELS, NAMES).axes[0]
    places, _ = dots(axes)
    np.testing.assert_allclose(in_order(places), in_order(categorical.embed(images)), rtol=1e-6)
    layer = categorical.decoder.layers[0]
    heads = [text.get_position() for text in axes.texts]
    np.testing.assert_allclose(heads, layer.W + layer.b, rtol=1e-6)
    assert [text.get_text() for text in axes.texts] == ["0", "1", "2"]


def test_figures_of_a_plane_of_codes_refuse_a_model_with_categories(categorical, images):
    with pytest.raises(InvalidInput, match=r"^model must have no categories"):
        plots.manifold(categorical)
    with pytest.raises(InvalidInput, match=r"^model must have no categories"):
        plots.latent(categorical, images, LABELS, NAMES)


def test_the_losses_of_later_phases_have_panels_of_their_own(categorical, images):
    labels = np.where(np.arange(25) < 5, np.arange(25) % 3, -1)
    history = list(npaae.train(categorical, images, labels=labels, epochs=3))
    panels = plots.losses(history).axes[3:]
    assert [axes.get_title() for axes in panels] == ["Classification", "Smoothness"]
    for axes in panels:
        (line,) = axes.lines
        values = [getattr(record, axes.get_title().lower()) for record in history]
        assert [*line.get_ydata()] == values
