"""Runs the examples as their users do: as programs, on a few hundred images, in a folder."""

import csv
import io
import json
import os
import runpy
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from npaae.experiment.run import _checksum

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
FIGURES = {f"{name}.png" for name in ("losses", "samples", "manifold", "latent", "reconstructions")}
KEPT = {"losses.csv", "model.npz", "config.json"}
FILES = FIGURES | KEPT
OTHERS = ("losses", "samples", "reconstructions", "style", "clusters")
FILES_WITH_CATEGORIES = KEPT | {f"{name}.png" for name in OTHERS}

sys.path.append(str(EXAMPLES))  # as Python does for a program in that folder

# On which a program draws and ends. The package has its own list.
SIGNALS = [getattr(signal, n) for n in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, n)]

posix = pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals and terminals")
linux = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's limits on files")


def command(*arguments, example="mnist.py"):
    return [sys.executable, str(EXAMPLES / example), *map(str, arguments)]


def run(*arguments, example="mnist.py", **options):
    line = command(*arguments, example=example)
    return subprocess.run(line, capture_output=True, text=True, timeout=300, **options)


def run_here(*arguments, example="mnist.py", pictures=False):
    """`run` in this process, which is faster, and with sketches in place of pictures."""
    argv, handlers = sys.argv, {number: signal.getsignal(number) for number in SIGNALS}
    out, err, status = io.StringIO(), io.StringIO(), 0
    sys.argv = command(*arguments, example=example)[1:]
    try:
        with redirect_stdout(out), redirect_stderr(err), pytest.MonkeyPatch.context() as patch:
            if not pictures:
                patch.setattr("matplotlib.figure.Figure.savefig", sketch)
            runpy.run_path(sys.argv[0], run_name="__main__")
    except SystemExit as end:
        status = end.code
    finally:
        sys.argv = argv
        for number, handler in handlers.items():
            signal.signal(number, handler)
    return SimpleNamespace(returncode=status, stdout=out.getvalue(), stderr=err.getvalue())


def sketch(figure, file, **_):
    """Write the numbers that a figure shows. Its picture takes most of the time of a small run."""
    for axes in figure.axes:
        for artist in (*axes.images, *axes.lines, *axes.collections):
            for kind in ("get_array", "get_xydata", "get_offsets"):
                numbers = getattr(artist, kind, lambda: None)()
                if numbers is not None:
                    file.write(np.ma.getdata(numbers).tobytes())


def assert_refused(process, status, *words):
    """The program ended with this status and one sentence on stderr, which has all the words."""
    assert process.returncode == status, process.stderr
    assert len(process.stderr.splitlines()) == 1, process.stderr
    assert ".py: error: " in process.stderr
    for word in words:
        assert str(word) in process.stderr


def files(folder):
    return {path.name for path in folder.iterdir()} - {".lock"}


def alter_config(folder, **values):
    """Change entries of config.json as a program might, with the checksum that belongs to them."""
    config = json.loads((folder / "config.json").read_text()) | values
    del config["sha256"]
    config["sha256"] = _checksum(config)
    (folder / "config.json").write_text(json.dumps(config))


def rows(folder):
    """The rows of losses.csv, or none if it does not exist yet."""
    path = folder / "losses.csv"
    return list(csv.DictReader(path.read_text().splitlines())) if path.exists() else []


def assert_equal_runs(folder, other, expected=FILES):
    """Equal bit for bit: parameters, moments, step counts, losses and figures."""
    assert files(folder) == files(other) == expected
    with np.load(folder / "model.npz") as ours, np.load(other / "model.npz") as theirs:
        assert ours.files == theirs.files
        for name in ours.files:
            np.testing.assert_array_equal(ours[name], theirs[name], err_msg=name)
    assert [row | {"seconds": 0} for row in rows(folder)] == [
        row | {"seconds": 0} for row in rows(other)
    ]
    for name in (name for name in expected if name.endswith(".png")):
        assert (folder / name).read_bytes() == (other / name).read_bytes(), name


def on_a_terminal(*arguments, size=(24, 80)):
    """What a run shows on a terminal of so many lines and columns."""
    import pty
    import termios

    controller, terminal = pty.openpty()
    termios.tcsetwinsize(terminal, size)
    process = subprocess.Popen(command(*arguments), stdout=terminal, stderr=terminal)
    os.close(terminal)
    shown = b""
    try:
        while piece := os.read(controller, 4096):
            shown += piece
    except OSError:  # Linux says so that the other end is closed
        pass
    os.close(controller)
    assert process.wait(timeout=300) == 0
    return shown.decode()


def wait_for(condition, process):
    deadline = time.monotonic() + 300
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "the run did not get that far"
        time.sleep(0.02)


@contextmanager
def started(*arguments, example="mnist.py"):
    """A program under way, which is killed at the end of the block if it has not ended."""

    def heed_interrupts():  # which children of a background shell ignore
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    line = command(*arguments, example=example)
    with subprocess.Popen(line, **pipes, preexec_fn=heed_interrupts) as process:
        try:
            yield process
        finally:
            process.kill()


def stopped(folder, digits, after_rows, number=signal.SIGINT):
    """A run that gets a signal after some epochs: its exit status and what it printed."""
    line = ("--data-dir", digits, "--epochs", 10**5, "--hidden", 32, "--out", folder)
    with started(*line) as process:
        wait_for(lambda: len(rows(folder)) >= after_rows, process)
        process.send_signal(number)
        out, err = process.communicate(timeout=300)
    return process.returncode, out, err
