"""Two settings of OpenBLAS, the library that computes NumPy's matrix products; it reads them when NumPy is imported.

The kernel. NumPy's wheels carry an AVX-512 kernel (SkylakeX), yet on AMD's processors they run an AVX2 one (Haswell), even
where the processor has AVX-512 (Zen 4 and later). There the faster one is asked for.

The patience of idle threads. After each product OpenBLAS's threads spin for about 2²⁶ cycles, in wait for the next. They
take their core from the element-wise work in between, and from everybody else on the machine. 2¹⁶ cycles suffice.

Each is left alone where the user has set it: `OPENBLAS_CORETYPE=Haswell OPENBLAS_THREAD_TIMEOUT=26` in the environment is
the way out. Nothing is done where NumPy was imported before npaae, or elsewhere than on Linux; and the environment is as
it was once NumPy is there, so that no program started from this one inherits anything.
"""

import os
import sys
from pathlib import Path

CPU_INFO = Path("/proc/cpuinfo")


def settings(cpu_info: str) -> dict[str, str]:
    """The environment variables to set on a machine whose /proc/cpuinfo this is."""
    kernel = {"OPENBLAS_CORETYPE": "SkylakeX"} if "AuthenticAMD" in cpu_info and "avx512f" in cpu_info else {}
    return {"OPENBLAS_THREAD_TIMEOUT": "16", **kernel}


def import_numpy() -> None:
    """Import NumPy with these settings, unless it was imported already or the user has others."""
    if sys.platform != "linux" or "numpy" in sys.modules or not CPU_INFO.exists():
        return
    ours = {name: value for name, value in settings(CPU_INFO.read_text()).items() if name not in os.environ}
    os.environ.update(ours)
    try:
        import numpy  # noqa: F401
    finally:
        for name in ours:
            del os.environ[name]


import_numpy()
