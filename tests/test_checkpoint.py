"""Saved and copied models: that they are whole, what is refused, that no file is left in halves."""

import copy
import errno
import json
import os
import pickle
import re
import stat
import zipfile
from itertools import product
from unittest.mock import Mock

import numpy as np
import pytest

import npaae
from npaae import (
    AdversarialAutoencoder,
    BadFile,
    CannotWrite,
    CategoricalAutoencoder,
    InvalidInput,
    checkpoint,
)
from npaae.checkpoint import remove_partial, replacing
from npaae.layers import ReLU, named_parameters, perceptron
from npaae.priors import gaussian, gaussian_mixture

from .layer_norm import NormalisedAutoencoder
from .memory import at_most

SMALL = {"hidden": (7, 5), "visible": 9, "dtype": "float64", "seed": 3}
CLASSES = {"prior": gaussian_mixture(components=3), "classes": 3}
ABSENT = object()
IMAGES = np.random.default_rng(0).integers(0, 256, (25, 3, 3), dtype=np.uint8)


class Linear(AdversarialAutoencoder):
    """Networks of one layer, which have fewer parameters than those with hidden layers."""

    def network(self, sizes, dropout):
        return perceptron(self.xp, (sizes[0], sizes[-1]), dropout, self.dtype)


def trained(model, epochs=2):
    labels = np.arange(25) % 4 - 1 if model.classes else None
    list(npaae.train(model, IMAGES, labels=labels, epochs=epochs, batch_size=10))
    return model


def assert_equal(a, b):
    """Two models agree in every number, to the last bit."""
    assert (a.config, a.prior, a.epoch) == (b.config, b.prior, b.epoch)
    for name, array in a.arrays().items():
        np.testing.assert_array_equal(b.arrays()[name], array, err_msg=name)
    for name, adam in a.adams().items():
        other = b.adams()[name]
        assert (adam.t, adam.learning_rate) == (other.t, other.learning_rate), name


# Saving and loading


KINDS = {
    "the default": (AdversarialAutoencoder, {}),
    "float32": (AdversarialAutoencoder, {"dtype": "float32"}),
    "a layer of one unit": (AdversarialAutoencoder, {"hidden": (1,)}),
    "other rates": (AdversarialAutoencoder, {"dropout": 0.1, "discriminator_dropout": 0.3}),
    "classes": (AdversarialAutoencoder, CLASSES),
    "a layer of the user's own": (NormalisedAutoencoder, {}),
    "networks with fewer parameters": (Linear, {}),
}


@pytest.mark.parametrize(("kind", "arguments"), KINDS.values(), ids=KINDS)
def test_a_loaded_model_trains_on_as_if_it_had_never_stopped(tmp_path, kind, arguments):
    uninterrupted = trained(kind(**SMALL | arguments))
    uninterrupted.generator_adam.learning_rate = 0.003  # as a user's schedule might
    uninterrupted.save(tmp_path / "model.npz")
    loaded = kind.load(tmp_path / "model.npz")
    assert type(loaded) is kind
    assert_equal(loaded, uninterrupted)
    assert_equal(trained(loaded), trained(uninterrupted))
    assert loaded.epoch == 4


@pytest.mark.parametrize("rate", [0.0, 2.0])
def test_a_learning_rate_that_a_schedule_has_set_is_kept(tmp_path, rate):
    model = AdversarialAutoencoder(**SMALL)
    model.generator_adam.learning_rate = rate
    model.save(tmp_path / "model.npz")
    assert AdversarialAutoencoder.load(tmp_path / "model.npz").generator_adam.learning_rate == rate


def test_the_file_is_plain_arrays_that_do_not_name_a_backend(saved):
    path, _ = saved
    with np.load(path, allow_pickle=False) as archive:
        assert {"format", "config", "epoch", "theta", "generator_adam.m"} < set(archive)
        assert "backend" not in json.loads(str(archive["config"]))


def test_a_save_to_a_full_disk_keeps_the_model_saved_before(saved, monkeypatch):
    path, _ = saved
    before = path.read_bytes()
    monkeypatch.setattr(os, "fsync", Mock(side_effect=OSError(28, "No space left")))
    with pytest.raises(CannotWrite, match="model"):
        AdversarialAutoencoder(**SMALL).save(path)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


# A prior of the user's own


class half_gaussian(gaussian):
    """Not a Gaussian, although it is a kind of one."""

    def __call__(self, rng, n, dim):
        return abs(super().__call__(rng, n, dim))


class Thirds(gaussian_mixture):
    pass


def uniform(rng, n, dim):
    return rng.random((n, dim))


OWN_PRIORS = [(uniform, 0), (half_gaussian(), 0), (Thirds(components=3), 3)]


@pytest.mark.parametrize(("prior", "classes"), OWN_PRIORS)
def test_a_prior_of_the_users_own_must_be_given_again(tmp_path, prior, classes):
    AdversarialAutoencoder(**SMALL, prior=prior, classes=classes).save(tmp_path / "model.npz")
    with pytest.raises(InvalidInput, match=r"^prior must be given: .*model\.npz"):
        AdversarialAutoencoder.load(tmp_path / "model.npz")
    assert AdversarialAutoencoder.load(tmp_path / "model.npz", prior=prior).prior is prior


def test_a_prior_that_is_given_replaces_the_saved_one(saved):
    path, _ = saved
    loaded = AdversarialAutoencoder.load(path, prior=gaussian(std=1.0))
    assert loaded.prior == gaussian(std=1.0)
    assert loaded.config["prior"] == {"name": "gaussian", "std": 1.0}


@pytest.mark.parametrize("argument", ["prior", "backend"])
def test_a_wrong_argument_is_not_blamed_on_the_file(saved, argument):
    with pytest.raises(InvalidInput, match=f"^{argument} must"):
        AdversarialAutoencoder.load(saved[0], **{argument: "wrong"})


def test_a_damaged_file_is_not_blamed_on_the_prior_that_is_given(saved):
    path, rewrite = saved
    rewrite("config", 2, entry="dropout")
    with pytest.raises(BadFile, match="dropout"):
        AdversarialAutoencoder.load(path, prior=gaussian())


# Copies


def pickled(model):
    return pickle.loads(pickle.dumps(model))


each_copy = pytest.mark.parametrize("copied", [copy.deepcopy, copy.copy, pickled])


@each_copy
@pytest.mark.parametrize(
    ("kind", "arguments"),
    [*KINDS.values(), (CategoricalAutoencoder, {"head_distance": 3.0})],
    ids=[*KINDS, "categories"],
)
def test_a_copy_trains_on_as_the_model_does_and_each_is_independent(copied, kind, arguments):
    model = trained(kind(**SMALL | arguments))
    other = copied(model)
    assert type(other) is kind
    np.testing.assert_array_equal(other.gradient, model.gradient)
    assert_equal(other, model)
    trained(other)
    assert model.epoch == 2
    assert_equal(other, trained(model))


@each_copy
def test_the_layers_of_a_copy_are_views_of_its_own_theta(copied):
    model = AdversarialAutoencoder(**SMALL)
    other = copied(model)
    other.theta[:] = np.arange(other.theta.size)
    parameters = [getattr(layer, name).ravel() for layer, name in all_parameters(other)]
    np.testing.assert_array_equal(np.concatenate(parameters), other.theta)
    assert not np.array_equal(model.theta, other.theta)


def all_parameters(model):
    for network in (model.encoder, model.decoder, model.discriminator):
        for _, layer, name in named_parameters(network):
            yield layer, name


@each_copy
def test_a_copy_keeps_what_a_schedule_or_a_user_has_set(copied):
    model = AdversarialAutoencoder(**SMALL)
    model.generator_adam.learning_rate, model.discriminator_adam.beta1 = 0.0, 0.5
    model.encoder.layers[2].threshold = 7  # dropout's
    model.history, model.note = [(1, 0.5), {"best": np.float32(0.25)}], "mine"
    other = copied(model)
    assert (other.generator_adam.learning_rate, other.discriminator_adam.beta1) == (0.0, 0.5)
    assert other.encoder.layers[2].threshold == 7
    assert (other.history, other.note) == (model.history, "mine")
    assert other.history is not model.history


def test_a_prior_that_has_no_name_can_be_copied_but_not_pickled():
    model = AdversarialAutoencoder(**SMALL, prior=lambda rng, n, dim: rng.random((n, dim)))
    assert copy.deepcopy(model).prior is model.prior
    with pytest.raises(InvalidInput, match=r"^prior must"):
        pickle.dumps(model)


def test_what_a_model_shares_with_its_surroundings_its_deep_copy_shares_with_theirs():
    class Half:
        def __call__(self, rng, n, dim):
            return abs(rng.standard_normal((n, dim)))

    model = AdversarialAutoencoder(**SMALL, prior=Half())
    copied, prior = copy.deepcopy((model, model.prior))
    assert copied.prior is prior is not model.prior


@each_copy
def test_a_model_that_ranks_train_is_not_copied(copied):
    model = AdversarialAutoencoder(**SMALL)
    model.ranks = "of an mpi4py communicator"
    with pytest.raises(InvalidInput, match=r"^comm must"):
        copied(model)


@each_copy
def test_layers_that_the_class_does_not_make_are_not_lost_in_silence(copied):
    model = AdversarialAutoencoder(**SMALL)
    model.encoder.layers.append(ReLU(np))
    with pytest.raises(InvalidInput, match=r"AdversarialAutoencoder\.networks"):
        copied(model)


class Narrow(AdversarialAutoencoder):
    """Its constructor does not take what is in `config`."""

    def __init__(self, width):
        super().__init__(hidden=(width,), visible=9)


class Wide(AdversarialAutoencoder):
    """Its constructor takes what is not in `config`."""

    def __init__(self, *, factor=1, **settings):
        self.factor = factor
        super().__init__(**settings)

    def network(self, sizes, dropout):
        between = [self.factor * width for width in sizes[1:-1]]
        return super().network([sizes[0], *between, sizes[-1]], dropout)


@pytest.mark.parametrize("copied", [copy.deepcopy, copy.copy, pickle.dumps])
@pytest.mark.parametrize("model", [Narrow(4), Wide(factor=2, **SMALL)], ids=["narrow", "wide"])
def test_a_class_that_cannot_be_made_from_its_config_is_refused_at_once(copied, model):
    with pytest.raises(InvalidInput, match="config"):
        copied(model)


@pytest.mark.parametrize("model", [Narrow(4), Wide(factor=2, **SMALL)], ids=["narrow", "wide"])
def test_the_file_of_such_a_class_is_not_called_damaged(model, tmp_path):
    model.save(tmp_path / "model.npz")
    with pytest.raises(BadFile, match=r"model\.npz cannot be loaded: .*config"):
        type(model).load(tmp_path / "model.npz")


class Alone(AdversarialAutoencoder):
    """Is not for ranks."""

    def __init__(self, **settings):
        assert "comm" not in settings
        super().__init__(**settings)


def test_a_class_without_an_argument_for_ranks_is_loaded_and_copied(tmp_path):
    model = Alone(**SMALL)
    model.save(tmp_path / "model.npz")
    for again in (Alone.load(tmp_path / "model.npz"), pickled(model)):
        assert_equal(again, model)


def test_joblib_stores_a_model(tmp_path):
    joblib = pytest.importorskip("joblib")
    model = trained(AdversarialAutoencoder(**SMALL))
    joblib.dump(model, tmp_path / "model.joblib")
    assert_equal(joblib.load(tmp_path / "model.joblib"), model)


# Files that are something else, or damaged


@pytest.fixture
def saved(tmp_path):
    """The path of a saved model, and a function that writes it again with other members."""
    path = tmp_path / "model.npz"
    trained(AdversarialAutoencoder(**SMALL)).save(path)
    members = dict(np.load(path))

    def rewrite(name, value, entry=None):
        if name == "config" and entry is not None:
            config = json.loads(str(members["config"])) | {entry: value}
            value = json.dumps({key: v for key, v in config.items() if v is not ABSENT})
        new = members | {name: value}
        np.savez(path, **{name: value for name, value in new.items() if value is not ABSENT})

    return path, rewrite


def refusal(path):
    """The one line with which a file is refused, without taking much memory."""
    with at_most(2**22), pytest.raises(BadFile) as caught:
        AdversarialAutoencoder.load(path)
    message = str(caught.value)
    assert message.startswith(f"{path} ")
    assert "\n" not in message
    return message


def test_a_file_that_is_not_an_archive_is_refused_wherever_it_was_cut(saved):
    path, _ = saved
    content = path.read_bytes()
    for damaged in (b"not an archive", *(content[:n] for n in range(0, len(content), 97))):
        path.write_bytes(damaged)
        refusal(path)


def test_one_changed_bit_in_an_array_is_found_by_its_checksum(saved):
    path, _ = saved
    content = bytearray(path.read_bytes())
    with np.load(path) as archive:
        start = content.index(archive["theta"].tobytes())
    content[start + 9] ^= 1
    path.write_bytes(content)
    assert "CRC" in refusal(path)


@pytest.mark.parametrize("byte", [23, 27], ids=["compressed", "uncompressed"])
def test_a_size_that_the_file_cannot_hold_is_refused_within_bounded_memory(saved, byte):
    path, _ = saved
    content = path.read_bytes()
    for entry in re.finditer(rb"PK\x01\x02", content):  # one of the archive's directory
        damaged = bytearray(content)
        damaged[entry.start() + byte] = 1  # the highest of the four bytes of a size
        path.write_bytes(damaged)
        assert "more data than it holds" in refusal(path)


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """The file of a model of the default size, whose arrays NumPy reads in several pieces."""
    path = tmp_path_factory.mktemp("real") / "model.npz"
    AdversarialAutoencoder().save(path)
    return path


def headers(path, names):
    """The places of the headers of these members of an archive, in bytes from the start."""
    with zipfile.ZipFile(path) as archive:
        for member in (archive.getinfo(f"{name}.npy") for name in names):
            yield member.header_offset + 30 + len(member.filename) + 20  # 20 of zip64


OTHERS = pytest.param((0, 1, 2, 3, 4, 5, 6, 7, 9, 10, 40, 127), marks=pytest.mark.slow)


@pytest.mark.parametrize("places", [[8], OTHERS], ids=["length", "others"])
def test_every_changed_bit_in_the_header_of_an_array_is_found_at_real_size(real, tmp_path, places):
    """Byte 8 is the length of the header: NumPy would take a part for the whole."""
    content = bytearray(real.read_bytes())
    names = ("theta", "reconstruction_adam.m", "discriminator_adam.v")  # of the large ones
    for start, place, bit in product(headers(real, names), places, range(8)):
        assert content[start : start + 6] == b"\x93NUMPY"
        content[start + place] ^= 1 << bit
        (tmp_path / "model.npz").write_bytes(content)
        with pytest.raises(BadFile, match="CRC"):
            AdversarialAutoencoder.load(tmp_path / "model.npz")
        content[start + place] ^= 1 << bit


def test_an_archive_with_two_members_of_one_name_is_refused(saved):
    path, _ = saved
    with zipfile.ZipFile(path) as archive:
        theta = archive.read("theta.npy")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("theta", theta)  # NumPy would call both theta
    assert "one name" in refusal(path)


@pytest.mark.skipif(os.name != "posix", reason="only POSIX systems have named pipes")
def test_a_named_pipe_is_refused_without_waiting_for_a_writer(tmp_path):
    os.mkfifo(tmp_path / "model.npz")
    refusal(tmp_path / "model.npz")


NOT_ITS_FAULT = [MemoryError(), *(OSError(e, os.strerror(e)) for e in (errno.EIO, errno.EMFILE))]


@pytest.mark.parametrize("error", NOT_ITS_FAULT, ids=repr)
def test_what_is_not_the_files_fault_is_not_blamed_on_it(saved, monkeypatch, error):
    path, _ = saved
    monkeypatch.setattr(zipfile.ZipFile, "read", Mock(side_effect=error))
    with pytest.raises(type(error)) as caught:
        AdversarialAutoencoder.load(path)
    if isinstance(error, OSError):
        assert (caught.value.errno, caught.value.filename) == (error.errno, str(path))


def test_a_compressed_archive_which_may_be_a_bomb_is_refused_unread(tmp_path):
    zeros = np.zeros(10**6)
    np.savez_compressed(tmp_path / "model.npz", format=checkpoint.FORMAT, theta=zeros)
    refusal(tmp_path / "model.npz")


def test_an_archive_with_more_than_arrays_is_refused(saved):
    path, _ = saved
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("notes.txt", "not an array")
    assert "notes.txt" in refusal(path)


@pytest.mark.skipif(os.name != "posix", reason="only POSIX systems have these devices")
@pytest.mark.parametrize("path", ["/dev/zero", "/dev/null"])
def test_a_device_is_refused_unread(path):
    refusal(path)


MEMBERS = {
    "theta": [ABSENT, np.zeros(317), np.zeros(318, np.float32), np.full(318, np.nan)],
    "generator_adam.m": [ABSENT, np.zeros(7), np.array([{}], object)],  # the last is pickled
    "discriminator_adam.v": [np.full(67, -1.0)],
    "generator_adam.t": [ABSENT, -1],
    "generator_adam.learning_rate": [ABSENT, -0.1, np.nan, [0.1, 0.1]],
    "epoch": [ABSENT, -1, np.nan],
    "format": [ABSENT, 0, 99, "one"],
    "config": [ABSENT, "[1, 2]", "not JSON"],
}


@pytest.mark.parametrize(("member", "value"), [(m, v) for m in MEMBERS for v in MEMBERS[m]])
def test_a_file_whose_arrays_are_not_a_models_is_refused(saved, member, value):
    path, rewrite = saved
    rewrite(member, value)
    refusal(path)


CONFIG = {
    "hidden": [ABSENT, None, [7, -5], [2**50, "a"], [10**9]],  # some of which promise terabytes
    "visible": [10**12],
    "latent": ["wide"],
    "classes": [ABSENT, 10**12],
    "dropout": [ABSENT],
    "seed": [ABSENT, -1],
    "dtype": ["float16"],
    "prior": [{"name": "gaussian", "std": -5}, {"name": "gaussian", "width": 1}, {"std": 5.0}, [1]],
    "shape": ["round"],
}


@pytest.mark.parametrize(("entry", "value"), [(e, v) for e in CONFIG for v in CONFIG[e]])
def test_a_file_whose_configuration_is_not_a_models_is_refused(saved, entry, value):
    path, rewrite = saved
    rewrite("config", value, entry=entry)
    refusal(path)


def test_the_file_of_a_subclass_with_other_networks_is_refused(tmp_path):
    NormalisedAutoencoder(**SMALL).save(tmp_path / "model.npz")
    refusal(tmp_path / "model.npz")


# Files that are replaced all at once


@pytest.fixture
def old(tmp_path):
    (tmp_path / "file").write_bytes(b"old")
    return tmp_path / "file"


def test_the_file_is_replaced_when_the_block_ends_well(old, tmp_path):
    with replacing(old) as file:
        file.write(b"new")
        assert old.read_bytes() == b"old"
    assert old.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [old]


ERRORS = [ValueError(), KeyboardInterrupt(), OSError(28, "No space left"), OSError("no number")]


@pytest.mark.parametrize("error", ERRORS, ids=repr)
def test_an_error_in_the_block_leaves_the_old_file_and_nothing_else(old, tmp_path, error):
    raised = CannotWrite if isinstance(error, OSError) else type(error)
    with pytest.raises(raised) as caught, replacing(old):
        raise error
    if raised is CannotWrite:
        assert str(old) in str(caught.value)
        assert (error.strerror or "no number") in str(caught.value)
    assert old.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [old]


@pytest.mark.skipif(os.name != "posix", reason="elsewhere folders are not flushed")
@pytest.mark.parametrize(
    ("function", "content"), [("open", b"old"), ("fsync", b"new")], ids=["open", "fsync"]
)
def test_only_an_old_file_that_is_intact_is_said_to_be(old, monkeypatch, function, content):
    real = getattr(os, function)

    def fail_for_folders(target, *flags):
        if target == old.parent or (function == "fsync" and stat.S_ISDIR(os.fstat(target).st_mode)):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return real(target, *flags)

    monkeypatch.setattr(os, function, fail_for_folders)
    with pytest.raises(CannotWrite) as caught, replacing(old) as file:
        file.write(b"new")
    assert old.read_bytes() == content
    assert ("old file is intact" in str(caught.value)) == (content == b"old")


@pytest.mark.parametrize("path", ["nowhere/file", "", ".", "/", os.devnull])
def test_a_path_that_cannot_be_a_file_is_refused(tmp_path, monkeypatch, path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CannotWrite), replacing(path):
        pass


@pytest.mark.skipif(os.name != "posix", reason="on Windows links need a privilege")
def test_of_a_link_the_file_that_it_leads_to_is_replaced(old, tmp_path):
    (tmp_path / "links").mkdir()
    link = tmp_path / "links" / "link"
    link.symlink_to(old)
    with replacing(link) as file:
        file.write(b"new")
    assert link.is_symlink()
    assert old.read_bytes() == b"new"


def test_what_a_killed_writer_left_is_removed_and_nothing_else(tmp_path):
    (tmp_path / ".film.mkv.partial").touch()
    with replacing(tmp_path / "file"):
        (abandoned,) = tmp_path.glob(".file*")
        (tmp_path / abandoned.name.replace(str(os.getpid()), "1")).touch()
    remove_partial(tmp_path, ["file"])
    assert {path.name for path in tmp_path.iterdir()} == {"file", ".film.mkv.partial"}
