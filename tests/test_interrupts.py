import signal
import threading

import pytest

from npaae.interrupts import Terminated, heed_sigterm, uninterrupted


@pytest.fixture(autouse=True)
def own_signals():
    """Python's handling of Ctrl-C and the package's of SIGTERM, for the length of a test."""
    previous = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    heed_sigterm()
    yield
    for number, handler in previous.items():
        signal.signal(number, handler)


def test_sigterm_is_raised_as_a_kind_of_ctrl_c():
    with pytest.raises(Terminated):
        signal.raise_signal(signal.SIGTERM)
    assert issubclass(Terminated, KeyboardInterrupt)


@pytest.mark.parametrize(("number", "error"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Terminated)])
def test_a_signal_waits_for_the_end_of_a_block_that_must_not_be_cut(number, error):
    done = []

    def block():
        with uninterrupted():
            signal.raise_signal(number)
            done.append("the whole block")

    with pytest.raises(error):
        block()
    assert done == ["the whole block"]


def test_after_the_block_signals_are_heeded_as_before():
    with uninterrupted():
        pass
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


def test_a_block_may_be_run_by_another_thread_than_the_first():
    done = []

    def work():
        with uninterrupted():
            done.append("kept")

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == ["kept"]
