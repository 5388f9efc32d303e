import numpy as np
import pytest

from .running import run_here


@pytest.mark.slow
def test_the_example_imposes_every_prior_and_draws_one_figure(digits, tmp_path):
    figure = tmp_path / "priors.png"
    process = run_here("--data-dir", digits, "--epochs", 1, "--out", figure, example="priors.py")
    assert process.returncode == 0
    assert figure.read_bytes().startswith(b"\x89PNG")
    lines = process.stdout.splitlines()
    assert len(lines) == 8
    assert [line.count("% of the digits in their own part") for line in lines] == [0, 0, 0, 0, 1, 0, 1, 0]
    assert all(np.isfinite(float(line.split("reconstruction ")[1].split(",")[0])) for line in lines[:7])


@pytest.mark.parametrize(
    ("flags", "says"), [(["--epochs", "0"], "'0' came, a whole number of at least 1"), (["--what"], "--what")]
)
def test_a_bad_flag_is_one_sentence(flags, says):
    process = run_here(*flags, example="priors.py")
    assert process.returncode == 2
    assert says in process.stderr
    assert len(process.stderr.splitlines()) == 1


def test_a_figure_that_cannot_be_written_is_one_sentence_before_anything_is_trained(digits, tmp_path):
    (tmp_path / "file").touch()
    process = run_here("--data-dir", digits, "--out", tmp_path / "file" / "priors.png", example="priors.py")
    assert (process.returncode, process.stdout) == (1, "")
    assert process.stderr == f"priors.py: error: {tmp_path / 'file'} cannot be used (File exists); mend that, or name another\n"


def test_a_figure_that_is_there_already_is_not_replaced(digits, tmp_path):
    (tmp_path / "priors.png").write_text("an old one")
    process = run_here("--data-dir", digits, "--out", tmp_path / "priors.png", example="priors.py")
    assert (process.returncode, process.stdout) == (2, "")
    assert "priors.png exists already; move it away, or name another file with --out" in process.stderr
    assert (tmp_path / "priors.png").read_text() == "an old one"
