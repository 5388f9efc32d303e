"""Files from anywhere: a damaged one loads as what it is, or is refused in one line.

Never another error, and never more than a bounded amount of memory.
"""

import gzip
import io
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from npaae import AdversarialAutoencoder, BadFile, InvalidInput
from npaae.data import read_idx

from .idx_files import idx
from .memory import at_most

pytestmark = pytest.mark.slow
CASES = settings(max_examples=3000)  # of each of the five kinds
MEMORY = 2**24  # bytes; the files have a few thousand

IMAGES = np.random.default_rng(0).integers(0, 256, (3, 5, 5), dtype=np.uint8)
PLAIN = idx(IMAGES)


@st.composite
def damaged(draw, content):
    """The content with bytes changed, cut out or put in at a few places, often in the header."""
    content = bytearray(content)
    for _ in range(draw(st.integers(1, 4))):
        kind = draw(st.sampled_from(["change", "cut", "insert", "truncate", "header"]))
        place = draw(st.integers(0, 2**20)) % len(content)
        if kind == "change":
            content[place] = draw(st.integers(0, 255))
        elif kind == "header":
            content[place % min(64, len(content))] = draw(st.integers(0, 255))
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
    """What `load` makes of the content, or None if it refuses it."""
    path.write_bytes(content)
    loaded, message = None, str(path)
    with at_most(MEMORY):
        try:
            loaded = load(path)
        except (BadFile, InvalidInput) as error:
            message = str(error)
    assert str(path) in message
    assert "\n" not in message
    return loaded


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz") / "file"


@CASES
@given(damaged(PLAIN))
def test_a_damaged_idx_file_is_an_array_of_its_headers_shape_or_refused(path, content):
    array = loads_or_is_refused(read_idx, path, content)
    if array is not None:
        assert idx(array)[3] == content[3]
        assert len(idx(array)) == len(content)


@CASES
@given(damaged(gzip.compress(PLAIN, mtime=0)))
def test_a_damaged_gzipped_idx_file_is_what_was_packed_or_refused(path, content):
    array = loads_or_is_refused(read_idx, path, content)
    assert array is None or np.array_equal(array, IMAGES) or not content.startswith(b"\x1f\x8b")


@CASES
@given(damaged(PLAIN).map(lambda content: gzip.compress(content, mtime=0)))
def test_a_well_packed_file_of_damaged_content_is_an_array_or_refused(path, content):
    loads_or_is_refused(read_idx, path, content)


@pytest.fixture(scope="module")
def saved(path):
    """A trained model, and the bytes of its file."""
    model, rng = AdversarialAutoencoder(hidden=(3, 2), visible=4), np.random.default_rng(0)
    model.step(rng.random((5, 4)), rng)
    model.save(path)
    return model, path.read_bytes()


@CASES
@given(data=st.data())
def test_a_damaged_model_file_is_the_model_or_refused(path, saved, data):
    model, content = saved
    loaded = loads_or_is_refused(AdversarialAutoencoder.load, path, data.draw(damaged(content)))
    if loaded is not None:
        for name, array in model.arrays().items():
            np.testing.assert_array_equal(loaded.arrays()[name], array)
        assert loaded.config == model.config


integers, texts = st.integers(-(2**70), 2**70), st.text(max_size=5)
scalars = st.one_of(integers, st.floats(), st.none(), st.booleans(), texts)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=2),
)


@CASES
@given(data=st.data(), value=values)
def test_a_model_file_whose_configuration_was_rewritten_is_a_model_or_refused(
    path, saved, data, value
):
    model, content = saved
    with np.load(io.BytesIO(content)) as archive:
        members = dict(archive)
    config = model.config | {data.draw(st.sampled_from([*model.config, "x"])): value}
    file = io.BytesIO()
    np.savez(file, **(members | {"config": json.dumps(config)}))
    loaded = loads_or_is_refused(AdversarialAutoencoder.load, path, file.getvalue())
    assert loaded is None or np.array_equal(loaded.theta, model.theta)
