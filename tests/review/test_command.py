"""``stride-monai review`` as a user types it."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from extras import needs

needs("fastapi", "review")
import httpx  # noqa: E402
from typer.testing import CliRunner  # noqa: E402

from stride_monai.cli.main import app  # noqa: E402
from stride_monai.errors import ConfigError  # noqa: E402
from stride_monai.review.serve import check_host, free_socket  # noqa: E402


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.7", "example.org", "127.0.0.1.evil.example", ""])
def test_addresses_that_others_reach_need_users(host: str, study: tuple[Path, Path]) -> None:
    words = ["review", str(study[0]), "--studies", str(study[1]), "--host", host]
    done = CliRunner().invoke(app, words)
    assert isinstance(done.exception, ConfigError)
    assert "--users" in str(done.exception)
    check_host(host, users=True)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "127.9.9.9"])
def test_this_machine_needs_none(host: str) -> None:
    check_host(host, users=False)


def test_what_is_wrong_is_said_before_anything_starts(study: tuple[Path, Path], tmp_path: Path) -> None:
    results, slides = map(str, study)
    cases = {
        "no folder of results": [str(tmp_path / "none"), "--studies", slides],
        "no folder of slides": [results, "--studies", str(tmp_path / "none")],
        "names of their own": [results, "--studies", slides, "--double-read"],
        "no file of users": [results, "--studies", slides, "--users", str(tmp_path / "none.json")],
    }
    for said, words in cases.items():
        done = CliRunner().invoke(app, ["review", *words])
        assert said in str(done.exception)


def test_a_port_that_is_taken() -> None:
    with free_socket("127.0.0.1", 0) as taken, pytest.raises(ConfigError, match="cannot listen"):
        free_socket("127.0.0.1", taken.getsockname()[1])


def test_who_calls_before_the_server_answers_waits_and_is_not_refused() -> None:
    with free_socket("127.0.0.1", 0) as listening, socket.create_connection(listening.getsockname(), timeout=5):
        pass


@pytest.mark.slow
def test_the_command_serves_the_page_and_ends_when_told(study: tuple[Path, Path], tmp_path: Path) -> None:
    command = [sys.executable, "-m", "stride_monai", "review", os.path.relpath(study[0], tmp_path), "--port", "0"]
    command += ["--studies", os.path.relpath(study[1], tmp_path), "--store", "mine.sqlite", "--name", "Li 李"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=tmp_path, env=environment)
    try:
        assert process.stdout is not None
        found = re.search(r"http://127\.0\.0\.1:\d+/", process.stdout.readline())
        assert found is not None
        assert httpx.get(f"{found.group()}api/session", timeout=60).json()["name"] == "Li 李"
        assert "STRIDE review" in httpx.get(found.group(), timeout=60).text
    finally:
        process.terminate()
    assert process.wait(30) in {0, -15, 143}
    assert (tmp_path / "mine.sqlite").is_file()
    assert not (study[0] / "annotations.sqlite").exists()
