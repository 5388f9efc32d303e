import errno
import os

import pytest

from npaae.errors import CannotWrite
from npaae.files import remove_partial, replacing


def test_the_file_is_replaced_when_the_block_ends_well(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with replacing(path) as file:
        file.write(b"new")
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_in_the_block_leaves_the_old_file_and_nothing_else(tmp_path, error):
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def block():
        with replacing(path) as file:
            file.write(b"half")
            raise error

    with pytest.raises(error):
        block()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_cannot_be_written_is_named_with_the_reason(tmp_path):
    path = tmp_path / "nowhere" / "file"
    says = rf"^{path} cannot be written \(No such file or directory\); make room or the folder writable, or name another$"
    with pytest.raises(CannotWrite, match=says), replacing(path):
        pass
    assert issubclass(CannotWrite, OSError)


def test_a_disk_that_is_full_leaves_what_was_there(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    says = r"cannot be written \(No space left on device\); what it held before is whole; make room"
    with pytest.raises(CannotWrite, match=says), replacing(path):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("path", ["", ".", "/", "/dev/null"])
def test_what_is_no_regular_file_is_not_replaced(path):
    with pytest.raises(CannotWrite, match="is no regular file, where one is wanted; name another"), replacing(path):
        pass


def test_of_a_link_the_file_that_it_leads_to_is_replaced(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "file").write_bytes(b"old")
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere" / "file")
    with replacing(tmp_path / "link") as file:
        file.write(b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "elsewhere" / "file").read_bytes() == b"new"


def test_what_a_killed_writer_left_is_removed_and_nothing_else(tmp_path):
    (tmp_path / "kept").touch()
    (tmp_path / ".film.mkv.partial").touch()
    with replacing(tmp_path / "file"):
        (abandoned,) = tmp_path.glob(".file*")
        abandoned.rename(tmp_path / abandoned.name.replace(str(os.getpid()), "1"))
        (tmp_path / abandoned.name).touch()
    remove_partial(tmp_path, ["file"])
    assert {path.name for path in tmp_path.iterdir()} == {"kept", "file", ".film.mkv.partial"}
