import subprocess
import sys
from importlib import metadata

import npaae


def test_importing_npaae_imports_none_of_the_heavy_libraries():
    check = "import npaae, sys; assert not {'matplotlib', 'cupy', 'pooch', 'tqdm'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", check], check=True, timeout=60)


def test_every_public_name_exists():
    assert all(hasattr(npaae, name) for name in npaae.__all__)


def test_the_version_is_the_packages():
    assert metadata.version("npaae") == npaae.__version__
