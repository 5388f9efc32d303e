"""Running the examples as their users do: as programs, on a few hundred images, in a folder of their own."""

import csv
import io
import os
import pty
import runpy
import signal
import subprocess
import sys
import termios
import time
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from types import SimpleNamespace

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
FIGURES = {f"{name}.png" for name in ("losses", "samples", "manifold", "latent", "reconstructions")}
FILES = FIGURES | {"losses.csv", "model.npz", "config.json"}


def command(*arguments, example="mnist.py"):
    return [sys.executable, str(EXAMPLES / example), *map(str, arguments)]


def run(*arguments, example="mnist.py", **options):
    return subprocess.run(command(*arguments, example=example), capture_output=True, text=True, timeout=120, **options)


def run_here(*arguments, example="mnist.py"):
    """`run` in this process, which is sooner done; for what ends before it trains, or need not be equal to the last bit."""
    argv, handler = sys.argv, signal.getsignal(signal.SIGTERM)
    out, err, status = io.StringIO(), io.StringIO(), 0
    sys.argv = command(*arguments, example=example)[1:]
    try:
        with redirect_stdout(out), redirect_stderr(err):
            runpy.run_path(sys.argv[0], run_name="__main__")
    except SystemExit as end:
        status = end.code
    finally:
        sys.argv = argv
        signal.signal(signal.SIGTERM, handler)
    return SimpleNamespace(returncode=status, stdout=out.getvalue(), stderr=err.getvalue())


def files(folder):
    return {path.name for path in folder.iterdir()}


def rows(folder):
    with open(folder / "losses.csv", newline="") as file:
        return list(csv.DictReader(file))


def on_a_terminal(*arguments, size=(24, 80), log=None):
    """What a run shows on a terminal of so many lines and columns; with `log`, its standard output goes there."""
    controller, terminal = pty.openpty()
    termios.tcsetwinsize(terminal, size)
    with open(log or os.devnull, "w") as file:
        process = subprocess.Popen(command(*arguments), stdout=file if log else terminal, stderr=terminal)
    os.close(terminal)
    shown = b""
    try:
        while piece := os.read(controller, 4096):
            shown += piece
    except OSError:  # how Linux says that the other end is closed
        pass
    os.close(controller)
    assert process.wait(timeout=60) == 0
    return shown.decode()


def wait_for(condition, process):
    deadline = time.monotonic() + 60
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "the run did not get that far in a minute"
        time.sleep(0.02)


def heed_interrupts():
    """A shell that starts the tests in the background makes their children ignore SIGINT."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def stopped(folder, digits, after_rows, number=signal.SIGINT):
    """A run that is sent a signal after some epochs: its exit status and what it printed."""
    arguments = command("--data-dir", digits, "--epochs", 100_000, "--hidden", 32, "--out", folder)
    with subprocess.Popen(
        arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=heed_interrupts
    ) as process:
        try:
            started = folder / "losses.csv"
            wait_for(lambda: started.exists() and started.read_text().count("\n") > after_rows, process)
            process.send_signal(number)
            out, err = process.communicate(timeout=60)
        finally:
            process.kill()  # lest a run that did not stop outlive the test
    return process.returncode, out, err
