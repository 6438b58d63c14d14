"""A bundle's command that is stopped ends with one line; here the engine is stood in for by MONAI's own handler."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

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


@pytest.mark.skipif(os.name != "posix", reason="needs signals")
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_one_line_says_how_to_go_on(number: signal.Signals, status: int) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with subprocess.Popen(
        [sys.executable, "-c", RUN],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        os.killpg(process.pid, number)
        _, said = process.communicate(timeout=30)
    assert process.returncode == status
    assert said == "stopped: the same command with --resume auto goes on after the last whole epoch\n"


def test_what_cannot_be_resumed_is_begun_again() -> None:
    assert how_to_go_on({"dataset_dir": "x"}) == "what is done stays; give the same command again"
