"""A bundle's command that is stopped ends with one line; here the engine is stood in for by MONAI's own handler."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from stride_monai.workflows.messages import how_to_go_on

RUN = """
import logging, os, sys, time
from stride_monai.workflows.messages import how_to_go_on, stop_with_one_line
stop_with_one_line(how_to_go_on({"resume": ""}))
# The child waits until both are in their work: an exception that a signal raises within os.fork() is lost.
heard, word = os.pipe()
child = os.fork()
if child == 0:
    try:
        os.read(heard, 1)
        print("begun", flush=True)
        for _ in range(600):
            time.sleep(0.1)
    finally:
        os._exit(3)
try:
    os.write(word, b".")
    for _ in range(600):  # a signal just before a sleep is answered after it
        time.sleep(0.1)
except BaseException as error:
    logging.getLogger("StatsHandler").exception("as MONAI's handler does")
    raise
"""


WHILE_FORKING = """
import multiprocessing, os, sys, time
from stride_monai.workflows.messages import stop_with_one_line
stop_with_one_line("go on")
def slow():
    print("begun", flush=True)
    for _ in range(10):
        time.sleep(0.1)
os.register_at_fork(after_in_parent=slow)
multiprocessing.get_context("fork").Process(target=time.sleep, args=(0.0,)).start()
for _ in range(600):
    time.sleep(0.1)
"""


@pytest.mark.skipif(os.name != "posix", reason="needs signals")
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stop_while_a_process_is_being_started_is_not_lost(number: signal.Signals, status: int) -> None:
    with _running(WHILE_FORKING) as process:
        process.send_signal(number)
        _, said = process.communicate(timeout=30)
    assert process.returncode == status
    assert said == "stopped: go on\n"


FORKED = """
import multiprocessing, signal, sys, time
from stride_monai.workflows.messages import stop_with_one_line
def work():
    stop_with_one_line("go on")
    print("begun", flush=True)
    for _ in range(600):
        time.sleep(0.1)
process = multiprocessing.get_context("fork").Process(target=work)
process.start()
signal.signal(signal.SIGTERM, signal.SIG_IGN)
process.join()
sys.exit(process.exitcode)
"""


@pytest.mark.skipif(os.name != "posix", reason="needs signals")
def test_a_process_that_has_been_forked_itself_stops() -> None:
    with _running(FORKED) as process:
        os.killpg(process.pid, signal.SIGTERM)
        _, said = process.communicate(timeout=30)
    assert (process.returncode, said) == (143, "stopped: go on\n")


@contextmanager
def _running(script: str) -> Iterator[subprocess.Popen[str]]:
    """The script, once it has said that it has begun."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with subprocess.Popen(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        yield process


@pytest.mark.skipif(os.name != "posix", reason="needs signals")
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_one_line_says_how_to_go_on(number: signal.Signals, status: int) -> None:
    with _running(RUN) as process:
        os.killpg(process.pid, number)
        _, said = process.communicate(timeout=30)
    assert process.returncode == status
    assert said == "stopped: the same command with --resume auto goes on after the last whole epoch\n"


def test_what_cannot_be_resumed_is_begun_again() -> None:
    assert how_to_go_on({"dataset_dir": "x"}) == "what is done stays; give the same command again"
