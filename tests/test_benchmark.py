import importlib.util
import sys
from pathlib import Path

import pytest

pytest.importorskip("threadpoolctl", reason="threadpoolctl is not installed: pip install 'npaae[bench]'")
EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "benchmark.py"


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # the peers' own
def test_the_benchmark_prints_both_tables_and_says_which_peers_are_missing(monkeypatch, capsys):
    specification = importlib.util.spec_from_file_location("benchmark", EXAMPLE)
    benchmark = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(benchmark)
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
