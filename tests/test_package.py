import ast
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from textwrap import dedent

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


def test_the_citation_and_the_metadata_have_one_version_and_the_same_authors():
    citation = (PACKAGE.parent / "CITATION.cff").read_text(encoding="utf-8")
    assert metadata.version("npaae") == npaae.__version__
    assert f"\nversion: {npaae.__version__}\n" in citation
    assert f"- name: {metadata.metadata('npaae')['Author']}\n" in citation


def test_the_code_on_the_front_page_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page, names = (PACKAGE.parent / "README.md").read_text(encoding="utf-8"), {}
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        exec(dedent(block).replace("epochs=20", "epochs=1"), names)
    assert names["novel"].shape == (100, 784)
    assert (tmp_path / "model.npz").exists()
