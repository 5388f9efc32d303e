"""The page of the latent plane: what is in its file, and, in a real browser, what it does."""

import base64
import importlib.util
import json
import os
import re
import shutil
from math import prod
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from matplotlib import colormaps
from matplotlib.colors import to_hex

import npaae
from npaae.layers import Dense

from .running import run_here

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "explore.py"
specification = importlib.util.spec_from_file_location("explore", EXAMPLE)
explore = importlib.util.module_from_spec(specification)
specification.loader.exec_module(explore)


@pytest.fixture(scope="module")
def explored(finished, tmp_path_factory):
    """A copy of a finished run with its page, and what the example printed."""
    folder = tmp_path_factory.mktemp("explored") / "run"
    shutil.copytree(finished[0], folder)
    return folder, run_here(folder, example="explore.py")


@pytest.fixture(scope="module")
def trained(explored):
    return npaae.AdversarialAutoencoder.load(explored[0] / "model.npz")


@pytest.fixture(scope="module")
def dataset(digits):
    return npaae.data.mnist(digits)


def inside(html):
    """What the page holds of its run."""
    return json.loads(re.search(r'<script id="run" type="application/json">(.*?)</script>', html, re.DOTALL)[1])


def unpacked(text, dtype):
    return np.frombuffer(base64.b64decode(text, validate=True), dtype)


def decoder_parameters(model):
    layers = [layer for layer in model.decoder.layers if isinstance(layer, Dense)]
    return np.concatenate([array.ravel() for layer in layers for array in (layer.W, layer.b)])


# The file


def test_the_page_lies_in_the_run_s_folder_and_one_line_says_so_with_its_size(explored):
    folder, process = explored
    path = folder / "explore.html"
    assert process.returncode == 0, process.stderr
    assert process.stdout == f"{path} is ready, {path.stat().st_size / 1e6:.1f} MB: open it in a browser\n"


def test_it_holds_the_decoder_s_parameters_to_the_last_bit(explored, trained):
    run = inside((explored[0] / "explore.html").read_text(encoding="utf-8"))
    assert run["sizes"] == [2, 16, 32, 784]
    np.testing.assert_array_equal(unpacked(run["parameters"], "<f4"), decoder_parameters(trained))


def test_it_holds_the_codes_and_labels_of_the_test_images(explored, trained, dataset):
    run = inside((explored[0] / "explore.html").read_text(encoding="utf-8"))
    np.testing.assert_array_equal(unpacked(run["codes"], "<f4").reshape(-1, 2), trained.encode(dataset.test_images))
    np.testing.assert_array_equal(unpacked(run["labels"], "u1"), dataset.test_labels)
    assert run["label_names"] == list("0123456789")


def test_it_refers_to_nothing_outside_itself(explored):
    html = (explored[0] / "explore.html").read_text(encoding="utf-8")
    assert not re.search(r"https?:|(?<!-)\bsrc\b|url\(|@import|\bimport\b|\bfetch\b|XMLHttpRequest|WebSocket", html)
    assert re.findall(r'href="([^"]*)"', html) == ["data:,"]


def test_it_forbids_itself_the_network(explored):
    html = (explored[0] / "explore.html").read_text(encoding="utf-8")
    policy = re.search(r'http-equiv="Content-Security-Policy"\s+content="([^"]*)"', html)[1]
    assert policy.startswith("default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:;")
    assert "connect-src" not in policy


def test_it_tells_nobody_where_the_run_and_its_data_lay(explored, digits):
    html = (explored[0] / "explore.html").read_text(encoding="utf-8")
    assert str(digits) not in html
    assert str(explored[0]) not in html


def test_with_the_default_sizes_and_ten_thousand_test_images_it_stays_under_three_megabytes():
    sample = npaae.data.mnist_sample()
    dataset = sample._replace(test_images=sample.train_images, test_labels=sample.train_labels)
    assert len(dataset.test_images) == 10_000
    html = explore.page("MNIST", npaae.AdversarialAutoencoder(), dataset).encode()
    assert prod(inside(html.decode())["sizes"]) == 2 * 128 * 256 * 784
    assert len(html) < 3e6


def test_a_label_s_name_cannot_end_the_script_that_holds_it(dataset, trained):
    names = ("</script><script>alert(1)</script>", "<!--", "&lt;", *dataset.label_names[3:])
    html = explore.page("MNIST", trained, dataset._replace(label_names=names))
    assert tuple(inside(html)["label_names"]) == names
    assert html.count("</script>") == 2


def test_a_gaussian_prior_is_there_as_its_standard_deviation(dataset):
    model = npaae.AdversarialAutoencoder(hidden=(8,), prior=npaae.priors.gaussian(0.25))
    run = inside(explore.page("MNIST", model, dataset))
    assert (run["prior_std"], run["prior_draws"]) == (0.25, "")


def ring(rng, n, dim):
    angles = rng.uniform(0, 2 * np.pi, n)
    return np.stack((10 + np.cos(angles), np.sin(angles)), axis=1)


def test_any_other_prior_is_there_as_draws_from_it(dataset):
    model = npaae.AdversarialAutoencoder(hidden=(8,), prior=ring)
    run = inside(explore.page("MNIST", model, dataset))
    assert run["prior_std"] is None
    np.testing.assert_array_equal(unpacked(run["prior_draws"], "<f4").reshape(-1, 2), model.sample_prior(explore.DRAWS, seed=0))


def test_the_colours_are_those_of_the_run_s_figure():
    page = explore.TEMPLATE.read_text(encoding="utf-8")
    assert json.loads(re.search(r"COLOURS = (\[.*\]);", page)[1]) == [to_hex(colormaps["tab10"](k)) for k in range(10)]


def test_a_second_run_replaces_the_page_whole(explored):
    folder, _ = explored
    path = folder / "explore.html"
    before = path.read_bytes()
    path.write_bytes(before + b"the end of a longer page")
    assert run_here(folder, example="explore.py").returncode == 0
    assert path.read_bytes() == before
    assert not list(folder.glob(".*"))


def test_a_code_that_is_no_plane_is_refused(dataset):
    with pytest.raises(npaae.InvalidInput, match=r"--latent 3 came, and a plane has two dimensions"):
        explore.page("MNIST", npaae.AdversarialAutoencoder(hidden=(8,), latent=3), dataset)


def no_run(folder):
    shutil.rmtree(folder)


def half_a_model(folder):
    path = folder / "model.npz"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def a_folder_for_a_page(folder):
    (folder / "explore.html").mkdir()


@pytest.mark.parametrize(
    ("harm", "status", "says"),
    [
        (no_run, 2, "holds no run"),
        (half_a_model, 1, "is not a whole model saved by npaae"),
        (a_folder_for_a_page, 1, "is no regular file"),
    ],
)
def test_what_cannot_be_explored_is_refused_in_one_sentence(finished, tmp_path, harm, status, says):
    folder = tmp_path / "run"
    shutil.copytree(finished[0], folder)
    harm(folder)
    process = run_here(folder, example="explore.py")
    assert process.returncode == status
    assert process.stderr.startswith("explore.py: error: ")
    assert says in process.stderr
    assert process.stderr.count("\n") == 1


def test_other_data_than_the_run_s_are_refused(explored, tmp_path):
    from .idx_files import write_set

    write_set(tmp_path / "others")
    process = run_here(explored[0], "--data-dir", tmp_path / "others", example="explore.py")
    assert process.returncode == 2
    assert "with other content" in process.stderr


# The page, in Chromium. Where things lie is asked of the page itself; what it shows is compared with NumPy's.

A_GREY_LEVEL = 0.51 / 255  # a canvas keeps 256 of them


@pytest.fixture(scope="module")
def chromium():
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed: pip install 'npaae[test]'")
    browser, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not (browser and driver):
        pytest.skip("chromium or chromedriver is not installed: on Debian, apt install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for flag in ("headless=new", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "window-size=1280,900"):
        options.add_argument(f"--{flag}")
    for flag in ("background-networking", "component-update", "sync"):
        options.add_argument(f"--disable-{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    with TemporaryDirectory(ignore_cleanup_errors=True) as scratch:  # Chromium leaves files behind
        service = webdriver.ChromeService(executable_path=driver, env=os.environ | {"TMPDIR": scratch})
        chrome = webdriver.Chrome(options=options, service=service)
        try:
            yield chrome
        finally:
            chrome.quit()


class Page:
    """The page of a run, opened anew, as someone with a mouse, a finger or a keyboard has it before them."""

    def __init__(self, chromium, path):
        self.chromium = chromium
        chromium.get(path.as_uri())

    def ask(self, script, *arguments):
        """What a JavaScript expression is, after what went before has been drawn."""
        self.chromium.execute_async_script("requestAnimationFrame(() => requestAnimationFrame(arguments[0]))")
        return self.chromium.execute_script(f"return {script}", *arguments)

    @property
    def cursor(self):
        return self.ask("cursor")

    @property
    def pins(self):
        return self.ask("pins")

    @property
    def digit(self):
        return self._ink("document.getElementById('digit')")

    @property
    def strip(self):
        """(11, 784), or nothing where the strip is empty."""
        return [ink for k in range(11) if (ink := self._ink(f"document.querySelectorAll('#strip canvas')[{k}]")) is not None]

    def _ink(self, canvas):
        pixels = self.ask(f"Array.from({canvas}.getContext('2d').getImageData(0, 0, side, side).data)")
        red, green, blue, alpha = np.array(pixels).reshape(-1, 4).T
        np.testing.assert_array_equal(red, green)
        np.testing.assert_array_equal(red, blue)
        assert len(set(alpha)) == 1
        return 1 - red / 255 if alpha[0] else None

    def pointer(self, kind):
        """Actions of a mouse or a finger."""
        from selenium.webdriver.common.actions.action_builder import ActionBuilder
        from selenium.webdriver.common.actions.pointer_input import PointerInput

        actions = ActionBuilder(self.chromium, mouse=PointerInput(kind, kind), duration=20)
        self.ask("window.scrollTo(0, 0)")
        return actions, actions.pointer_action

    def place(self, across, up):
        """Where a point of the plane lies in the window; from (0, 0), the frame's lower left corner, to (1, 1)."""
        box = self.ask("plane.getBoundingClientRect().toJSON()")
        left, bottom = self.ask("toPixel(view.low)")
        side = self.ask("frameSide()")
        return round(box["left"] + left + across * side), round(box["top"] + bottom - up * side)

    def move(self, across, up):
        actions, mouse = self.pointer("mouse")
        mouse.move_to_location(*self.place(across, up))
        actions.perform()

    def click(self, *places, kind="mouse"):
        for across, up in places:
            actions, pointer = self.pointer(kind)
            pointer.move_to_location(*self.place(across, up))
            pointer.pointer_down()
            pointer.pointer_up()
            actions.perform()

    def drag(self, start, end, kind="mouse"):
        actions, pointer = self.pointer(kind)
        pointer.move_to_location(*self.place(*start))
        pointer.pointer_down()
        pointer.move_to_location(*self.place(*end))
        pointer.pointer_up()
        actions.perform()

    def press(self, *keys, shift=False):
        from selenium.webdriver import ActionChains, Keys

        actions = ActionChains(self.chromium, duration=0)
        if shift:
            actions.key_down(Keys.SHIFT)
        actions.send_keys(*keys)
        if shift:
            actions.key_up(Keys.SHIFT)
        actions.perform()


@pytest.fixture
def page(chromium, explored):
    return Page(chromium, explored[0] / "explore.html")


@pytest.fixture
def small_window(chromium):
    """One that the page does not fit in: it has the narrow layout, and a finger could scroll it."""
    size = chromium.get_window_size()
    chromium.set_window_size(500, 600)
    yield
    chromium.set_window_size(size["width"], size["height"])


@pytest.fixture
def page_of(chromium, dataset, tmp_path):
    """The page of any model and, if wanted, of other data."""

    def opened(model, **replaced):
        path = tmp_path / "explore.html"
        path.write_text(explore.page("MNIST", model, dataset._replace(**replaced)), encoding="utf-8")
        return Page(chromium, path)

    return opened


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [{}, {"hidden": (7,)}, {"hidden": (20, 30, 40), "dtype": "float64"}], ids=str)
def test_the_page_decodes_as_numpy_does_in_every_pixel(page_of, rng, arguments):
    model = npaae.AdversarialAutoencoder(**arguments, seed=1)
    model.theta *= 3  # so that pixels of every grey come out
    codes = np.concatenate((model.sample_prior(200, seed=0), rng.uniform(-100, 100, (200, 2)))).astype(np.float32)
    expected = model.decode(codes)
    assert expected.min() < 0.01 < 0.99 < expected.max()
    images = page_of(model).ask("arguments[0].map(code => Array.from(decode(code)))", codes.tolist())
    np.testing.assert_allclose(images, expected, rtol=0, atol=1e-4)  # 1e-3 is asked for; within the prior 1e-6 is usual


@pytest.mark.slow
def test_an_image_is_a_dot_in_its_label_s_colour_where_its_code_is(page_of, dataset):
    model = npaae.AdversarialAutoencoder(hidden=(8,), prior=npaae.priors.gaussian(0.01))  # which leaves the frame to the codes
    codes = model.encode(dataset.test_images)
    ends = [codes[:, 0].argmin(), codes[:, 0].argmax()]
    page = page_of(model, test_images=dataset.test_images[ends], test_labels=np.array([3, 8], np.uint8))
    for code, label in zip(codes[ends], (3, 8), strict=True):
        x, y = np.floor(np.array(page.ask("toPixel(arguments[0])", code.tolist())) * page.ask("devicePixelRatio"))
        pixel = page.ask("Array.from(background.getContext('2d').getImageData(...arguments, 1, 1).data)", x, y)[:3]
        np.testing.assert_allclose(pixel, 255 * np.array(colormaps["tab10"](label)[:3]), atol=2)


@pytest.mark.slow
def test_the_mouse_decodes_what_it_is_moved_over(page, trained):
    for place in ((0.3, 0.6), (0.8, 0.1)):
        page.move(*place)
        low, span = page.ask("[view.low, view.span]")
        np.testing.assert_allclose(page.cursor, np.array(low) + span * np.array(place), atol=0.005 * span)
        np.testing.assert_allclose(page.digit, trained.decode([page.cursor])[0], rtol=0, atol=A_GREY_LEVEL)


@pytest.mark.slow
def test_the_page_says_which_code_it_shows(page):
    page.move(0.3, 0.6)
    numbers = re.fullmatch(r"z = \((.*), (.*)\)", page.ask("document.getElementById('code').textContent")).groups()
    np.testing.assert_allclose([float(number.replace("−", "-")) for number in numbers], page.cursor, atol=0.006)


@pytest.mark.slow
def test_a_click_pins_the_point(page):
    page.click((0.3, 0.6))
    assert page.pins == [page.cursor]


@pytest.mark.slow
def test_two_pins_show_the_images_along_the_line_between_them(page, trained):
    page.click((0.2, 0.7), (0.8, 0.4))
    first, second = np.array(page.pins)
    line = first + np.linspace(0, 1, 11)[:, None] * (second - first)
    np.testing.assert_allclose(page.strip, trained.decode(line), rtol=0, atol=A_GREY_LEVEL)


@pytest.mark.slow
def test_with_one_pin_the_line_leads_to_the_pointer(page, trained):
    page.click((0.2, 0.7))
    page.move(0.6, 0.3)
    strip = np.array(page.strip)
    np.testing.assert_allclose(strip[[0, -1]], trained.decode([*page.pins, page.cursor]), rtol=0, atol=A_GREY_LEVEL)


@pytest.mark.slow
def test_a_third_click_starts_anew(page):
    page.click((0.2, 0.7), (0.8, 0.4), (0.5, 0.2))
    assert page.pins == [page.cursor]


@pytest.mark.slow
def test_a_pin_can_be_dragged(page):
    page.click((0.2, 0.7), (0.8, 0.4))
    first, second = page.pins
    page.drag((0.8, 0.4), (0.6, 0.1))
    assert page.pins == [first, page.cursor]
    assert page.cursor != second


@pytest.mark.slow
def test_a_button_held_while_moving_pins_nothing(page):
    page.drag((0.2, 0.7), (0.4, 0.4))
    assert page.pins == []


@pytest.mark.slow
@pytest.mark.parametrize("way", ["Escape", "the button"])
def test_the_pins_can_be_cleared(page, way):
    page.click((0.2, 0.7), (0.8, 0.4))
    if way == "Escape":
        page.press("\ue00c")
    else:
        page.chromium.find_element("id", "clear").click()
    assert page.pins == []
    assert page.strip == []


@pytest.mark.slow
def test_the_keyboard_alone_does_all_of_it(page, trained):
    from selenium.webdriver import Keys

    page.press(Keys.TAB)
    assert page.ask("document.activeElement.id") == "plane"
    start, span = np.array(page.cursor), page.ask("view.span")
    page.press(Keys.ENTER, Keys.ARROW_LEFT, Keys.ARROW_LEFT, Keys.ARROW_DOWN)
    np.testing.assert_allclose(page.cursor, start + span * np.array([-0.02, -0.01]), rtol=1e-9)
    page.press(Keys.ARROW_UP, shift=True)
    page.press(Keys.SPACE)
    np.testing.assert_allclose(page.pins, [start, start + span * np.array([-0.02, 0.04])], rtol=1e-9)
    np.testing.assert_allclose(np.array(page.strip)[[0, -1]], trained.decode(page.pins), rtol=0, atol=A_GREY_LEVEL)


@pytest.mark.slow
def test_the_keys_stop_at_the_frame(page):
    from selenium.webdriver import Keys

    page.press(Keys.TAB)
    page.press(*[Keys.ARROW_LEFT] * 30, shift=True)
    assert page.cursor[0] == page.ask("view.low[0]")


@pytest.mark.slow
@pytest.mark.usefixtures("small_window")
def test_a_finger_that_is_dragged_decodes_and_pins_nothing(page, trained):
    page.drag((0.2, 0.3), (0.7, 0.7), kind="touch")
    low, span = page.ask("[view.low, view.span]")
    np.testing.assert_allclose(page.cursor, np.array(low) + span * np.array([0.7, 0.7]), atol=0.005 * span)
    np.testing.assert_allclose(page.digit, trained.decode([page.cursor])[0], rtol=0, atol=A_GREY_LEVEL)
    assert page.pins == []


@pytest.mark.slow
@pytest.mark.usefixtures("small_window")
def test_a_finger_on_the_plane_does_not_scroll_the_page(page):
    assert page.ask("document.documentElement.scrollHeight > innerHeight")
    page.drag((0.2, 0.3), (0.7, 0.7), kind="touch")
    assert page.chromium.execute_script("return scrollY") == 0


@pytest.mark.slow
def test_a_tap_pins(page, trained):
    page.click((0.2, 0.7), (0.8, 0.4), kind="touch")
    assert len(page.pins) == 2
    np.testing.assert_allclose(np.array(page.strip)[[0, -1]], trained.decode(page.pins), rtol=0, atol=A_GREY_LEVEL)


@pytest.mark.slow
def test_in_another_window_the_plane_is_as_sharp_and_the_mouse_as_true(page, small_window):
    assert page.ask("plane.width") == page.ask("Math.round(plane.clientWidth * devicePixelRatio)") < 500
    page.move(0.3, 0.6)
    low, span = page.ask("[view.low, view.span]")
    np.testing.assert_allclose(page.cursor, np.array(low) + span * np.array([0.3, 0.6]), atol=0.005 * span)


@pytest.mark.slow
def test_names_are_shown_as_text_whatever_they_hold(page_of, dataset, trained):
    names = ("</script><b>bold</b>", *dataset.label_names[1:])
    page = page_of(trained, label_names=names)
    assert page.ask("Array.from(document.querySelectorAll('#legend li'), item => item.textContent)") == list(names)


@pytest.mark.slow
def test_nothing_is_asked_of_the_network_and_no_error_is_logged(page):
    page.chromium.get_log("browser"), page.chromium.get_log("performance")  # what came before is forgotten
    page.chromium.refresh()
    page.click((0.2, 0.7), (0.8, 0.4))
    page.click((0.5, 0.5), kind="touch")
    page.press("\ue00c")
    messages = [json.loads(entry["message"])["message"] for entry in page.chromium.get_log("performance")]
    asked = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    assert page.chromium.current_url in asked
    assert [url for url in asked if not url.startswith("data:") and url != page.chromium.current_url] == []
    assert page.chromium.get_log("browser") == []
