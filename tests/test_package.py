import ast
import shutil
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path
from zipfile import ZipFile

import pytest

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


def test_every_change_that_no_test_notices_is_of_a_line_of_the_code():
    listed = Path(__file__).with_name("equivalent_mutants.toml").read_text(encoding="utf-8")
    code = "\n".join(path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py"))
    lines = {line.strip() for line in code.splitlines()}
    for mutant in tomllib.loads(listed)["mutant"]:
        assert lines.issuperset(mutant["was"].splitlines()), mutant["was"]


PROGRAM = """
import sys
sys.path.append(sys.argv[1])
import npaae
images = npaae.data.mnist_sample().train_images[:100]
model = npaae.AdversarialAutoencoder(hidden=(4,))
print(*npaae.train(model, images, test_images=images, epochs=1))
model.save("model.npz")
print(npaae.AdversarialAutoencoder.load("model.npz").sample(3).shape, npaae.__file__)
"""


@pytest.mark.slow
def test_a_wheel_trains_with_numpy_and_threadpoolctl_alone(tmp_path):
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", str(tmp_path)]
    built = subprocess.run([*pip, str(PACKAGE.parent)], capture_output=True, text=True)
    if "No matching distribution found for hatchling" in built.stderr:
        pytest.skip("hatchling cannot be downloaded")
    assert built.returncode == 0, built.stderr
    (wheel,) = tmp_path.glob("npaae-*.whl")
    site = tmp_path / "site"
    with ZipFile(wheel) as archive:
        archive.extractall(site)
    assert {path.name.partition("-")[0] for path in site.iterdir()} == {
        "npaae",
        "npaae_examples",
    }
    for name in ("numpy", "threadpoolctl"):
        for file in metadata.files(name):
            if ".." not in file.parts:  # a program in bin/
                (site / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(file.locate(), site / file)
    nothing_else = [sys.executable, "-I", "-S", "-W", "error", "-c", PROGRAM, str(site)]
    process = subprocess.run(nothing_else, capture_output=True, text=True, cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    assert f"(3, 784) {site}" in process.stdout
