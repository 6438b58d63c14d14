"""Processes for tests that start at once: forked from one that has imported PyTorch, MONAI and the package already.

``python -m monai.bundle run`` imports for seven seconds of a processor before it does anything, ``torchrun`` for two
processes of it and itself. Here a fork server of :mod:`multiprocessing` does so once for each pytest worker; every
process is forked from it and runs its module as ``python -m`` does, with its own arguments, environment, folder,
output, memory and exit status. Only the start of the interpreter is left out; the tests that prove that too
(a bundle by its command, ``torchrun``, the program as it is installed) use :mod:`subprocess`.
"""

from __future__ import annotations

import atexit
import io
import multiprocessing
import os
import runpy
import signal
import socket
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from subprocess import CompletedProcess
from typing import IO, BinaryIO
from unittest import mock

from stride_monai.guard import process as guard_process
from stride_monai.guard.child import serve

_TESTS = Path(__file__).resolve().parent
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["preload"])
_PLAIN = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


def start(
    module: str,
    arguments: Sequence[object] = (),
    *,
    cwd: Path | None = None,
    environment: Mapping[str, str] | None = None,
    stdout: Path | None = None,
    stderr: Path | None = None,
) -> ForkServerProcess:
    """Start ``python -m module arguments``; its output goes to files, or nowhere.

    Args:
        module: name of a module or of a package with a ``__main__``.
        arguments: as on a command line.
        cwd: its working folder, by default this process's.
        environment: variables that it has beside this process's.
        stdout: file of its standard output.
        stderr: file of its standard error.
    """
    whole = {**os.environ, **_PLAIN, **(environment or {})}
    files = [str(path or os.devnull) for path in (stdout, stderr)]
    job = (module, [str(argument) for argument in arguments], str(cwd or Path.cwd()), whole, files)
    process = _CONTEXT.Process(target=_run, args=job)
    # The server itself is started by the first process and keeps the environment of that moment.
    with mock.patch.dict(os.environ, {**_PLAIN, "PYTHONPATH": str(_TESTS)}):
        process.start()
    return process


def run(
    module: str,
    arguments: Sequence[object] = (),
    *,
    cwd: Path | None = None,
    environment: Mapping[str, str] | None = None,
    timeout: float = 300,
) -> CompletedProcess[str]:
    """``subprocess.run([sys.executable, "-m", module, *arguments], capture_output=True, text=True)``."""
    return _run_each(module, arguments, [environment or {}], cwd, timeout)[0]


def run_ranks(
    count: int,
    module: str,
    arguments: Sequence[object] = (),
    *,
    cwd: Path | None = None,
    environment: Mapping[str, str] | None = None,
    timeout: float = 300,
) -> CompletedProcess[str]:
    """``torchrun --standalone --nproc_per_node count -m module arguments``: output of all, the first failure."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "GROUP_RANK": "0", **(environment or {})}
    common |= {"WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count)}
    each = [{**common, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(count)]
    done = _run_each(module, arguments, each, cwd, timeout)
    status = next((one.returncode for one in done if one.returncode), 0)
    return CompletedProcess(done[0].args, status, *("".join(getattr(d, s) for d in done) for s in ("stdout", "stderr")))


def _run_each(
    module: str,
    arguments: Sequence[object],
    environments: Sequence[Mapping[str, str]],
    cwd: Path | None,
    timeout: float,
) -> list[CompletedProcess[str]]:
    """A process for each environment, side by side, to their ends."""
    with tempfile.TemporaryDirectory() as folder:
        files = [(Path(folder) / f"{n}.out", Path(folder) / f"{n}.err") for n in range(len(environments))]
        processes = [
            start(module, arguments, cwd=cwd, environment=environment, stdout=out, stderr=err)
            for environment, (out, err) in zip(environments, files, strict=True)
        ]
        for process in processes:
            process.join(timeout)
        late = [process for process in processes if process.is_alive()]
        for process in late:
            process.kill()
            process.join()
        texts = [tuple(path.read_text() for path in pair) for pair in files]
        assert not late, f"python -m {module} was not done after {timeout} s\n{texts}"
        command = ["python", "-m", module, *map(str, arguments)]
        return [
            CompletedProcess(command, process.exitcode or 0, *text)
            for process, text in zip(processes, texts, strict=True)
        ]


def _run(module: str, arguments: list[str], cwd: str, environment: dict[str, str], files: list[str]) -> None:
    """In the new process: become ``python -m module arguments``."""
    for number, path in enumerate(files, start=1):
        with open(path, "wb", buffering=0) as stream:  # noqa: PTH123
            os.dup2(stream.fileno(), number)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    paths = environment.get("PYTHONPATH", "").split(os.pathsep)
    sys.path[:0] = [cwd, *filter(None, paths)]
    sys.argv = [module, *arguments]
    guard_process._start = _Forked  # type: ignore[assignment]
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except Exception as error:  # as the interpreter itself reports it
        sys.excepthook(type(error), error, error.__traceback__)
        sys.exit(1)
    finally:
        atexit._run_exitfuncs()


class _Forked:
    """What ``subprocess.Popen`` gives for a guarded process, which is forked here: it has imported PyTorch already."""

    def __init__(self, parent: int, stderr: IO[bytes], environment: Mapping[str, str]) -> None:
        self.returncode: int | None = None
        (request, stdin), (stdout, reply) = os.pipe(), os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                os.close(stdin)
                os.close(stdout)
                for number, target in ((request, 0), (reply, 1), (stderr.fileno(), 2)):
                    os.dup2(number, target)
                    if number > 2:
                        os.close(number)
                os.environ.update(environment)
                serve(parent)
            finally:
                os._exit(1)
        os.close(request)
        os.close(reply)
        self.stdin: BinaryIO = io.BufferedWriter(io.FileIO(stdin, "wb"))
        self.stdout: BinaryIO = io.BufferedReader(io.FileIO(stdout, "rb"))

    def poll(self) -> int | None:
        return self._fetch(os.WNOHANG)

    def wait(self, timeout: float | None = None) -> int | None:
        return self._fetch(0)

    def _fetch(self, options: int) -> int | None:
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, options)
            self.returncode = os.waitstatus_to_exitcode(status) if pid else None
        return self.returncode

    def kill(self) -> None:
        if self.poll() is None:
            with suppress(OSError):
                os.kill(self.pid, signal.SIGKILL)
