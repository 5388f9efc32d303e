import importlib.util
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip("threadpoolctl", reason="threadpoolctl is not installed: pip install 'npaae[bench]'")
EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "benchmark.py"


@pytest.fixture
def benchmark():
    specification = importlib.util.spec_from_file_location("benchmark", EXAMPLE)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def test_a_pytorch_without_cuda_is_left_out_of_the_comparison_on_a_gpu(benchmark, monkeypatch):
    torch = SimpleNamespace(cuda=SimpleNamespace(is_available=lambda: False))
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setattr(benchmark, "installed", lambda *modules: modules == ("torch",))
    assert benchmark.why_no_pytorch("cpu") is None
    assert benchmark.why_no_pytorch("cuda") == "is built without CUDA and left out: install a build for GPUs"
    assert benchmark.peers((8, 8), 4, "cuda") == {}


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # the peers' own
def test_the_benchmark_prints_both_tables_and_says_which_peers_are_missing(benchmark, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["benchmark.py", "--seconds", "0.5"])
    monkeypatch.setattr(benchmark, "print_epoch", lambda backend: None)
    benchmark.main()
    out = capsys.readouterr().out
    for hidden in ("256-128", "1000-1000"):
        assert f"784-{hidden}-2), batch 100" in out
    assert out.count("npaae / this = ") >= 2  # the floor at least
    for name, modules in {"PyTorch": ["torch"], "JAX": ["jax", "optax"]}.items():
        missing = not benchmark.installed(*modules)
        assert (f"{name} is not installed and left out" in out) == missing
        assert (f"{name}, " in out) != missing
