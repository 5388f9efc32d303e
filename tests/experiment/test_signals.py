"""How a program ends, and when Ctrl-C and SIGTERM must wait."""

import errno
import os
import shlex
import signal
import subprocess
import sys
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from types import SimpleNamespace

import pytest

from npaae import BadFile, InvalidInput, Unavailable, parallel
from npaae.experiment import launch, signals
from npaae.experiment.signals import Terminated, uninterrupted

from ..running import EXAMPLES, FILES, SIGNALS, command, files, posix

NUMBERS = {
    number: KeyboardInterrupt if number == signal.SIGINT else Terminated for number in SIGNALS
}


def test_a_program_draws_and_ends_on_these_signals():
    assert list(parallel.SIGNALS) == SIGNALS


@pytest.fixture(autouse=True)
def own_signals(monkeypatch):
    """Python's handling of Ctrl-C and that of `launch` of the others, for the length of a test."""
    previous = {number: signal.getsignal(number) for number in NUMBERS}
    monkeypatch.setattr("sys.argv", ["mnist.py"])
    signal.signal(signal.SIGINT, signal.default_int_handler)
    launch(lambda: None)
    assert signal.SIG_DFL not in map(signal.getsignal, NUMBERS)  # which would end the tests
    yield
    for number, handler in previous.items():
        signal.signal(number, handler)


def ending(error):
    """The status with which a program ends that raises this."""

    def main():
        raise error

    with pytest.raises(SystemExit) as caught:
        launch(main)
    return caught.value.code


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (InvalidInput("seed must be 3"), 2),
        (Unavailable("CuPy is missing"), 1),
        (BadFile("model.npz is damaged"), 1),
        (FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), "data/x"), 1),
        (OSError("disk on fire"), 1),
        (BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE)), 1),
        (MemoryError("Unable to allocate 3 TiB"), 1),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_users_mistake_is_one_sentence_with_a_status(error, status, capsys):
    assert ending(error) == status
    printed = capsys.readouterr().err
    assert printed.startswith("mnist.py: error: ")
    assert printed.count("\n") == 1
    what = "output" if isinstance(error, BrokenPipeError) else error.args[-1]
    assert what in printed


@pytest.mark.parametrize("number", NUMBERS)
def test_a_signal_ends_a_program_in_silence_with_the_shells_status(number, capsys):
    with pytest.raises(SystemExit) as caught:
        launch(lambda: signal.raise_signal(number))
    assert caught.value.code == 128 + number
    assert capsys.readouterr() == ("", "")


def ignored_signal(number):
    """Raises a signal in a weak reference's callback, where Python must ignore the exception."""
    key = type("Key", (), {})()
    reference = weakref.ref(key, lambda _: signal.raise_signal(number))
    del key
    return reference


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("left", [10_000, 0], ids=["in mid-run", "as the program ends"])
def test_a_signal_in_a_callback_which_python_must_ignore_is_not_lost(number, left, capsys):
    def main():
        ignored_signal(number)
        for _ in range(left):
            time.sleep(0.001)

    with pytest.raises(SystemExit) as caught:
        launch(main)
    assert caught.value.code == 128 + number
    assert capsys.readouterr() == ("", "")


@pytest.fixture
def clock(monkeypatch):
    """Stops the time of the handlers at `clock.now`."""
    clock = SimpleNamespace(now=0.0, monotonic=lambda: clock.now, sleep=time.sleep)
    monkeypatch.setattr(signals, "time", clock)
    return clock


def test_signals_within_a_second_are_one(clock):
    raised = []

    def main():
        for clock.now in (0, 0.9, 1, 1.9):
            try:
                signal.raise_signal(signal.SIGINT)
            except KeyboardInterrupt:
                raised.append(clock.now)

    launch(main)
    assert raised == [0, 1]


def at_every_place(act, run):
    """Call `run` again and again, and `act` each time one bytecode of the module later in it.

    Python may handle a signal between many of these bytecodes. It yields after each call.
    """
    last = places = 0

    def trace(frame, event, arg):
        nonlocal places
        if frame.f_code.co_filename != signals.__file__:
            return None
        frame.f_trace_opcodes = True
        places += 1
        if places == last:
            act()
        return trace

    while last <= places:
        last, places = last + 1, 0
        previous = sys.gettrace()
        sys.settrace(trace)
        try:
            run()
        finally:
            sys.settrace(previous)
        if places >= last:
            yield
    assert last > 50


def test_no_place_loses_a_signal_or_prints_if_another_follows_an_ignored_one(clock, capsys):
    begun, ends, clock.sleep = [], [], lambda _: time.sleep(0.001)

    def main():
        begun.append(True)
        ignored_signal(signal.SIGINT)
        for _ in range(10_000):
            time.sleep(0.001)

    def run():
        begun.clear()
        try:
            launch(main)
        except SystemExit as end:
            ends.append(end.code)

    for _ in at_every_place(lambda: begun and signal.raise_signal(signal.SIGTERM), run):
        assert ends.pop() in (128 + signal.SIGINT, 128 + signal.SIGTERM)
    assert capsys.readouterr() == ("", "")


def test_what_else_python_must_ignore_is_reported_as_before(monkeypatch):
    reported = []
    monkeypatch.setattr(sys, "unraisablehook", lambda ignored: reported.append(ignored.exc_type))

    def main():
        key = type("Key", (), {})()
        reference = weakref.ref(key, lambda _: 1 / 0)
        del key
        return reference

    launch(main)
    assert reported == [ZeroDivisionError]


@posix
@pytest.mark.slow
@pytest.mark.parametrize("example", sorted(path.name for path in EXAMPLES.glob("[!_]*.py")))
def test_ctrl_c_while_a_program_imports_is_silent(example):
    if "launch(" not in (EXAMPLES / example).read_text():
        pytest.skip("it is a page to read or a part of a program")
    path = str(EXAMPLES / example)
    start = (
        "import runpy, signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler);"
        f"sys.argv = [{path!r}, '--help']; sys.path.insert(0, {str(EXAMPLES)!r});"
        f"sys.modules['__main__'].__file__ = {path!r}; import interruptible;"
        f"print('begun', flush=True); runpy.run_path({path!r}, None, '__main__')"
    )
    for seconds in (0.0, 0.03, 0.1, 0.2, 0.3):
        process = subprocess.Popen(
            [sys.executable, "-c", start], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert process.stdout.readline() == "begun\n"
        time.sleep(seconds)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
        # −2: the program has ended, and Python, which ends too, handles no signal any more.
        assert (process.returncode, err) in {(130, ""), (0, ""), (-signal.SIGINT, "")}


@posix
def test_a_program_under_nohup_ignores_sighup_as_before():
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    launch(lambda: signal.raise_signal(signal.SIGHUP))


def test_a_defect_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError):
        launch(lambda: 1 / 0)


@posix
def test_a_closed_pipe_is_reported_once(digits, tmp_path):
    line = ("--data-dir", digits, "--epochs", 1, "--hidden", 8, "--out", tmp_path / "run")
    shell = f"{shlex.join(command(*line))} | true"
    process = subprocess.run(["sh", "-c", shell], capture_output=True, text=True, timeout=300)
    assert len(process.stderr.splitlines()) == 1
    assert "the program that read the output has ended" in process.stderr


@posix
@pytest.mark.slow
def test_a_terminal_with_few_characters_and_a_closed_stderr_do_not_stop_a_run(digits, tmp_path):
    odd = tmp_path / "größe-σ"
    line = command("--data-dir", digits, "--epochs", 1, "--hidden", 8, "--out", odd)
    ascii_only = os.environ | {"PYTHONIOENCODING": "ascii"}
    shell = ["sh", "-c", f"exec {shlex.join(line)} 2>&-"]
    process = subprocess.run(shell, stdout=subprocess.DEVNULL, timeout=300, env=ascii_only)
    assert process.returncode == 0
    assert files(odd) == FILES


@pytest.mark.parametrize("number", NUMBERS)
def test_a_signal_waits_for_the_end_of_the_block(number):
    done = []

    def block():
        with uninterrupted():
            signal.raise_signal(number)
            done.append("the whole block")

    with pytest.raises(NUMBERS[number]):
        block()
    assert done == ["the whole block"]


@pytest.mark.parametrize("number", NUMBERS)
def test_after_the_block_signals_act_as_before(number):
    with uninterrupted():
        pass
    with pytest.raises(NUMBERS[number]):
        signal.raise_signal(number)


class Stopped(Exception):
    """What a handler of the tests below raises."""


@pytest.fixture(params=[True, False], ids=["raises", "returns"])
def raises(request):
    return request.param


@pytest.fixture
def handled(raises):
    """The signals that have been handled, by handlers that raise or return."""
    numbers = []

    def handler(number, frame):
        numbers.append(number)
        if raises:
            raise Stopped

    for number in NUMBERS:
        signal.signal(number, handler)
    return numbers


def handled_now(handled):
    """Which signals are handled if all are raised."""
    handled.clear()
    for number in NUMBERS:
        with suppress(Stopped):
            signal.raise_signal(number)
    return handled


@pytest.mark.parametrize("error", [None, KeyError], ids=["a block", "a block that fails"])
@pytest.mark.parametrize("number", NUMBERS)
def test_a_signal_at_any_place_around_a_block_is_handled_once(handled, number, error):
    def run():
        handled.clear()
        with suppress(Stopped, KeyError), uninterrupted():
            if error:
                raise error

    for _ in at_every_place(lambda: signal.raise_signal(number), run):
        assert handled == [number]
        assert handled_now(handled) == [*NUMBERS]


@pytest.mark.parametrize("inside", NUMBERS)
@pytest.mark.parametrize("number", NUMBERS)
def test_a_signal_at_any_place_hides_none_that_waits(handled, raises, inside, number):
    """One is enough if its handler raises."""
    waits = []

    def run():
        handled.clear()
        waits.clear()
        with suppress(Stopped), uninterrupted():
            signal.raise_signal(inside)
            waits.append(inside)

    for _ in at_every_place(lambda: signal.raise_signal(number), run):
        assert handled if raises else {*handled} == {number, *waits}
        assert handled_now(handled) == [*NUMBERS]


def test_a_signal_waits_for_the_outermost_block():
    done = []

    def block():
        with uninterrupted():
            with uninterrupted():
                signal.raise_signal(signal.SIGINT)
            done.append("the rest of it")

    with pytest.raises(KeyboardInterrupt):
        block()
    assert done == ["the rest of it"]


def test_other_threads_than_the_main_one_are_not_disturbed():
    def work():
        with uninterrupted():
            return "done"

    with ThreadPoolExecutor() as pool:
        assert pool.submit(work).result() == "done"
