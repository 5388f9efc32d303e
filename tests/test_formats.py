"""Arrays in files: IDX, .npy and .npz, and what is refused of them before it takes memory."""

import errno
import gzip
import io
import os
import zipfile
from contextlib import suppress
from unittest.mock import Mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npaae import formats
from npaae.errors import BadFile

from .idx_files import idx
from .memory import at_most

# The IDX format


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzipped"])
@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int16, np.int32, np.float32, np.float64])
def test_every_element_type_is_read_gzipped_or_not(tmp_path, dtype, pack):
    array = np.arange(24).reshape(2, 3, 4).astype(dtype)
    (tmp_path / "x").write_bytes(pack(idx(array)))
    got = formats.read_idx(str(tmp_path / "x"))
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
        formats.read_idx(tmp_path / "images")


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
        formats.read_idx(tmp_path / "file")


def test_what_unpacks_to_more_than_the_largest_array_is_refused_and_a_file_of_that_size_is_not(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(formats, "LARGEST_ARRAY", 5)
    zeros = np.zeros(1000, np.uint8)
    (tmp_path / "large").write_bytes(idx(zeros))
    assert formats.read_idx(tmp_path / "large").size == 1000
    (tmp_path / "large.gz").write_bytes(gzip.compress(idx(zeros)))
    with pytest.raises(BadFile, match=r"large\.gz .* uncompressed"):
        formats.read_idx(tmp_path / "large.gz")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="only POSIX systems have named pipes")
@pytest.mark.parametrize("read", [formats.read_idx, formats.members])
def test_a_named_pipe_is_refused_without_waiting_for_a_writer(tmp_path, read):
    os.mkfifo(tmp_path / "images")
    with pytest.raises(BadFile, match="images is not a regular file"):
        read(tmp_path / "images")


@pytest.mark.parametrize("error", [MemoryError(), OSError(errno.EIO, "Input/output error")])
def test_what_is_not_the_files_fault_is_not_blamed_on_it(tmp_path, monkeypatch, error):
    (tmp_path / "images").write_bytes(GOOD)
    stored = formats.stored(tmp_path / "images")
    monkeypatch.setattr(formats.np, "frombuffer", Mock(side_effect=error))
    with pytest.raises(type(error)) as caught:
        stored.read()
    if isinstance(error, OSError):
        assert caught.value.filename == str(tmp_path / "images")


def test_a_file_that_cannot_be_opened_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        formats.read_idx(tmp_path / "nothing")
    with pytest.raises((IsADirectoryError, PermissionError)):  # the second on Windows
        formats.read_idx(tmp_path)


# NumPy's formats


def npy(array=None, **header):
    """The bytes of an .npy file, or of a header alone."""
    file = io.BytesIO()
    if array is None:
        usual = {"descr": "|u1", "fortran_order": False, "shape": (1,)}
        np.lib.format.write_array_header_1_0(file, usual | header)
    else:
        np.save(file, array, allow_pickle=True)
    return file.getvalue()


def write_npz(path, compression=zipfile.ZIP_DEFLATED, **members):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize(
    "array", [np.arange(6.0).reshape(2, 3), np.asfortranarray(np.eye(3)), np.array(["a", "bc"])]
)
def test_a_member_of_an_archive_is_read(tmp_path, array, save):
    save(tmp_path / "some.npz", x=array, y=[1])
    assert formats.members(tmp_path / "some.npz") == ["x", "y"]
    stored = formats.stored(tmp_path / "some.npz", "x")
    assert (stored.shape, stored.dtype) == (array.shape, array.dtype)
    np.testing.assert_array_equal(stored.read(), array)


def test_numbers_of_the_other_byte_order_become_the_machines(tmp_path):
    np.save(tmp_path / "x.npy", np.arange(3).astype(">i4"))
    array = formats.stored(tmp_path / "x.npy").read()
    assert (array.dtype, array.tolist()) == (np.int32, [0, 1, 2])


BAD_ARRAYS = {
    "Python objects": npy(np.array([{}, []], object)),
    "records": npy(np.zeros(2, "u1,f4")),
    "elements of no size": npy(descr="|S0", shape=(2**61,)),
    "a negative size": npy(shape=(-1,)),
    "impossible sizes": npy(shape=(2**40, 2**40)),
    "a promised GiB": npy(shape=(2**30,)) + bytes(9),
    "more than it declares": npy(shape=(3,)) + bytes(2**27),
    "a header of the second version": b"\x93NUMPY\x02\0" + b"\xff" * 4 + bytes(2**27),
    "a header that Python cannot parse": b"\x93NUMPY\x01\0\x28\x23" + b"-" * 9_000,
    "no header": b"\x93NUMPY\x01\0" + b"\xff" * 2 + b"(" * 60_000,
    "nothing": b"",
    "another format": b"PK",
}


@pytest.mark.parametrize("content", BAD_ARRAYS.values(), ids=BAD_ARRAYS)
def test_a_bad_array_in_an_archive_is_refused_within_bounded_memory(tmp_path, content):
    write_npz(tmp_path / "bad.npz", x=content)
    with at_most(2**22), pytest.raises(BadFile, match=r"bad\.npz: x"):
        formats.stored(tmp_path / "bad.npz", "x").read()


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("name", ["x.npy", "x"])  # NumPy calls both x
def test_an_archive_with_two_arrays_of_one_name_is_refused(tmp_path, name):
    with zipfile.ZipFile(tmp_path / "bad.npz", "w") as archive:
        archive.writestr("x.npy", npy(np.arange(2)))
        archive.writestr(name, npy(np.arange(3)))
    with pytest.raises(BadFile, match=r"bad\.npz.*one name"):
        formats.members(tmp_path / "bad.npz")


@pytest.mark.parametrize("compression", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_compression_that_numpy_does_not_write_is_refused(tmp_path, compression):
    write_npz(tmp_path / "bad.npz", compression, x=npy(np.arange(3)))
    with pytest.raises(BadFile, match=r"bad\.npz"):
        formats.stored(tmp_path / "bad.npz", "x")


@given(place=st.integers(0, 2**31), value=st.integers(0, 255), cut=st.booleans())
def test_a_damaged_archive_gives_its_arrays_or_a_bad_file(tmp_path_factory, place, value, cut):
    path = tmp_path_factory.getbasetemp() / "damaged.npz"
    array = np.arange(50, dtype=np.uint8)
    np.savez_compressed(path, x=array)
    content = bytearray(path.read_bytes())
    place %= len(content)
    if cut:
        del content[place:]
    else:
        content[place] = value
    path.write_bytes(content)
    with suppress(BadFile):
        for name in formats.members(path):
            np.testing.assert_array_equal(formats.stored(path, name).read(), array)


@pytest.mark.skipif(os.name != "posix", reason="needs permissions")
def test_an_archive_that_cannot_be_opened_is_an_os_error(tmp_path):
    for read in (formats.members, formats.stored):
        with pytest.raises(FileNotFoundError):
            read(tmp_path / "nothing.npz")
