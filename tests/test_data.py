"""Anybody's files and the sources of MNIST. Downloads are tried against servers on the loopback."""

import errno
import gzip
import hashlib
import re
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import platformdirs
import pytest

from npaae import data, download
from npaae.errors import BadFile, InvalidInput, Unavailable

from .idx_files import STEMS, idx, write_set
from .layouts import KERAS, LAYOUTS, assert_holds, npz_layout, some_images
from .memory import at_most

# Anybody's files


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_usual_layout_is_read_and_named(tmp_path, layout):
    (name, write), images = LAYOUTS[layout], some_images()
    path = write(tmp_path, images)
    dataset = data.load(str(path))
    assert_holds(dataset, images)
    assert dataset.label_names == ("0", "1", "2")
    assert (dataset.name, dataset.path) == (name or tmp_path.name, path)
    assert dataset.source.split(", ")[0] == f"{dataset.name} from {path}"


@pytest.mark.parametrize(("file", "save"), [("mine.npy", np.save), ("mine.npz", np.savez)])
def test_an_array_without_a_name_holds_images_if_its_file_is_named(tmp_path, file, save):
    images, path = some_images(), tmp_path / file
    save(path, images.train_images)
    dataset = data.load(path)
    held = np.concatenate([dataset.train_images, dataset.test_images])
    assert sorted(map(bytes, held)) == sorted(map(bytes, images.train_images))
    assert (dataset.name, dataset.path) == ("mine", path)
    with pytest.raises(Unavailable):
        data.load(tmp_path)


@pytest.mark.parametrize("labels", [np.array(["a", "b"] * 3, object), np.array([b"a", b"b"] * 3)])
def test_texts_of_another_type_are_refused_with_their_remedy(tmp_path, labels):
    images = some_images(train=6).train_images
    with pytest.raises(InvalidInput, match=r"\.astype\(str\)"):
        data.dataset(images, labels)
    np.savez(tmp_path / "mine.npz", images=images, labels=labels)
    with pytest.raises(BadFile, match=r"\.astype\(str\)"):
        data.load(tmp_path / "mine.npz")


def test_a_relative_path_has_the_name_of_its_folder(tmp_path, monkeypatch):
    LAYOUTS["torchvision"][1](tmp_path, some_images())
    monkeypatch.chdir(tmp_path / "KMNIST" / "raw")
    assert data.load(".").name == "KMNIST"


@pytest.mark.parametrize("labelled", [True, False])
def test_without_a_test_part_a_tenth_is_held_out_by_a_fixed_draw_and_that_is_said(
    tmp_path, labelled
):
    images = some_images(train=40)
    np.savez(tmp_path / "mine.npz", x=images[0], **({"y": images[1]} if labelled else {}))
    first, again = (data.load(tmp_path / "mine.npz") for _ in range(2))
    assert (len(first.train_images), len(first.test_images)) == (36, 4)
    assert_holds(again, first[:4])
    assert "held out" in first.source
    together = np.concatenate((first.train_images, first.test_images))
    rows = {image.tobytes() for image in together}
    assert rows == {image.tobytes() for image in images[0]}
    if labelled:
        place = {image.tobytes(): label for image, label in zip(*images[:2], strict=True)}
        assert [place[image.tobytes()] for image in first.test_images] == [*first.test_labels]
    else:
        assert (first.train_labels, first.test_labels, first.label_names) == (None, None, ())


def test_what_is_held_out_is_of_the_whole_file():
    numbers = np.arange(200) / 200
    held_out = 200 * data.dataset(numbers[:, None, None] * np.ones((2, 2))).test_images[:, 0, 0]
    assert len(held_out) == 20
    assert held_out.min() < 50 < 150 < held_out.max()


def test_the_name_of_an_archive_may_be_in_capitals(tmp_path):
    npz_layout("x", "y")(tmp_path, some_images()).rename(tmp_path / "DATA.NPZ")
    assert data.load(tmp_path / "DATA.NPZ").train_labels is not None


@pytest.mark.parametrize("part", ["train_labels", "test_labels"])
def test_a_label_of_either_part_that_has_no_name_is_refused(part):
    images, labels = np.ones((6, 3, 3)), np.arange(6) % 2
    named = data.dataset(images, labels, images, labels)
    with pytest.raises(InvalidInput, match=r"^labels must"):
        data.usable(named._replace(**{part: labels + 1}), 9)


def test_images_for_validation_are_the_test_set_if_there_is_no_other(tmp_path):
    images = some_images()
    np.savez(tmp_path / "mine.npz", x_train=images.train_images, x_val=images.test_images)
    dataset = data.load(tmp_path / "mine.npz")
    assert_holds(dataset, images._replace(train_labels=None, test_labels=None))


@pytest.mark.parametrize("size", [(8, 8), (64, 48), (30,), (1, 1)])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_images_have_any_size_and_either_type(tmp_path, size, dtype):
    images = some_images(size)
    if dtype != np.uint8:
        images = images._replace(
            train_images=(images[0] / 255).astype(dtype),
            test_images=(images[2] / 255).astype(dtype),
        )
    dataset = data.load(npz_layout(*KERAS)(tmp_path, images))
    assert_holds(dataset, images)
    assert dataset.train_images.dtype == dtype


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (np.arange(1, 27), tuple(map(str, range(1, 27)))),
        (np.array([7, 7, 1000]), ("7", "1000")),
        (np.array([3]), ("3",)),
        (np.array(["oak", "elm"]), ("elm", "oak")),
        (np.array([True, False]), ("0", "1")),
        (np.array([2**63, 5], np.uint64) - 1, ("4", str(2**63 - 1))),
        (np.arange(300), tuple(map(str, range(300)))),
    ],
)
def test_labels_become_0_to_k_in_their_order_and_keep_their_names(labels, names):
    labels = np.tile(labels, 4)
    images = np.zeros((len(labels), 2, 2), np.uint8)
    dataset = data.dataset(images, labels, images[:2], labels[:2])
    assert dataset.label_names == names
    numbers_or_texts = labels.astype(int) if labels.dtype == bool else labels
    assert [names[k] for k in dataset.train_labels] == [*map(str, numbers_or_texts)]
    assert names[dataset.test_labels[0]] == names[dataset.train_labels[0]]


def test_a_part_may_lack_its_labels(tmp_path):
    images = some_images()
    both = data.dataset(*images[:3])
    assert both.test_labels is None
    assert both.train_labels.tolist() == images.train_labels.tolist()
    both = data.dataset(images.train_images, None, *images[2:])
    assert both.train_labels is None
    assert both.test_labels.tolist() == images.test_labels.tolist()


IMAGES, LABELS, *_ = some_images()
BAD_ARGUMENTS = {
    "test labels without images": (IMAGES, None, None, LABELS),
    "one test image": (IMAGES, None, IMAGES[:1]),
    "one training image": (IMAGES[:1], None, IMAGES),
    "labels in one part and texts in the other": (IMAGES, LABELS, IMAGES, LABELS.astype(str)),
    "unlabelled": (IMAGES, np.full(12, -1)),
    "labels beyond 63 bits": (IMAGES, np.full(12, 2**63, np.uint64)),
    "masked labels": (IMAGES, np.ma.masked_equal(LABELS, 2)),
    "masked images": (np.ma.masked_less(IMAGES, 9),),
    "rows with masks": ([np.ma.masked_less(row, 9) for row in IMAGES],),
    "records with masks": (np.ma.array([(1, 2)] * 12, mask=[(1, 0)] * 12, dtype="u1,u1"),),
    "complex": (IMAGES / 255 * 1j,),
    "dates": (IMAGES.astype("M8[D]"),),
    "records": (np.zeros((12, 4), "u1,f4"),),
    "objects": (np.array([*IMAGES, None], object),),
    "a number": (0.5,),
    "nothing": ([],),
    "labels as a number": (IMAGES, 1),
    "half of a character": (IMAGES, ["\ud800"] * 12),
    "no character": (IMAGES, np.full((12, 1), 2**31, np.uint32).view("=U1")),
}


@pytest.mark.parametrize("arguments", BAD_ARGUMENTS.values(), ids=BAD_ARGUMENTS)
def test_arrays_that_make_no_data_set_are_refused_in_a_sentence(arguments):
    with pytest.raises(InvalidInput, match=r"^(images|labels|test_labels) must") as refused:
        data.dataset(*arguments)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(("label", "said"), [(-1, "-1; .*unlabelled"), (2**64 - 1, 2**64 - 1)])
def test_a_label_outside_the_range_is_named(label, said):
    with pytest.raises(InvalidInput, match=f"got {said}"):
        data.dataset(IMAGES, np.full(12, label))


@pytest.mark.parametrize(
    "images",
    [
        np.ma.array(IMAGES, mask=False),
        np.asfortranarray(IMAGES),
        np.repeat(IMAGES, 2, axis=2)[:, :, ::2],
        (IMAGES / 255).astype(">f8"),
        (IMAGES / 255).astype(np.float16),
        (IMAGES / 255).astype(np.longdouble),
        [*IMAGES],
    ],
    ids=["no mask", "Fortran", "strides", "byte order", "half", "long double", "list"],
)
def test_the_layout_of_an_array_in_memory_does_not_matter(images):
    held = data.dataset(images).train_images
    expected = data.dataset(IMAGES).train_images
    unit = held / 255 if held.dtype == np.uint8 else held
    np.testing.assert_allclose(unit, expected / 255, atol=1e-3)


@pytest.mark.parametrize("published", [data._MNIST, data._FASHION_MNIST], ids=lambda p: p.title)
def test_a_published_set_is_recognised_wherever_it_lies(full_set, published):
    dataset = data.load(full_set(published.title.lower()))
    assert (dataset.name, dataset.label_names) == (published.title, published.label_names)


ONE_IMAGE = np.zeros((1, 3, 3), np.uint8)
REFUSED = {  # arrays of an archive, and what the sentence says
    "colours": ({"x_train": np.zeros((6, 4, 4, 3), np.uint8)}, "grey"),
    "colours first": ({"x_train": np.zeros((6, 3, 4, 4), np.uint8)}, "grey"),
    "unequal images": ({"x_train": np.array([np.eye(2), [1.0]], object)}, "unequal arrays"),
    "integers": ({"x_train": np.zeros((6, 4, 4), int)}, r"astype\(np\.uint8\)"),
    "0 to 255": ({"x_train": np.full((6, 4, 4), 255.0)}, "divide by 255"),
    "standardised": ({"x_train": np.linspace(-2, 2, 96).reshape(6, 4, 4)}, "scale them"),
    "NaN": ({"x_train": np.full((6, 4, 4), np.nan)}, "got NaN"),
    "text": ({"x_train": np.array(["a"] * 6)}, "uint8, or floats"),
    "a number": ({"x_train": np.uint8(3)}, "shape"),
    "no images": ({"x_train": np.zeros((0, 4, 4), np.uint8)}, "n at least 1"),
    "no pixels": ({"x_train": np.zeros((6, 0, 4), np.uint8)}, "shape"),
    "five axes": ({"x_train": np.zeros((6, 1, 1, 4, 4), np.uint8)}, "shape"),
    "too few to hold out": ({"x_train": np.zeros((3, 4, 4), np.uint8)}, "at least 4"),
    "two sizes": (
        {"x": np.zeros((2, 3, 3), np.uint8), "x_test": np.zeros((2, 3, 4), np.uint8)}, "one size",
    ),
    "no training images": ({"x_test": ONE_IMAGE}, "training images"),
    "images of no part and of one": ({"x_train": ONE_IMAGE, "images": ONE_IMAGE}, "once"),
    "images under two names": ({"x_test": ONE_IMAGE, "test_images": ONE_IMAGE}, "once"),
    "labels under names of other case": ({"x": ONE_IMAGE, "y": [1], "Y": [1]}, "once"),
    "labels without images": ({"x_train": ONE_IMAGE, "y_test": [1]}, "the test images"),
    "labels of another number": ({"x_train": np.zeros((6, 3), np.uint8), "y_train": [1]}, "labels"),
    "one-hot labels": (
        {"x_train": np.zeros((6, 3), np.uint8), "y_train": np.eye(6)}, "argmax.* leave them out",
    ),
    "one-hot labels of eight classes": (
        {"x_train": np.zeros((8, 3), np.uint8), "y_train": np.eye(8, dtype=int)}, "argmax",
    ),
    "labels as floats": (
        {"x_train": np.zeros((6, 3), np.uint8), "y_train": np.ones(6)}, r"astype\(int\)",
    ),
    "negative labels": ({"x_train": np.zeros((6, 3), np.uint8), "y_train": [-1] * 6}, "got -1"),
    "labels as objects": (
        {"x_train": np.zeros((6, 3), np.uint8), "y_train": np.array([None] * 6)}, "objects",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("arrays", "words"), REFUSED.values(), ids=REFUSED)
def test_what_no_model_can_learn_from_is_refused_in_a_sentence(tmp_path, arrays, words):
    np.savez(tmp_path / "mine.npz", **arrays)
    with pytest.raises(BadFile, match=rf"mine\.npz.*{words}") as refused:
        data.load(tmp_path / "mine.npz")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "arrays",
    [
        {"images": np.zeros((40, 224, 224, 3), np.uint8)},
        {"images": np.zeros((40, 224, 224), np.int32)},
        {"images": np.zeros((4, 2, 2), np.uint8), "labels": np.zeros(2**23, np.uint8)},
        {"images": np.zeros((4, 2, 2), np.uint8), "labels": np.zeros((4, 2**21), np.uint8)},
    ],
    ids=["colours", "integers", "too many labels", "too many columns"],
)
def test_what_its_header_betrays_is_refused_before_it_takes_memory(tmp_path, arrays):
    np.savez_compressed(tmp_path / "mine.npz", **arrays)
    with at_most(2**22), pytest.raises(BadFile, match=r"mine\.npz: "):
        data.load(tmp_path / "mine.npz")


@pytest.mark.parametrize("content", [b"", b"PK\3\4 and no more", b"something else"])
def test_a_file_that_is_no_archive_is_refused_by_name(tmp_path, content):
    (tmp_path / "mine.npz").write_bytes(content)
    for path in (tmp_path, tmp_path / "mine.npz"):
        with pytest.raises(BadFile, match=r"mine\.npz"):
            data.load(path)


@pytest.mark.parametrize("name", ["train-labels-idx1-ubyte", "notes.txt", "theta.npz"])
def test_what_holds_no_images_is_unavailable(tmp_path, name):
    np.savez(tmp_path / "theta.npz", theta=np.zeros(3))
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx(np.zeros(3, np.uint8)))
    (tmp_path / "notes.txt").touch()
    for path in (tmp_path, tmp_path / name):
        with pytest.raises(Unavailable, match=re.escape(str(path))):
            data.load(path)


def test_what_there_is_instead_of_images_is_named_and_a_packed_file_is_to_be_unpacked(tmp_path):
    for k in range(8):
        (tmp_path / f"{k}.png").touch()
    for k, others in [(8, "1 other"), (9, "2 others")]:
        (tmp_path / f"{k}.png").touch()
        with pytest.raises(Unavailable, match=rf"only 0\.png, .*, 7\.png, {others}$"):
            data.load(tmp_path)
    (tmp_path / "archive.zip").touch()
    for path in (tmp_path, tmp_path / "archive.zip"):
        with pytest.raises(Unavailable, match=r"; unpack archive\.zip$"):
            data.load(path)


def test_a_path_that_does_not_exist_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        data.load(tmp_path / "nothing")


# Named folders and the sample


def test_a_named_folder_may_hold_files_that_are_not_gzipped(tmp_path):
    arrays = write_set(tmp_path / "mine", compress=False)
    digits = data.mnist(tmp_path / "mine")
    for got, expected in zip(digits[:4], arrays.values(), strict=True):
        np.testing.assert_array_equal(got, expected)
    assert digits.source == f"MNIST from {tmp_path / 'mine'}"


def test_a_named_folder_that_lacks_a_file_is_an_error_and_no_other_source_is_tried(tmp_path):
    write_set(tmp_path)
    (tmp_path / f"{STEMS[1]}.gz").unlink()
    (tmp_path / f"{STEMS[1]}.gz").mkdir()  # a folder of that name is not the file either
    with pytest.raises(Unavailable, match=STEMS[1]):
        data.mnist(tmp_path)


@pytest.mark.parametrize(
    "replaced",
    [
        {"train_labels": np.zeros(5, np.uint8)},
        {"t10k_labels": np.full(3, 10, np.uint8)},
        {"t10k_labels": np.zeros((3, 1), np.uint8)},
        {"train_labels": np.zeros(6, np.int8)},
        {"train_images": np.zeros((6, 784), np.uint8)},
        {"train_images": np.zeros((6, 14, 14), np.uint8)},
        {"train_images": np.zeros((6, 28, 28), np.int8)},
        {"t10k_images": np.zeros((0, 28, 28), np.uint8), "t10k_labels": np.zeros(0, np.uint8)},
    ],
)
def test_files_that_do_not_belong_together_are_refused(tmp_path, replaced):
    write_set(tmp_path / "mine", **replaced)
    with pytest.raises(BadFile, match="mine must hold"):
        data.mnist(tmp_path / "mine")


def test_the_bundled_sample_has_its_documented_size_and_labels():
    digits = data.mnist_sample()
    assert digits.train_images.shape == (10_000, 28, 28)
    assert digits.test_images.shape == (1_000, 28, 28)
    assert digits.train_labels[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert digits.test_labels[:10].tolist() == [7, 0, 9, 3, 1, 6, 7, 7, 7, 3]


def test_the_bundled_sample_is_mnists_first_10000_training_and_every_tenth_test_image(full_set):
    sample, digits = data.mnist_sample(), data.mnist(full_set("mnist"))
    np.testing.assert_array_equal(sample.train_images, digits.train_images[:10_000])
    np.testing.assert_array_equal(sample.train_labels, digits.train_labels[:10_000])
    np.testing.assert_array_equal(sample.test_images, digits.test_images[::10])
    np.testing.assert_array_equal(sample.test_labels, digits.test_labels[::10])


@pytest.mark.parametrize("published", [data._MNIST, data._FASHION_MNIST], ids=lambda p: p.title)
def test_the_digests_are_those_of_the_full_sets(full_set, published):
    folder = full_set(published.title.lower())
    for stem, digest in zip(STEMS, published.digests, strict=True):
        content = gzip.decompress((folder / f"{stem}.gz").read_bytes())
        assert hashlib.sha256(content).hexdigest() == digest


def test_the_sources_are_those_that_are_published():
    """Written a second time, because no test can try them and a typing error would break them."""
    assert data._MNIST.mirrors == (
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
    )
    fashion = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
    assert data._FASHION_MNIST.mirrors == (fashion,)
    assert data._FASHION_MNIST.system_folders == ("/usr/share/datasets/fashion-mnist",)
    assert data._FASHION_MNIST.label_names[::9] == ("T-shirt", "ankle boot")


# The cache, the system's copy and downloads


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    """The folder of MNIST in an empty cache: no test touches the user's."""
    monkeypatch.setattr(platformdirs, "user_cache_path", lambda name: tmp_path / "cache" / name)
    return tmp_path / "cache" / "npaae" / "mnist"


@pytest.fixture
def publish(monkeypatch, tmp_path):
    """Publish a tiny MNIST, in the folder `mirror`: (mirrors, system folders) -> its arrays."""

    def make(mirrors=(), system_folders=(), **arguments):
        arrays = write_set(tmp_path / "mirror", **arguments)
        tiny = data._MNIST._replace(
            digests=tuple(hashlib.sha256(idx(array)).hexdigest() for array in arrays.values()),
            mirrors=tuple(mirrors),
            system_folders=tuple(system_folders),
        )
        monkeypatch.setattr(data, "_MNIST", tiny)
        return arrays

    return make


def test_one_data_set_is_not_taken_for_the_other(publish, tmp_path):
    publish()
    assert len(data.mnist(tmp_path / "mirror").train_images) == 6
    with pytest.raises(BadFile, match="mirror must hold Fashion-MNIST"):
        data.fashion_mnist(tmp_path / "mirror")


def test_a_system_copy_is_used_before_the_network_if_its_content_is_right(publish, tmp_path):
    write_set(tmp_path / "other", train=7)
    arrays = publish(system_folders=[tmp_path / "other", tmp_path / "mirror"])
    np.testing.assert_array_equal(data.mnist().train_images, arrays["train_images"])


def test_a_system_copy_that_cannot_be_read_is_passed_over(publish, tmp_path, monkeypatch):
    def read(folder, *arguments):
        if folder.name == "locked":
            raise PermissionError(errno.EACCES, "Permission denied", str(folder))
        return read_folder(folder, *arguments)

    read_folder = data._read_folder
    monkeypatch.setattr(data, "_read_folder", read)
    arrays = publish(system_folders=[tmp_path / "locked", tmp_path / "mirror"])
    np.testing.assert_array_equal(data.mnist().train_images, arrays["train_images"])


def test_the_users_cache_precedes_a_system_copy(publish, tmp_path, cache):
    publish(system_folders=[tmp_path / "mirror"])
    write_set(cache)
    assert data.mnist().source == f"MNIST from {cache}"


class Mirror(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture
def serve(tmp_path):
    """Start servers: a request handler (by default one of the folder `mirror`) -> its address."""
    servers = []

    def start(handler=Mirror):
        handler = partial(handler, directory=tmp_path / "mirror")
        servers.append(ThreadingHTTPServer(("127.0.0.1", 0), handler))
        threading.Thread(target=servers[-1].serve_forever, args=(0.01,), daemon=True).start()
        return f"http://127.0.0.1:{servers[-1].server_port}/"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def answering(status, body, length=None):
    """A handler that answers every request alike, promising `length` bytes."""

    class Handler(Mirror):
        def do_GET(self):
            self.send_response(status)
            self.send_header("Content-Length", str(len(body) if length is None else length))
            self.end_headers()
            self.wfile.write(body)

    return Handler


def test_a_download_is_kept_and_the_next_call_needs_no_network(publish, serve, cache, capsys):
    publish(mirrors=[serve()])
    digits = data.mnist()
    assert str(cache) in capsys.readouterr().err
    arrays = publish(mirrors=[])
    for got, again, expected in zip(digits[:4], data.mnist()[:4], arrays.values(), strict=True):
        assert np.array_equal(got, expected)
        assert np.array_equal(again, expected)


PACKED = gzip.compress(idx(np.arange(6, dtype=np.uint8)))
BAD_MIRRORS = {
    "missing": answering(404, b"no such file"),
    "html": answering(200, b"<html>please log in</html>"),
    "other content": answering(200, gzip.compress(b"something else")),
    "truncated": answering(200, PACKED[:-4]),
    "cut connection": answering(200, PACKED, length=1000),
}


@pytest.mark.parametrize("bad", BAD_MIRRORS.values(), ids=BAD_MIRRORS)
def test_a_mirror_that_fails_is_passed_over_and_leaves_nothing_behind(publish, serve, cache, bad):
    publish(mirrors=[serve(bad)])
    with pytest.raises(Unavailable):
        data.mnist()
    assert not list(cache.iterdir())
    publish(mirrors=[serve(bad), serve()])
    assert len(data.mnist().train_images) == 6


def test_every_mirror_that_was_tried_is_named_in_one_line(publish, serve):
    mirrors = [serve(answering(404, b"")), "http://127.0.0.1:9/"]
    publish(mirrors)
    with pytest.raises(Unavailable, match=rf"^MNIST .*{mirrors[0]} \(404\).*{mirrors[1]}.*$"):
        data.mnist()


def test_a_mirror_that_does_not_answer_is_given_up(publish, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        publish(mirrors=[address])
        monkeypatch.setattr(data, "_TIMEOUT", 0.2)
        with pytest.raises(Unavailable, match=address):
            data.mnist()


@pytest.mark.parametrize("beginning", [b"", b"HTTP/1.1 200 OK\r\n\r\n"], ids=["header", "body"])
def test_a_mirror_of_a_few_bytes_a_second_is_given_up(publish, monkeypatch, beginning):
    """It is never silent for long, so no timeout of one answer ends it."""

    def trickle():
        connection, _ = server.accept()
        with connection, suppress(OSError):  # when the client hangs up
            connection.sendall(beginning)
            for _ in range(200):  # a client that waits for more is found out
                if ended.wait(0.05):
                    break
                connection.sendall(b"x")

    ended = threading.Event()
    monkeypatch.setattr(download, "PATIENCE", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=trickle)
        thread.start()
        publish(mirrors=[f"http://127.0.0.1:{server.getsockname()[1]}/"])
        with pytest.raises(Unavailable, match="Timeout"):
            data.mnist()
        ended.set()
        thread.join()


def test_what_a_mirror_calls_encoded_is_not_decoded_on_the_way(publish, serve, monkeypatch):
    """Decoding may multiply a few bytes by a thousand, twice if they are packed twice."""
    monkeypatch.setattr(data, "_LARGEST_FILE", 2**20)
    bomb = gzip.compress(gzip.compress(bytes(2**26)))

    class Encoded(Mirror):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Encoding", "gzip, gzip")
            self.send_header("Content-Length", str(len(bomb)))
            self.end_headers()
            self.wfile.write(bomb)

    publish(mirrors=[serve(Encoded)])
    with at_most(2**22), pytest.raises(Unavailable):
        data.mnist()


def test_a_file_that_is_already_in_the_cache_is_not_fetched_again(publish, serve, cache):
    asked = []

    class Noting(Mirror):
        def do_GET(self):
            asked.append(self.path)
            super().do_GET()

    publish(mirrors=[serve(Noting)])
    data.mnist()
    (cache / STEMS[1]).unlink()
    data.mnist()
    assert asked == [f"/{stem}.gz" for stem in (*STEMS, STEMS[1])]


class Endless(Mirror):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        with suppress(OSError):  # when the client hangs up
            while True:
                self.wfile.write(bytes(2**20))


@pytest.mark.parametrize(
    "handler", [Endless, answering(200, gzip.compress(bytes(2**26)))], ids=["endless", "gzip bomb"]
)
def test_a_download_beyond_the_size_of_any_published_file_is_cut_off(
    publish, serve, monkeypatch, handler
):
    publish(mirrors=[serve(handler)])
    monkeypatch.setattr(data, "_LARGEST_FILE", 2**21)
    with at_most(2**24), pytest.raises(Unavailable):
        data.mnist()


def test_a_cache_that_cannot_be_written_is_blamed_and_not_a_mirror(publish, tmp_path, cache, serve):
    publish(mirrors=[serve()])
    (tmp_path / "cache").touch()
    with pytest.raises(Unavailable, match=re.escape(str(cache))):
        data.mnist()


def test_a_spoilt_cache_is_fetched_again(publish, serve, cache):
    publish(mirrors=[serve()])
    data.mnist()
    (cache / STEMS[0]).write_bytes(b"spoilt")
    assert len(data.mnist().train_images) == 6


@pytest.mark.slow
def test_two_processes_that_download_at_once_both_succeed(publish, serve, cache):
    class Slow(Mirror):
        def copyfile(self, source, outputfile):
            for piece in iter(lambda: source.read(20_000), b""):
                time.sleep(0.02)
                outputfile.write(piece)

    publish(mirrors=[serve(Slow)], train=500)
    program = (
        "import pathlib, platformdirs\nfrom npaae import data\n"
        f"platformdirs.user_cache_path = lambda name: pathlib.Path({str(cache.parent)!r})\n"
        f"data._MNIST = data._Published(*{tuple(data._MNIST)!r})\n"
        "print(len(data.mnist().train_images))"
    )
    command = [sys.executable, "-c", program]
    for process in [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(2)]:
        out, _ = process.communicate(timeout=60)
        assert (process.returncode, out.split()) == (0, [b"500"])
    assert {path.name for path in cache.iterdir()} == set(STEMS)
