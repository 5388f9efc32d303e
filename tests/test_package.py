import ast
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import npaae

PACKAGE = Path(npaae.__file__).parent


def test_importing_npaae_imports_numpy_and_the_standard_library_only():
    before = "import sys, numpy, numpy.random; before = set(sys.modules); import npaae; "
    names = "print(*{name.split('.')[0] for name in set(sys.modules) - before})"
    line = [sys.executable, "-c", before + names]
    printed = subprocess.run(line, capture_output=True, text=True, check=True, timeout=300).stdout
    assert set(printed.split()) - sys.stdlib_module_names - {"numpy"} == {"npaae"}


def test_nothing_in_the_package_imports_from_the_program_around_it():
    modules = [path for path in PACKAGE.rglob("*.py") if "experiment" not in path.parts]
    assert len(modules) > 10
    for path in modules:
        tree = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        imports = [
            ast.unparse(node) for node in tree if isinstance(node, ast.Import | ast.ImportFrom)
        ]
        assert "experiment" not in " ".join(imports), path


def test_every_public_name_exists():
    assert all(hasattr(npaae, name) for name in npaae.__all__)


def test_the_version_is_the_packages():
    assert metadata.version("npaae") == npaae.__version__
