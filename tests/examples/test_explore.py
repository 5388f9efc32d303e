"""The page of the latent plane: what is in its file, and, in a real browser, what it does."""

import base64
import json
import os
import re
import shutil
from tempfile import TemporaryDirectory

import explore
import numpy as np
import pytest
from matplotlib import colormaps
from matplotlib.colors import to_hex

import npaae
from npaae.layers import Dense

from ..idx_files import write_set
from ..running import assert_refused, run_here


@pytest.fixture(scope="module")
def explored(finished, tmp_path_factory):
    """A copy of a finished run with its page, and what the program printed."""
    folder = shutil.copytree(finished[0], tmp_path_factory.mktemp("explored") / "run")
    return folder, run_here(folder, example="explore.py")


@pytest.fixture(scope="module")
def html(explored):
    return (explored[0] / "explore.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def trained(explored):
    return npaae.AdversarialAutoencoder.load(explored[0] / "model.npz")


@pytest.fixture(scope="module")
def dataset(digits):
    return npaae.data.mnist(digits)


def inside(html):
    """What the page holds of its run."""
    script = r'<script id="run" type="application/json">(.*?)</script>'
    return json.loads(re.search(script, html, re.DOTALL)[1])


def unpacked(text, dtype):
    return np.frombuffer(base64.b64decode(text, validate=True), dtype)


# The file


def test_the_page_lies_in_the_runs_folder_and_one_line_says_so(explored):
    folder, process = explored
    path = folder / "explore.html"
    size = f"{path.stat().st_size / 1e6:.1f} MB"
    assert (process.returncode, process.stderr) == (0, "")
    assert process.stdout == f"{path} is ready, {size}: open it in a browser\n"


def test_it_holds_the_decoder_codes_and_labels_to_the_last_bit(html, trained, dataset):
    run = inside(html)
    dense = [layer for layer in trained.decoder.layers if isinstance(layer, Dense)]
    expected = [array.ravel() for layer in dense for array in (layer.W, layer.b)]
    assert run["sizes"] == [2, 16, 32, 784]
    np.testing.assert_array_equal(unpacked(run["parameters"], "<f4"), np.concatenate(expected))
    codes = unpacked(run["codes"], "<f4").reshape(-1, 2)
    np.testing.assert_array_equal(codes, trained.encode(dataset.test_images))
    np.testing.assert_array_equal(unpacked(run["labels"], "<u4"), dataset.test_labels)
    assert run["label_names"] == list("0123456789")


def test_it_refers_to_nothing_outside_itself_and_forbids_itself_the_network(html, explored, digits):
    assert str(digits) not in html
    assert str(explored[0]) not in html
    outside = r"https?:|(?<!-)\bsrc\b|url\(|@import|\bimport\b|\bfetch\b|XMLHttpRequest|WebSocket"
    assert not re.search(outside, html)
    assert re.findall(r'href="([^"]*)"', html) == ["data:,"]
    policy = re.search(r'http-equiv="Content-Security-Policy"\s+content="([^"]*)"', html)[1]
    allowed = "script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:;"
    assert " ".join(policy.split()).startswith(f"default-src 'none'; {allowed}")
    assert "connect-src" not in policy


def test_with_the_default_sizes_and_ten_thousand_test_images_it_is_below_three_megabytes():
    sample = npaae.data.mnist_sample()
    full = sample._replace(test_images=sample.train_images, test_labels=sample.train_labels)
    html = explore.page("MNIST", npaae.AdversarialAutoencoder(), full)
    assert inside(html)["sizes"] == [2, 128, 256, 784]
    assert len(html.encode()) < 3e6


def test_a_labels_name_cannot_end_the_script_that_holds_it(dataset, trained):
    names = ("</script><script>alert(1)</script>", "<!--", "&lt;", *dataset.label_names[3:])
    html = explore.page("MNIST", trained, dataset._replace(label_names=names))
    assert tuple(inside(html)["label_names"]) == names
    assert html.count("</script>") == 2


def ring(rng, n, dim):
    angles = rng.uniform(0, 2 * np.pi, n)
    return np.stack((10 + np.cos(angles), np.sin(angles)), axis=1)


@pytest.mark.parametrize(
    ("prior", "std"),
    [
        (npaae.priors.gaussian(0.25), 0.25),
        (npaae.priors.swiss_roll(), None),
        (ring, None),
    ],
)
def test_a_gaussian_prior_is_its_standard_deviation_and_any_other_is_draws(dataset, prior, std):
    model = npaae.AdversarialAutoencoder(hidden=(8,), prior=prior)
    run = inside(explore.page("MNIST", model, dataset))
    draws = unpacked(run["prior_draws"], "<f4").reshape(-1, 2)
    assert run["prior_std"] == std
    expected = model.sample_prior(explore.DRAWS, seed=0) if std is None else np.empty((0, 2))
    np.testing.assert_array_equal(draws, expected)


def test_the_colours_are_those_of_the_runs_figure():
    page = explore.TEMPLATE.read_text(encoding="utf-8")
    colours = json.loads(re.search(r"COLOURS = (\[.*?\]);", page, re.DOTALL)[1])
    assert colours == [to_hex(colormaps["tab10"](k)) for k in range(10)]


@pytest.mark.parametrize("size", [(5, 4), (8, 8), (7,)])
@pytest.mark.parametrize("classes", [None, 1, 300])
def test_images_of_any_size_and_labels_have_their_page(size, classes):
    n, rng = 300, np.random.default_rng(0)
    labels = None if classes is None else np.arange(n) % classes
    dataset = npaae.data.dataset(rng.random((n, *size)), labels, rng.random((n, *size)), labels)
    model = npaae.AdversarialAutoencoder(hidden=(8,), visible=int(np.prod(size)))
    run = inside(explore.page("mine", model, dataset))
    assert run["image_size"] == (list(size) if len(size) == 2 else None)
    expected = [] if labels is None else labels
    np.testing.assert_array_equal(unpacked(run["labels"], "<u4"), expected)
    assert len(run["label_names"]) == (classes or 0)


def test_a_second_page_replaces_the_first_whole(explored, html):
    path = explored[0] / "explore.html"
    path.write_text(html + "the end of a longer page", encoding="utf-8")
    assert run_here(explored[0], example="explore.py").returncode == 0
    assert path.read_text(encoding="utf-8") == html
    assert not list(explored[0].glob(".*.partial"))


def test_a_code_that_is_not_a_plane_is_refused(dataset):
    with pytest.raises(npaae.InvalidInput, match="latent must be 2"):
        explore.page("MNIST", npaae.AdversarialAutoencoder(hidden=(8,), latent=3), dataset)


@pytest.mark.parametrize(
    ("harm", "status", "word"),
    [
        (shutil.rmtree, 2, "config.json"),
        (lambda folder: os.truncate(folder / "model.npz", 20_000), 1, "model.npz"),
        (lambda folder: (folder / "explore.html").mkdir(), 1, "explore.html"),
    ],
)
def test_what_cannot_be_explored_is_refused_in_one_sentence(finished, tmp_path, harm, status, word):
    folder = shutil.copytree(finished[0], tmp_path / "run")
    harm(folder)
    assert_refused(run_here(folder, example="explore.py"), status, folder, word)


def test_other_data_than_the_runs_are_refused(explored, tmp_path):
    write_set(tmp_path)
    process = run_here(explored[0], "--data-dir", tmp_path, example="explore.py")
    assert_refused(process, 2, "not the same data")


# The page, in Chromium. The page says where things lie; what it shows is compared with NumPy's.

A_GREY_LEVEL = 0.51 / 255  # a canvas keeps 256 of them


@pytest.fixture(scope="module")
def chromium():
    webdriver = pytest.importorskip("selenium.webdriver")
    browser, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not (browser and driver):
        pytest.skip("needs Chromium: on Debian, apt install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    flags = ["headless=new", "no-sandbox", "no-first-run", "window-size=1280,900"]
    flags += [f"disable-{what}" for what in ("gpu", "quic", "sync", "component-update")]
    for flag in (*flags, "disable-background-networking"):
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    with TemporaryDirectory(ignore_cleanup_errors=True) as scratch:  # Chromium leaves files behind
        environment = os.environ | {"TMPDIR": scratch}
        service = webdriver.ChromeService(executable_path=driver, env=environment)
        chrome = webdriver.Chrome(options=options, service=service)
        chrome.set_script_timeout(300)  # seconds; the machine may be busy
        try:
            yield chrome
        finally:
            chrome.quit()


class Page:
    """A page, newly opened, for someone with a mouse, a finger or a keyboard."""

    def __init__(self, chromium, path):
        self.chromium = chromium
        chromium.get(path.as_uri())

    def ask(self, script, *arguments):
        """The value of a JavaScript expression, once everything so far has been drawn."""
        drawn = "requestAnimationFrame(() => requestAnimationFrame(arguments[0]))"
        self.chromium.execute_async_script(drawn)
        return self.chromium.execute_script(f"return {script}", *arguments)

    def ink(self, canvas):
        """The canvas's pixels in [0, 1], or None if it is empty."""
        pixels = f"Array.from({canvas}.getContext('2d').getImageData(0, 0, width, height).data)"
        red, green, blue, alpha = np.array(self.ask(pixels)).reshape(-1, 4).T
        np.testing.assert_array_equal(
            (red, red, alpha), (green, blue, alpha[:1].repeat(len(alpha)))
        )
        return 1 - red / 255 if alpha[0] else None

    def strip(self):
        """(11, 784), or an empty list."""
        canvases = (f"document.querySelectorAll('#strip canvas')[{k}]" for k in range(11))
        return [ink for canvas in canvases if (ink := self.ink(canvas)) is not None]

    def assert_decodes_the_cursor(self, model):
        shown, expected = self.ink("digit"), model.decode([self.ask("cursor")])[0]
        np.testing.assert_allclose(shown, expected, rtol=0, atol=A_GREY_LEVEL)

    def assert_strip_leads(self, model, start, end):
        line = start + np.linspace(0, 1, 11)[:, None] * np.subtract(end, start)
        expected = model.decode(line)
        np.testing.assert_allclose(self.strip(), expected, rtol=0, atol=A_GREY_LEVEL)

    def assert_cursor_at(self, *place):
        """The cursor is at a point of the frame, from (0, 0) in its lower left corner to (1, 1)."""
        low, span = self.ask("[view.low, view.span]")
        expected = np.array(low) + span * np.array(place)
        np.testing.assert_allclose(self.ask("cursor"), expected, atol=0.005 * span)

    def point(self, *places, kind="mouse", pressed=False):
        """Move a mouse or a finger to points of the frame, perhaps with its button pressed."""
        from selenium.webdriver.common.actions.action_builder import ActionBuilder
        from selenium.webdriver.common.actions.pointer_input import PointerInput

        actions = ActionBuilder(self.chromium, mouse=PointerInput(kind, kind), duration=20)
        pointer = actions.pointer_action
        self.ask("window.scrollTo(0, 0)")
        box = self.ask("plane.getBoundingClientRect().toJSON()")
        (left, bottom), side = self.ask("toPixel(view.low)"), self.ask("frameSide()")
        for i, (across, up) in enumerate(places):
            x, y = box["left"] + left + across * side, box["top"] + bottom - up * side
            pointer.move_to_location(round(x), round(y))
            if pressed and i == 0:
                pointer.pointer_down()
        if pressed:
            pointer.pointer_up()
        actions.perform()

    def click(self, *places, kind="mouse"):
        for place in places:
            self.point(place, kind=kind, pressed=True)

    def press(self, *keys):
        """Press keys one after the other; SHIFT is held for the rest of them."""
        from selenium.webdriver import Keys

        focused = self.chromium.switch_to.active_element
        focused.send_keys(*(getattr(Keys, key) for key in keys))


@pytest.fixture
def page(chromium, explored):
    return Page(chromium, explored[0] / "explore.html")


@pytest.fixture
def small_window(chromium):
    """Too small for the page: the layout is narrow, and a finger could scroll it."""
    size = chromium.get_window_size()
    chromium.set_window_size(500, 600)
    yield
    chromium.set_window_size(size["width"], size["height"])


@pytest.fixture
def page_of(chromium, dataset, tmp_path):
    """The page of any model and, if wanted, of other data."""

    def opened(model, **replaced):
        path = tmp_path / "explore.html"
        html = explore.page("MNIST", model, dataset._replace(**replaced))
        path.write_text(html, encoding="utf-8")
        return Page(chromium, path)

    return opened


LARGE = {"hidden": (20, 30, 40), "dtype": "float64"}


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [{}, {"hidden": (7,)}, LARGE], ids=str)
def test_the_page_decodes_as_numpy_does_in_every_pixel(page_of, rng, arguments):
    model = npaae.AdversarialAutoencoder(**arguments, seed=1)
    model.theta *= 3  # so that there are pixels of every grey
    far = rng.uniform(-100, 100, (200, 2))
    codes = np.concatenate((model.sample_prior(200, seed=0), far)).astype(np.float32)
    expected = model.decode(codes)
    assert expected.min() < 0.01 < 0.99 < expected.max()
    decoded = "arguments[0].map(code => Array.from(decode(code)))"
    images = page_of(model).ask(decoded, codes.tolist())
    np.testing.assert_allclose(images, expected, rtol=0, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("size", "classes"),
    [((5, 4), None), ((3, 8), 26), ((7,), 100), ((7,), None), ((2, 300), 26), ((300, 2), None)],
)
def test_images_of_any_size_and_labels_are_shown_without_an_error(chromium, page_of, size, classes):
    n, rng = 200, np.random.default_rng(0)
    labels = None if classes is None else np.arange(n) % classes
    mine = npaae.data.dataset(rng.random((n, *size)), labels, rng.random((n, *size)), labels)
    model = npaae.AdversarialAutoencoder(hidden=(8,), visible=int(np.prod(size)), seed=1)
    chromium.get_log("browser")  # forgets what is in it
    page = page_of(model, **mine._asdict())
    page.click((0.2, 0.7), (0.8, 0.4))
    assert chromium.get_log("browser") == []
    assert page.ask("[digit.height, digit.width]") == list(size if len(size) == 2 else (32, *size))
    legend = "Array.from(document.querySelectorAll('#legend li'), item => item.textContent)"
    assert page.ask(legend) == list(mine.label_names)
    shown = "Math.min(plane.clientWidth, digit.clientWidth, digit.clientHeight)"
    assert page.ask(shown) >= 30
    if len(size) == 2:
        page.assert_decodes_the_cursor(model)
    else:  # a bar is as high as its feature
        bars, expected = page.ink("digit").reshape(32, 7), model.decode([page.ask("cursor")])[0]
        np.testing.assert_allclose(bars.sum(axis=0) / 32, expected, atol=0.6 / 32)


@pytest.mark.slow
def test_an_image_is_a_dot_in_its_labels_colour_at_its_code(page_of, dataset):
    # A narrow prior leaves the frame to the codes.
    model = npaae.AdversarialAutoencoder(hidden=(8,), prior=npaae.priors.gaussian(0.01))
    codes, labels = model.encode(dataset.test_images), np.array([3, 8], np.uint8)
    ends = [codes[:, 0].argmin(), codes[:, 0].argmax()]
    page = page_of(model, test_images=dataset.test_images[ends], test_labels=labels)
    for code, label in zip(codes[ends], labels, strict=True):
        place = np.array(page.ask("toPixel(arguments[0])", code.tolist()))
        x, y = np.floor(place * page.ask("devicePixelRatio"))
        pixel = "Array.from(background.getContext('2d').getImageData(...arguments, 1, 1).data)"
        colour = 255 * np.array(colormaps["tab10"](label)[:3])
        np.testing.assert_allclose(page.ask(pixel, x, y)[:3], colour, atol=2)


@pytest.mark.slow
def test_the_mouse_decodes_what_it_is_moved_over_and_names_the_code(page, trained):
    for place in ((0.3, 0.6), (0.8, 0.1)):
        page.point(place)
        page.assert_cursor_at(*place)
        page.assert_decodes_the_cursor(trained)
        text = page.ask("document.getElementById('code').textContent").replace("−", "-")
        numbers = re.fullmatch(r"z = \((.*), (.*)\)", text).groups()
        np.testing.assert_allclose([*map(float, numbers)], page.ask("cursor"), atol=0.006)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["mouse", "touch"])
def test_two_pins_show_the_images_between_them_and_a_third_starts_anew(page, trained, kind):
    page.click((0.2, 0.7), (0.8, 0.4), kind=kind)
    page.assert_strip_leads(trained, *page.ask("pins"))
    page.click((0.5, 0.2), kind=kind)
    assert page.ask("pins") == [page.ask("cursor")]


@pytest.mark.slow
def test_with_one_pin_the_strip_leads_to_the_pointer(page, trained):
    page.click((0.2, 0.7))
    page.point((0.6, 0.3))
    (pin,) = page.ask("pins")
    page.assert_strip_leads(trained, pin, page.ask("cursor"))


@pytest.mark.slow
def test_a_pin_can_be_dragged_and_a_drag_elsewhere_pins_nothing(page):
    page.point((0.2, 0.7), (0.4, 0.4), pressed=True)
    assert page.ask("pins") == []
    page.click((0.2, 0.7), (0.8, 0.4))
    first, second = page.ask("pins")
    page.point((0.8, 0.4), (0.6, 0.1), pressed=True)
    assert page.ask("pins") == [first, page.ask("cursor")]
    assert page.ask("cursor") != second


@pytest.mark.slow
def test_escape_and_the_button_clear_the_pins(page):
    button = page.chromium.find_element("id", "clear")
    for clear in (lambda: page.press("ESCAPE"), button.click):
        page.click((0.2, 0.7), (0.8, 0.4))
        clear()
        assert page.ask("pins") == page.strip() == []


@pytest.mark.slow
def test_the_keyboard_alone_does_all_of_it(page, trained):
    page.press("TAB")
    assert page.ask("document.activeElement.id") == "plane"
    start, span = np.array(page.ask("cursor")), page.ask("view.span")
    page.press("ENTER", "ARROW_LEFT", "ARROW_LEFT", "ARROW_DOWN")
    page.press("SHIFT", "ARROW_UP")  # five steps at once
    page.press("SPACE")
    pins = page.ask("pins")
    expected = [start, start + span * np.array([-0.02, 0.04])]
    np.testing.assert_allclose(pins, expected, rtol=1e-9)
    page.assert_strip_leads(trained, *pins)
    page.press("SHIFT", *["ARROW_LEFT"] * 30)  # to the frame and no further
    assert page.ask("cursor[0] === view.low[0]")


@pytest.mark.slow
@pytest.mark.usefixtures("small_window")
def test_a_dragged_finger_decodes_and_neither_pins_nor_scrolls(page, trained):
    assert page.ask("document.documentElement.scrollHeight > innerHeight")
    page.point((0.2, 0.3), (0.7, 0.7), kind="touch", pressed=True)
    assert page.chromium.execute_script("return scrollY") == 0
    page.assert_cursor_at(0.7, 0.7)
    page.assert_decodes_the_cursor(trained)
    assert page.ask("pins") == []


@pytest.mark.slow
def test_in_another_window_the_plane_is_as_sharp_and_the_mouse_as_true(page, small_window):
    width = page.ask("Math.round(plane.clientWidth * devicePixelRatio)")
    assert page.ask("plane.width") == width < 500
    page.point((0.3, 0.6))
    page.assert_cursor_at(0.3, 0.6)


@pytest.mark.slow
def test_names_are_shown_as_text_whatever_they_hold(page_of, dataset, trained):
    names = ("</script><b>bold</b>", *dataset.label_names[1:])
    items = "Array.from(document.querySelectorAll('#legend li'), item => item.textContent)"
    assert page_of(trained, label_names=names).ask(items) == list(names)


@pytest.mark.slow
def test_a_name_of_spaces_is_a_dash(page_of, dataset, trained):
    names = (" \n", *dataset.label_names[1:])
    items = "document.querySelector('#legend li').textContent"
    assert page_of(trained, label_names=names).ask(items) == "–"


@pytest.mark.slow
def test_the_page_asks_nothing_of_the_network_and_logs_no_error(page):
    for log in ("browser", "performance"):
        page.chromium.get_log(log)  # forgets what is in it
    page.chromium.refresh()
    page.click((0.2, 0.7), (0.8, 0.4))
    page.click((0.5, 0.5), kind="touch")
    page.press("ESCAPE")
    log = page.chromium.get_log("performance")
    messages = [json.loads(entry["message"])["message"] for entry in log]
    sent = [m["params"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    urls = {params["request"]["url"] for params in sent}
    assert {url for url in urls if not url.startswith("data:")} == {page.chromium.current_url}
    assert page.chromium.get_log("browser") == []
