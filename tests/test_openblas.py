import os
import subprocess
import sys

import numpy as np
import pytest

from npaae import openblas

AMD, INTEL = "vendor_id\t: AuthenticAMD\n", "vendor_id\t: GenuineIntel\n"
AVX2, AVX512 = "flags\t\t: fpu avx avx2\n", "flags\t\t: fpu avx avx2 avx512f\n"


@pytest.mark.parametrize(("cpu_info", "kernel"), [(AMD + AVX512, "SkylakeX"), (AMD + AVX2, None), (INTEL + AVX512, None)])
def test_the_avx512_kernel_is_asked_for_on_amds_processors_that_have_it(cpu_info, kernel):
    assert openblas.settings(cpu_info).get("OPENBLAS_CORETYPE") == kernel


def python(program, **environment):
    clean = {name: value for name, value in os.environ.items() if not name.startswith("OPENBLAS")}
    process = subprocess.run(
        [sys.executable, "-c", program], env=clean | environment, capture_output=True, text=True, timeout=60
    )
    assert process.returncode == 0, process.stderr
    return process.stdout.split()


pretend = """
import os, pathlib, sys
pathlib.Path.read_text = lambda *_, **__: "AuthenticAMD avx512f"
class Spy:  # sees the environment at the moment when NumPy is looked for
    def find_spec(self, name, *_):
        if name == "numpy":
            print(os.environ.get("OPENBLAS_CORETYPE"), os.environ.get("OPENBLAS_THREAD_TIMEOUT"))
sys.meta_path.insert(0, Spy())
"""
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="only on Linux is anything done")


@on_linux
def test_numpy_is_imported_with_the_settings_and_nothing_of_them_stays():
    assert python(f"{pretend}\nimport npaae\nprint([name for name in os.environ if 'OPENBLAS' in name])") == [
        "SkylakeX",
        "16",
        "[]",
    ]


@on_linux
def test_what_the_user_set_stays():
    program = f"{pretend}\nimport npaae\nprint(os.environ['OPENBLAS_CORETYPE'])"
    assert python(program, OPENBLAS_CORETYPE="Haswell", OPENBLAS_THREAD_TIMEOUT="26") == ["Haswell", "26", "Haswell"]


@on_linux
def test_nothing_is_done_where_numpy_was_there_first():
    assert python(f"{pretend}\nimport numpy\nimport npaae") == ["None", "None"]


@pytest.mark.parametrize("platform", ["darwin", "win32"])
def test_nothing_is_done_elsewhere(monkeypatch, platform):
    asked = []
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.delitem(sys.modules, "numpy")
    monkeypatch.setattr(openblas, "settings", lambda cpu_info: asked.append(cpu_info) or {})
    openblas.import_numpy()
    assert asked == []


products = """
import sys
import numpy as np
from threadpoolctl import threadpool_info
print(next(library["architecture"] for library in threadpool_info() if library["internal_api"] == "openblas"))
rng, results = np.random.default_rng(0), {}
sizes = [(1, 1, 1), (1, 784, 256), (100, 784, 256), (100, 256, 784), (100, 1000, 1000), (7, 13, 5), (64, 2, 128), (33, 129, 65)]
for n, k, m in sizes:
    for dtype in ("float32", "float64"):
        a, b, c = (rng.standard_normal(shape).astype(dtype) for shape in ((n, k), (k, m), (n, m)))
        results |= {f"ab {n} {k} {m} {dtype}": a @ b, f"atc {n} {k} {m} {dtype}": a.T @ c, f"cbt {n} {k} {m} {dtype}": c @ b.T}
np.savez(sys.argv[1], **results)
"""


@pytest.mark.slow
@on_linux
def test_the_avx512_kernel_computes_what_the_default_one_does(tmp_path):
    pytest.importorskip("threadpoolctl")
    if "avx512f" not in openblas.CPU_INFO.read_text():
        pytest.skip("this processor has no AVX-512")
    for kernel in ("Haswell", "SkylakeX"):
        (used,) = python(products.replace("sys.argv[1]", repr(str(tmp_path / kernel))), OPENBLAS_CORETYPE=kernel)
        if used != kernel:
            pytest.skip(f"NumPy's OpenBLAS here has no kernel {kernel}")
    with np.load(tmp_path / "Haswell.npz") as default, np.load(tmp_path / "SkylakeX.npz") as asked:
        for name in default.files:
            longest = max(map(int, name.split()[1:4]))
            bound = 8 * np.sqrt(longest) * np.finfo(default[name].dtype).eps  # rounding of sums in another order
            np.testing.assert_allclose(asked[name], default[name], rtol=0, atol=bound * np.sqrt(longest), err_msg=name)
