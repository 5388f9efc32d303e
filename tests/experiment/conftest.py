import shutil

import pytest


@pytest.fixture
def copied(finished, tmp_path):
    """A copy of a finished run, to be continued or damaged."""
    return shutil.copytree(finished[0], tmp_path / "copy")
