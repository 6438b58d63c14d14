"""The MONAI Label server as a user starts it, in the environment that ``make app`` makes."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

__all__ = ["APP", "NEEDED", "WAIT", "serving"]

ROOT = Path(__file__).resolve().parents[2]
PYTHON = ROOT / os.environ.get("VENV_APP", ".venv-app") / "bin" / "python"
APP = ROOT / "apps" / "cytology"
WAIT = 300.0
NEEDED = [
    pytest.mark.slow,
    pytest.mark.skipif(not PYTHON.exists(), reason="no environment of the MONAI Label server: make app makes it"),
]


@contextmanager
def serving(studies: Path, log: Path, *conf: str, app: Path = APP) -> Iterator[httpx.Client]:
    """A server on a free port, and a client of it; it answers when this begins.

    Args:
        log: file that gets all that it says.
        conf: names and values for ``--conf``, one after the other.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [PYTHON, "-W", "ignore", "-m", "monailabel.main", "start_server", "--app", app]
    command += ["--studies", studies, "--host", "127.0.0.1", "--port", str(port)]
    for name, value in zip(conf[::2], conf[1::2], strict=True):
        command += ["--conf", name, value]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    with log.open("wb") as stream:
        process = subprocess.Popen(command, stdout=stream, stderr=subprocess.STDOUT, env=environment, cwd=log.parent)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=WAIT) as client:
            _wait(process, client, log)
            yield client
    finally:
        process.terminate()
        process.wait(WAIT)


def _wait(process: subprocess.Popen[bytes], client: httpx.Client, log: Path) -> None:
    deadline = time.monotonic() + WAIT
    while process.poll() is None and time.monotonic() < deadline:
        try:
            client.get("/info/", timeout=5)
            return
        except httpx.TransportError:
            time.sleep(0.3)
    pytest.fail(f"the server did not start:\n{log.read_text(errors='replace')[-4000:]}")
