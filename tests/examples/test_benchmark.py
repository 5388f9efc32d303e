"""benchmark.py: contenders in processes of their own, timed in turns."""

import re
import shutil
import signal
import time
from functools import partial
from pathlib import Path
from subprocess import PIPE, Popen

import numpy as np
import pytest

import npaae

from ..running import assert_refused, command, linux, run, run_here, wait_for

import benchmark  # isort: skip  # which lies in the folder that `running` adds to the path

EXAMPLE, TINY = "benchmark.py", ("--sample", "--hidden", 8, "--seconds", 0.01, "--late")


def numbers_of(name, out):
    """The numbers in the row of a table that begins with the name."""
    row = out.partition(f"\n| {name} ")[2].split("\n")[0]
    return [float(number) for number in re.findall(r"[\d.]+", row.replace(",", ""))]


@pytest.fixture(autouse=True)
def one_thread(monkeypatch):
    """PyTorch's threads on a busy machine wait for one another most of the time."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def printed(*flags):
    process = run(*flags, example=EXAMPLE)
    assert process.returncode == 0, process.stderr
    return process.stdout


@pytest.mark.slow
def test_every_contender_trains_the_same_networks_and_is_timed():
    out = printed(*TINY, 4)
    rows = [numbers_of(name, out) for name in benchmark.available("numpy")]
    assert np.min([row[:4] for row in rows]) > 0
    assert np.ptp([row[-1] for row in rows[:-1]]) < 0.1  # the losses; the floor has none


@pytest.mark.slow
def test_ranks_are_timed_beside_one_process(tmp_path, monkeypatch, capsys):
    try:
        benchmark.mpiexec()
    except npaae.Unavailable as error:
        pytest.skip(str(error))
    monkeypatch.setattr(benchmark, "RANK_BATCHES", (8,))
    np.save(tmp_path / "images.npy", np.zeros((7, 784), np.uint8))
    benchmark.print_ranks([(8, 4)], 0.01, str(tmp_path))
    out = capsys.readouterr().out
    for ranks, name in enumerate(benchmark.RANKS):
        milliseconds, images, ratio, *shares = numbers_of(f"(8, 4), 8, {name}", out)
        assert min(milliseconds, images, ratio) > 0
        assert (sum(shares[3:]) > 0) == (ranks >= 2)  # of communication


def test_the_products_of_a_step_are_counted():
    x, a, b, z, d = 784, 256, 128, 2, 1  # each dense layer: forward, dW, and dx but for its input
    encoder, decoder = 2 * x * a + 3 * a * b + 3 * b * z, 3 * (z * b + b * a + a * x)
    discriminator = 2 * (2 * z * a + 3 * a * b + 3 * b * d) + 2 * (z * a + a * b + b * d)
    passes = benchmark.layers_of_a_step((256, 128), 1)
    products = sum(a * b * rows * (1 + dW + dx) for a, b, rows, dW, dx in passes)
    assert products == 2 * encoder + decoder + discriminator


def test_ranks_without_mpiexec_are_refused(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda *_, **options: None)
    assert_refused(run_here("--ranks", "--sample", example=EXAMPLE), 1, "mpiexec")


def test_a_ratio_is_the_median_over_the_turns():
    times = {"npaae": (2, 4, 9), "a peer": (1, 8, 3)}  # ratios 2, 0.5 and 3; of the medians 4 / 3
    answers = {n: [{"ms": t, "memory": 1, "loss": 1} for t in ms] for n, ms in times.items()}
    assert [row[3] for row in benchmark.step_table(answers)] == ["npaae / it", "1.00", "2.00"]


def test_missing_peers_are_left_out_with_a_line_each(monkeypatch, capsys):
    monkeypatch.setattr(benchmark, "find_spec", lambda module: None)
    assert benchmark.available("numpy") == ["npaae", "the floor"]
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["JAX", "PyTorch"]


@pytest.mark.parametrize("flag", ["--hidden", "--late", "--seconds"])
def test_a_number_out_of_range_is_refused(flag):
    assert_refused(run_here(flag, 0, example=EXAMPLE), 2, flag)


@linux
def test_ctrl_c_ends_every_process():
    heed = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # a shell may have it ignored
    line = command(*TINY, 10**9, example=EXAMPLE)
    with Popen(line, stdout=PIPE, stderr=PIPE, preexec_fn=heed) as parent:
        children = Path(f"/proc/{parent.pid}/task/{parent.pid}/children")
        try:
            wait_for(lambda: len(children.read_text("utf-8").split()) >= 2, parent)
            started = [Path("/proc", child, "exe") for child in children.read_text("utf-8").split()]
            parent.send_signal(signal.SIGINT)
            parent.communicate(timeout=300)
        finally:
            parent.kill()
    assert parent.returncode == 130
    while any(exe.exists() for exe in started):  # one that was just starting finds itself alone
        time.sleep(0.02)
