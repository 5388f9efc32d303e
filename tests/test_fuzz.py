"""Files from anywhere: whatever happened to one, it loads as what it is or is refused in one sentence, in bounded memory."""

import gzip
import io
import json
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from npaae import AdversarialAutoencoder
from npaae.data import read_idx
from npaae.errors import BadFile, InvalidInput

from .idx_files import idx

pytestmark = pytest.mark.slow
CASES = 3000  # of each of the five kinds
MEMORY = 2**24  # bytes; the files have a few thousand


IMAGES = np.random.default_rng(0).integers(0, 256, (3, 5, 5), dtype=np.uint8)
PLAIN = idx(IMAGES)
positions, fresh_bytes = st.integers(0, 2**20), st.integers(0, 255)


@st.composite
def damaged(draw, content):
    """The content with some bytes changed, a stretch cut out, or another put in, at random places, small ones preferred."""
    content = bytearray(content)
    for _ in range(draw(st.integers(1, 4))):
        kind, place = draw(st.sampled_from(["change", "cut", "insert", "truncate", "header"])), draw(positions) % len(content)
        if kind == "change":
            content[place] = draw(fresh_bytes)
        elif kind == "header":
            content[place % min(64, len(content))] = draw(fresh_bytes)
        elif kind == "cut":
            del content[place : place + draw(st.integers(1, 40))]
        elif kind == "insert":
            content[place:place] = draw(st.binary(min_size=1, max_size=40))
        else:
            del content[place:]
        if not content:
            break
    return bytes(content)


def loads_or_is_refused(load, path, content):
    """What `load` makes of the content, or None where it refuses; never another error, never more than MEMORY."""
    path.write_bytes(content)
    tracemalloc.start()
    loaded, said = None, str(path)
    try:
        loaded = load(path)
    except (BadFile, InvalidInput) as error:
        said = str(error)
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < MEMORY
    assert said.startswith(str(path))
    assert "\n" not in said
    return loaded


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz") / "file"


@settings(max_examples=CASES)
@given(damaged(PLAIN))
def test_a_damaged_idx_file_is_an_array_of_its_headers_shape_or_refused(path, content):
    array = loads_or_is_refused(read_idx, path, content)
    if array is not None:
        assert idx(array)[3] == content[3]
        assert len(idx(array)) == len(content)


@settings(max_examples=CASES)
@given(damaged(gzip.compress(PLAIN, mtime=0)))
def test_a_damaged_gzipped_idx_file_is_what_was_packed_or_refused(path, content):
    array = loads_or_is_refused(read_idx, path, content)
    assert array is None or np.array_equal(array, IMAGES) or not content.startswith(b"\x1f\x8b")


@settings(max_examples=CASES)
@given(damaged(PLAIN).map(lambda content: gzip.compress(content, mtime=0)))
def test_a_well_packed_file_of_damaged_content_is_an_array_or_refused(path, content):
    loads_or_is_refused(read_idx, path, content)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A trained model, and the bytes of its file."""
    model, rng = AdversarialAutoencoder(hidden=(3, 2), visible=4), np.random.default_rng(0)
    model.step(rng.random((5, 4)), rng)
    path = tmp_path_factory.mktemp("model") / "model.npz"
    model.save(path)
    return model, path.read_bytes()


@settings(max_examples=CASES)
@given(data=st.data())
def test_a_damaged_model_file_is_the_model_or_refused(path, saved, data):
    model, content = saved
    loaded = loads_or_is_refused(AdversarialAutoencoder.load, path, data.draw(damaged(content)))
    if loaded is not None:
        for name, array in model.arrays().items():
            np.testing.assert_array_equal(loaded.arrays()[name], array)
        assert loaded.config == model.config


numbers = st.one_of(st.integers(-(2**70), 2**70), st.floats(), st.none(), st.booleans(), st.text(max_size=5))
values = st.recursive(
    numbers, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=2)
)


@settings(max_examples=CASES)
@given(
    name=st.sampled_from(
        ["hidden", "latent", "visible", "prior", "classes", "dropout", "lr_regularization", "dtype", "seed", "x"]
    ),
    value=values,
)
def test_a_model_file_whose_configuration_was_rewritten_is_a_model_or_refused(path, saved, name, value):
    with np.load(io.BytesIO(saved[1])) as archive:
        members = dict(archive)
    config = json.loads(str(members["config"])) | {name: value}
    file = io.BytesIO()
    np.savez(file, **(members | {"config": json.dumps(config)}))
    loaded = loads_or_is_refused(AdversarialAutoencoder.load, path, file.getvalue())
    assert loaded is None or np.array_equal(loaded.theta, saved[0].theta)
