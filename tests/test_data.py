import errno
import gzip
import os
import socket
import subprocess
import sys
import threading
import time
import tracemalloc
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from npaae import data
from npaae.checks import BadFile, Unavailable

from .idx_files import STEMS, idx, write_set

PUBLISHED_MIRRORS, SYSTEM = data._MIRRORS, data._SYSTEM  # before the fixture below takes them away

# The IDX format


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int16, np.int32, np.float32, np.float64])
def test_every_element_type_is_read(tmp_path, dtype):
    array = np.arange(24).reshape(2, 3, 4).astype(dtype)
    (tmp_path / "x").write_bytes(idx(array))
    got = data.read_idx(tmp_path / "x")
    np.testing.assert_array_equal(got, array)
    assert got.dtype == array.dtype


def test_a_gzipped_file_is_read_whatever_its_name(tmp_path):
    array = np.arange(6, dtype=np.uint8).reshape(2, 3)
    (tmp_path / "x").write_bytes(gzip.compress(idx(array)))
    np.testing.assert_array_equal(data.read_idx(str(tmp_path / "x")), array)


GOOD = idx(np.arange(6, dtype=np.uint8).reshape(2, 3))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is not an IDX file"),
        (b"<!DOCTYPE html>", "is not an IDX file"),
        (b"\0\0\x07\x01\0\0\0\x01\0", "is not an IDX file"),
        (GOOD[:6], "truncated: it ends inside its header"),
        (GOOD[:-1], "promises 6 bytes and only 5 follow"),
        (GOOD + b"\0", "promises 6 bytes and more follow"),
        (b"\0\0", "is not an IDX file"),
        (b"\0\0\x08\x03" + b"\xff" * 12 + b"\0", "promises [0-9,]+ bytes, and no IDX file here has over 1 GiB"),
        (b"\0\0\x08\x01\x40\0\0\0" + b"\0", "promises 1073741824 bytes and only 1 follow"),
        (b"\0\0\x08\x41" + b"\0\0\0\x01" * 65 + b"\7", "no array has shape"),
        (b"\0\0\x08\x04" + b"\0" * 4 + b"\xff" * 12, "no array has shape"),
        (gzip.compress(GOOD)[:-9], "is damaged"),
        (gzip.compress(GOOD) + b"trailing", "is damaged: Not a gzipped file"),
        (gzip.compress(GOOD[:8] + bytes(10**7)), "promises .* bytes and more follow"),
        (gzip.compress(GOOD)[:-8] + b"\0" * 4 + gzip.compress(GOOD)[-4:], "is damaged: CRC check failed"),
    ],
)
def test_a_damaged_file_is_refused_by_name(tmp_path, content, says):
    (tmp_path / "images").write_bytes(content)
    with pytest.raises(BadFile, match=f"images .*{says}"):
        data.read_idx(tmp_path / "images")


def test_a_gzip_bomb_is_not_unpacked(tmp_path):
    (tmp_path / "bomb.gz").write_bytes(gzip.compress(GOOD[:4] + b"\0\0\0\1\0\0\0\1" + bytes(2**27)))  # 128 MiB in 130 KiB
    tracemalloc.start()
    try:
        with pytest.raises(BadFile, match="promises 1 bytes and more follow"):
            data.read_idx(tmp_path / "bomb.gz")
        assert tracemalloc.get_traced_memory()[1] < 2**22
    finally:
        tracemalloc.stop()


def test_a_folder_in_a_files_place_is_not_taken_for_it(tmp_path):
    write_set(tmp_path / "mine")
    (tmp_path / "mine" / f"{STEMS[1]}.gz").unlink()
    (tmp_path / "mine" / f"{STEMS[1]}.gz").mkdir()
    with pytest.raises(Unavailable, match=rf"mine has no {STEMS[1]}\[\.gz\]"):
        data.mnist(tmp_path / "mine")
    with pytest.raises(IsADirectoryError):
        data.read_idx(tmp_path / "mine")


def test_a_file_that_may_not_be_read_is_an_os_error(tmp_path, monkeypatch):
    write_set(tmp_path / "mine")

    def forbidden(path, *_):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr("builtins.open", forbidden)  # root, as whom tests may run, is denied nothing
    with pytest.raises(PermissionError, match="mine"):
        data.mnist(tmp_path / "mine")


def test_a_missing_file_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        data.read_idx(tmp_path / "nothing")


# The sources


@pytest.fixture(autouse=True)
def an_empty_cache_and_no_mirrors(monkeypatch, tmp_path):
    """No test reads the user's cache, a system copy or the network."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(data, "_SYSTEM", {})
    monkeypatch.setattr(data, "_MIRRORS", dict.fromkeys(data._MIRRORS, ("http://127.0.0.1:9/",)))


@pytest.mark.parametrize("compress", [True, False])
def test_a_named_folder_is_read_gzipped_or_not(tmp_path, compress):
    arrays = write_set(tmp_path / "mine", compress=compress)
    digits = data.mnist(tmp_path / "mine")
    for got, expected in zip(digits[:4], arrays.values(), strict=True):
        np.testing.assert_array_equal(got, expected)
    assert digits.source == f"MNIST from {tmp_path / 'mine'}"


def test_a_named_folder_without_the_files_is_an_error_not_a_fallback(tmp_path):
    with pytest.raises(Unavailable, match=r"has no train-images-idx3-ubyte\[\.gz\]; name a folder"):
        data.mnist(tmp_path)


@pytest.mark.parametrize(
    ("replaced", "says"),
    [
        ({"train_labels": np.zeros(5, np.uint8)}, "6 images and 5 labels"),
        ({"t10k_labels": np.full(3, 10, np.uint8)}, "a label 10"),
        (
            {"train_images": np.zeros((6, 784), np.uint8)},
            r"images of shape \(6, 784\) and type uint8 and .*; MNIST's are bytes of shapes \(n, 28, 28\)",
        ),
        ({"train_images": np.zeros((6, 14, 14), np.uint8)}, r"images of shape \(6, 14, 14\)"),
        ({"t10k_labels": np.zeros((3, 1), np.uint8)}, r"labels of shape \(3, 1\)"),
        ({"train_images": np.zeros((6, 28, 28), np.int8)}, "and type int8 and labels"),
        ({"train_labels": np.zeros(6, np.int8)}, "labels of shape .* and type int8"),
        ({"train_images": np.zeros((0, 28, 28), np.uint8), "train_labels": np.zeros(0, np.uint8)}, "0 images"),
    ],
)
def test_files_that_do_not_belong_together_are_refused(tmp_path, replaced, says):
    write_set(tmp_path / "mine", **replaced)
    with pytest.raises(BadFile, match=says):
        data.mnist(tmp_path / "mine")


def test_one_data_set_is_not_taken_for_the_other(tmp_path, monkeypatch):
    arrays = write_set(tmp_path / "mine")
    published = dict(data._DIGESTS)
    published["fashion-mnist"] = published["fashion-mnist"] | {STEMS[2]: data._digest(arrays["t10k_images"])}
    monkeypatch.setattr(data, "_DIGESTS", published)
    with pytest.raises(BadFile, match="mine holds Fashion-MNIST, and MNIST is wanted; name its folder"):
        data.mnist(tmp_path / "mine")
    assert len(data.fashion_mnist(tmp_path / "mine").train_images) == 6


def test_the_clothes_have_their_publishers_names():
    assert data._LABEL_NAMES["fashion-mnist"] == (
        "T-shirt", "trousers", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot",
    )  # fmt: skip


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


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
def test_the_digests_are_those_of_the_full_sets(full_set, name):
    folder = full_set(name)
    for stem, digest in data._DIGESTS[name].items():
        assert data._digest(data.read_idx(folder / f"{stem}.gz")) == digest


def publish(monkeypatch, folder, **arguments):
    """Make a tiny data set the published one, and put it in `folder`."""
    arrays = write_set(folder, **arguments)
    digests = {stem: data._digest(array) for stem, array in zip(STEMS, arrays.values(), strict=True)}
    monkeypatch.setattr(data, "_DIGESTS", dict.fromkeys(data._DIGESTS, digests))
    return arrays


def test_a_system_copy_is_used_before_the_network(tmp_path, monkeypatch):
    arrays = publish(monkeypatch, tmp_path / "system")
    monkeypatch.setattr(data, "_SYSTEM", {"fashion-mnist": (tmp_path / "system",)})
    clothes = data.fashion_mnist()
    np.testing.assert_array_equal(clothes.train_images, arrays["train_images"])
    assert clothes.label_names[0] == "T-shirt"


def test_a_system_copy_of_other_content_is_not_used(tmp_path, monkeypatch):
    publish(monkeypatch, tmp_path / "published")
    write_set(tmp_path / "system", train=7)
    monkeypatch.setattr(data, "_SYSTEM", {"fashion-mnist": (tmp_path / "system",)})
    with pytest.raises(Unavailable):
        data.fashion_mnist()


@pytest.mark.parametrize(("load", "title"), [(data.mnist, "MNIST"), (data.fashion_mnist, "Fashion-MNIST")])
def test_what_cannot_be_had_is_one_sentence_saying_what_was_tried_and_what_to_do(load, title):
    with pytest.raises(Unavailable) as caught:
        load()
    message = str(caught.value)
    assert message.startswith(f"{title} cannot be downloaded: tried http://127.0.0.1:9/ (no connection)")
    assert "--data-dir" in message
    assert "\n" not in message


def test_a_cache_that_cannot_be_written_is_blamed_and_no_mirror(tmp_path):
    (tmp_path / "cache").touch()
    with pytest.raises(Unavailable, match=r"MNIST cannot be downloaded to .*/cache/npaae/mnist \(Not a directory\)"):
        data.mnist()


def test_the_users_cache_comes_before_a_system_copy(tmp_path, monkeypatch):
    publish(monkeypatch, tmp_path / "system")
    write_set(tmp_path / "cache" / "npaae" / "fashion-mnist")
    monkeypatch.setattr(data, "_SYSTEM", {"fashion-mnist": (tmp_path / "system",)})
    assert data.fashion_mnist().source == f"Fashion-MNIST from {tmp_path / 'cache' / 'npaae' / 'fashion-mnist'}"


def test_the_sources_are_those_that_are_published():
    # written again, lest a slip of the keyboard go unnoticed until a user has no network's luck
    assert PUBLISHED_MIRRORS == {
        "mnist": (
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
            "https://storage.googleapis.com/cvdf-datasets/mnist/",
        ),
        "fashion-mnist": ("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",),
    }
    assert SYSTEM == {"fashion-mnist": ("/usr/share/datasets/fashion-mnist",)}


# Downloads, against a real server on the loopback


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture
def serve():
    """Start servers on the loopback; the fixture's value takes a request handler and gives the server's address."""
    servers = []

    def start(handler):
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}/"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def answering(status, body, length=None):
    """A handler that answers every request alike, promising `length` bytes."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(status)
            self.send_header("Content-Length", str(len(body) if length is None else length))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    return Handler


def test_a_download_is_kept_and_the_next_call_needs_no_network(tmp_path, monkeypatch, serve, capsys):
    arrays = publish(monkeypatch, tmp_path / "mirror")
    address = serve(partial(Quiet, directory=tmp_path / "mirror"))
    monkeypatch.setattr(data, "_MIRRORS", {"mnist": (address,)})
    digits = data.mnist()
    np.testing.assert_array_equal(digits.test_images, arrays["t10k_images"])
    assert capsys.readouterr().err == f"Downloading MNIST to {tmp_path / 'cache' / 'npaae' / 'mnist'}\n"
    monkeypatch.setattr(data, "_MIRRORS", {"mnist": ()})
    np.testing.assert_array_equal(data.mnist().train_images, arrays["train_images"])


def test_every_mirror_that_was_tried_is_named_with_its_reason(tmp_path, monkeypatch, serve):
    publish(monkeypatch, tmp_path / "mirror")
    first, second = serve(answering(404, b"")), serve(answering(503, b""))
    monkeypatch.setattr(data, "_MIRRORS", {"mnist": (first, second)})
    with pytest.raises(Unavailable, match=rf"tried {first} \(status 404\) and {second} \(status 503\); connect"):
        data.mnist()


def test_a_mirror_that_does_not_answer_is_given_up(tmp_path, monkeypatch):
    publish(monkeypatch, tmp_path / "mirror")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        monkeypatch.setattr(data, "_MIRRORS", {"mnist": (address,)})
        monkeypatch.setattr(data, "_TIMEOUT", 0.2)
        with pytest.raises(Unavailable, match=rf"tried {address} \(no answer in time\)"):
            data.mnist()


def test_a_download_that_unpacks_to_more_than_any_data_set_is_cut_off(tmp_path, monkeypatch, serve):
    publish(monkeypatch, tmp_path / "mirror")
    monkeypatch.setattr(data, "_MIRRORS", {"mnist": (serve(answering(200, gzip.compress(bytes(10**6)))),)})
    monkeypatch.setattr(data, "_LARGEST", 5000)
    written = []
    decompressed = data._decompressed

    def watched(url, output_file, pooch):
        decompressed(url, output_file, pooch)
        written.append(os.path.getsize(output_file))

    monkeypatch.setattr(data, "_decompressed", watched)
    with pytest.raises(Unavailable, match="not the published file"):
        data.mnist()
    assert written == [5000]


def test_a_download_that_never_ends_is_given_up(tmp_path, monkeypatch, serve):
    publish(monkeypatch, tmp_path / "mirror")

    class Endless(Quiet):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            try:
                while True:
                    self.wfile.write(bytes(2**20))
            except OSError:
                pass

    monkeypatch.setattr(data, "_LARGEST", 2**22)
    monkeypatch.setattr(data, "_MIRRORS", {"mnist": (serve(Endless),)})
    with pytest.raises(Unavailable, match="not the published file"):
        data.mnist()


@pytest.mark.slow
def test_two_processes_that_download_at_once_both_succeed(tmp_path, serve):
    arrays = write_set(tmp_path / "mirror", train=500)
    digests = {stem: data._digest(array) for stem, array in zip(STEMS, arrays.values(), strict=True)}

    class Slow(Quiet):
        def copyfile(self, source, outputfile):
            for piece in iter(lambda: source.read(20_000), b""):
                time.sleep(0.02)
                outputfile.write(piece)

    address = serve(partial(Slow, directory=tmp_path / "mirror"))
    program = (
        "from npaae import data\n"
        f"data._DIGESTS['mnist'], data._MIRRORS['mnist'] = {digests!r}, ({address!r},)\n"
        "print(len(data.mnist().train_images))"
    )
    environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path / "shared-cache")}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", program], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    for process in processes:
        out, err = process.communicate(timeout=60)
        assert (process.returncode, out) == (0, "500\n"), err
    assert {path.name for path in (tmp_path / "shared-cache" / "npaae" / "mnist").iterdir()} == set(STEMS)


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (answering(404, b"no such file"), "status 404"),
        (answering(200, b"<html>please log in</html>"), "not the published file"),
        (answering(200, gzip.compress(b"something else")), "not the published file"),
        (answering(200, gzip.compress(GOOD)[:-4]), "not the published file"),
        (answering(200, gzip.compress(GOOD), length=1000), "the connection broke"),
    ],
    ids=["missing", "html", "other content", "truncated", "cut connection"],
)
def test_a_mirror_that_fails_is_passed_over_and_leaves_nothing_behind(tmp_path, monkeypatch, serve, bad, reason):
    publish(monkeypatch, tmp_path / "mirror")
    bad_address, good_address = serve(bad), serve(partial(Quiet, directory=tmp_path / "mirror"))
    monkeypatch.setattr(data, "_MIRRORS", {"mnist": (bad_address,)})
    with pytest.raises(Unavailable, match=rf"tried {bad_address} \({reason}\)"):
        data.mnist()
    assert not list((tmp_path / "cache" / "npaae" / "mnist").iterdir())
    monkeypatch.setattr(data, "_MIRRORS", {"mnist": (bad_address, good_address)})
    assert len(data.mnist().train_images) == 6


def test_a_spoilt_cache_is_fetched_again(tmp_path, monkeypatch, serve):
    publish(monkeypatch, tmp_path / "mirror")
    monkeypatch.setattr(data, "_MIRRORS", {"mnist": (serve(partial(Quiet, directory=tmp_path / "mirror")),)})
    data.mnist()
    (tmp_path / "cache" / "npaae" / "mnist" / STEMS[0]).write_bytes(b"spoilt")
    assert len(data.mnist().train_images) == 6
