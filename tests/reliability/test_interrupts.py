"""A signal is acknowledged at once, and obeyed wherever it comes."""

import os
import signal
import sys
import time
from threading import Timer

import pytest

from unlearnkit.errors import Stopped
from unlearnkit.run.interrupts import Stop, signals


class Slow:
    """Something that Python finalises: what is raised there is lost."""

    def __del__(self):
        time.sleep(0.2)


def generated():
    try:
        yield
    finally:
        time.sleep(0.2)


def by_method():
    slow = Slow()
    del slow


def by_generator():
    slow = generated()
    next(slow)
    del slow


def plainly():
    time.sleep(0.2)


def then_wait(where):
    where()
    time.sleep(5)


def kill(number=signal.SIGTERM):
    Timer(0.1, os.kill, (os.getpid(), number)).start()


@pytest.mark.parametrize("where", [plainly, by_method, by_generator])
def test_a_signal_is_obeyed_also_where_python_lets_no_exception_out(where):
    told, before = [], (signal.getsignal(signal.SIGTERM), sys.unraisablehook)
    kill()
    with pytest.raises(Stopped), signals(Stop(told.append)):
        then_wait(where)
    assert told == [{"event": "stopping", "signal": 15}]
    assert (signal.getsignal(signal.SIGTERM), sys.unraisablehook) == before


def test_a_block_comes_to_its_end_before_a_signal_is_obeyed():
    seen = []
    stop = Stop(lambda event: seen.append("told"))

    def work():
        with stop.later():
            time.sleep(0.3)
            seen.append("reached")
        stop.check()

    kill()
    with pytest.raises(Stopped), signals(stop):
        work()
    assert seen == ["told", "reached"]


def test_a_second_signal_stops_at_once():
    stop = Stop(lambda event: None)
    Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
    Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt), signals(stop), stop.later():
        time.sleep(5)
