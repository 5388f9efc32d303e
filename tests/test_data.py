"""The IDX format and the sources of MNIST. Downloads are tried against servers on the loopback."""

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
import pooch
import pytest

from npaae import data
from npaae.errors import BadFile, Unavailable

from .idx_files import STEMS, idx, write_set
from .memory import at_most

# The IDX format


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzipped"])
@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int16, np.int32, np.float32, np.float64])
def test_every_element_type_is_read_gzipped_or_not(tmp_path, dtype, pack):
    array = np.arange(24).reshape(2, 3, 4).astype(dtype)
    (tmp_path / "x").write_bytes(pack(idx(array)))
    got = data.read_idx(str(tmp_path / "x"))
    np.testing.assert_array_equal(got, array)
    assert got.dtype == array.dtype


GOOD = idx(np.arange(6, dtype=np.uint8).reshape(2, 3))
PACKED = gzip.compress(GOOD)
DAMAGED = {
    "empty": b"",
    "another format": b"<!DOCTYPE html>",
    "an unknown element type": b"\0\0\x07\x01\0\0\0\x01\0",
    "cut in its first four bytes": GOOD[:2],
    "cut in its sizes": GOOD[:6],
    "an element missing": GOOD[:-1],
    "a byte too many": GOOD + b"\0",
    "65 dimensions": b"\0\0\x08\x41" + b"\0\0\0\x01" * 65 + b"\7",
    "a size of 0 among impossible ones": b"\0\0\x08\x04" + b"\0" * 4 + b"\xff" * 12,
    "gzipped and cut": PACKED[:-9],
    "gzipped with bytes behind": PACKED + b"trailing",
    "gzipped with too many elements": gzip.compress(GOOD + bytes(10)),
    "gzipped with a wrong checksum": PACKED[:-8] + b"\0" * 4 + PACKED[-4:],
}


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_file_is_refused_by_name(tmp_path, content):
    (tmp_path / "images").write_bytes(content)
    with pytest.raises(BadFile, match="images is"):
        data.read_idx(tmp_path / "images")


@pytest.mark.parametrize(
    "content",
    [
        gzip.compress(idx(np.zeros((1, 1), np.uint8)) + bytes(2**27)),  # 128 MiB in 130 KiB
        b"\0\0\x08\x01\x40\0\0\0" + b"\0",  # 1 GiB, the most that a header may promise
        b"\0\0\x08\x03" + b"\xff" * 12 + b"\0",
    ],
    ids=["a gzip bomb", "a promised GiB", "a promise beyond any memory"],
)
def test_neither_a_gzip_bomb_nor_a_false_promise_takes_memory(tmp_path, content):
    (tmp_path / "file").write_bytes(content)
    with at_most(2**22), pytest.raises(BadFile, match="file"):
        data.read_idx(tmp_path / "file")


def test_an_array_beyond_the_largest_is_refused_even_if_the_file_is_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(data, "_LARGEST_ARRAY", 5)
    (tmp_path / "six.gz").write_bytes(PACKED)
    with pytest.raises(BadFile, match="six"):
        data.read_idx(tmp_path / "six.gz")


def test_a_file_that_cannot_be_opened_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        data.read_idx(tmp_path / "nothing")
    with pytest.raises((IsADirectoryError, PermissionError)):  # the second on Windows
        data.read_idx(tmp_path)


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
    monkeypatch.setattr(pooch, "os_cache", lambda name: tmp_path / "cache" / name)
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
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
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
        "import pooch\nfrom npaae import data\n"
        f"pooch.os_cache = lambda name: {str(cache.parent)!r}\n"
        f"data._MNIST = data._Published(*{tuple(data._MNIST)!r})\n"
        "print(len(data.mnist().train_images))"
    )
    command = [sys.executable, "-c", program]
    for process in [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(2)]:
        out, _ = process.communicate(timeout=60)
        assert (process.returncode, out.split()) == (0, [b"500"])
    assert {path.name for path in cache.iterdir()} == set(STEMS)
