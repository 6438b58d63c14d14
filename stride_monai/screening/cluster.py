"""Slides as tasks of a Ray cluster: begun anew where a machine is lost, results on storage that all machines share."""

from __future__ import annotations

import os
import pickle
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from stride_monai import errors
from stride_monai.errors import ConfigError, MissingExtraError, StrideError
from stride_monai.guard import AbandonedError
from stride_monai.names import readable
from stride_monai.run_index import Outcome
from stride_monai.screening.batch import Progress, Writer, failed_slide, not_tried
from stride_monai.screening.config import ScreeningConfig, settings_of
from stride_monai.screening.guarded import Allowance, GuardedScreening
from stride_monai.screening.inputs import SlideInput
from stride_monai.screening.store import About

__all__ = ["ClusterScreening", "Remote"]

_CONNECT_SECONDS = 10.0
_TRIES = 5
"""How often a slide is begun anew whose machine was lost."""


@dataclass(frozen=True, slots=True)
class Remote:
    """How slides are screened wherever a task runs; arguments of
    :class:`~stride_monai.screening.guarded.GuardedScreening`. All paths are those of the shared storage."""

    config: ScreeningConfig
    out: Path
    overwrite: bool
    load_writers: Callable[[], Mapping[str, Writer]]
    allowance: Allowance
    target: str = "stride_monai.screening.worker:worker"

    def start(self) -> GuardedScreening:
        """What screens in the process of a task."""
        return GuardedScreening(
            self.config, self.out, self.overwrite, self.load_writers, self.allowance, target=self.target
        )


class ClusterScreening:
    """Screens each slide by a task of a cluster, and waits for it.

    It is what :func:`~stride_monai.screening.batch.run_slides` takes with a runner
    :class:`~stride_monai.runs.Threads` of as many threads as there are ``slots``. This process keeps the index and the
    lock; where it dies, Ray ends its tasks, and the same command goes on. As a context manager it leaves the cluster
    with the block.

    Args:
        address: of a cluster that runs: ``auto``, ``HOST:PORT`` or ``ray://HOST:PORT``.
        at_once: slides at once on each machine; on machines with GPUs each slide has one of them instead.
        on_node: told a machine, and how many slides have ended there.

    Attributes:
        about: what screens; None as long as no slide has ended that needed networks.
        note: what the user must know; nothing.
        slots: slides at once in the whole cluster, as it is now, and as many that wait.

    Raises:
        ConfigError: there is no such cluster, or the device is a certain GPU.
        MissingExtraError: Ray is not installed.
    """

    def __init__(
        self, remote: Remote, address: str, at_once: int = 1, on_node: Callable[[str, int], None] = lambda *_: None
    ) -> None:
        if at_once < 1:
            raise ConfigError(f"invalid --workers {at_once}", "give 1 or more")
        self.about: About | None = None
        self.note = ""
        self._remote, self._on_node, self._ended_on = remote, on_node, Counter[str]()
        self._lock, self._refs, self._over = threading.Lock(), set[Any](), False
        self._ray = _connect(address)
        needs, slots = _shares(self._ray, at_once, remote.config.device)
        self.slots = 2 * slots
        self._task = self._ray.remote(_screen).options(max_retries=_TRIES, **needs)
        self._how = self._ray.put(pickle.dumps(remote))

    def info(self) -> Mapping[str, object]:
        """What screens, for the index; no more than the settings before a slide has ended."""
        about = {} if self.about is None else self.about.info()
        return {"settings": settings_of(self._remote.config), **about}

    def __call__(self, item: SlideInput, on_progress: Progress | None = None) -> Outcome:
        """The outcome of a slide.

        Raises:
            ConfigError: the machines of the cluster lack something.
            StrideError: the networks cannot be loaded as asked.
            AbandonedError: nobody waits for it any more.
        """
        if item.problem:
            return not_tried(self._remote.out, item)
        start = time.perf_counter()
        # A task has another working directory.
        ref = self._task.remote(self._how, replace(item, path=Path(os.path.abspath(item.path))))  # noqa: PTH100
        try:
            with self._lock:
                self._refs.add(ref)
                over = self._over
            if over:  # abandon() came before the task was known
                self._ray.cancel(ref, force=True)
            kind, content, node = self._ray.get(ref)
        except self._ray.exceptions.RayError as error:
            if self._over:
                raise AbandonedError("nobody waits for the slide any more") from error
            if isinstance(error, self._ray.exceptions.RayTaskError):  # not of the slide: that would be its outcome
                what = f"the machines of the cluster cannot screen ({' '.join(repr(error.cause).split())})"
                raise ConfigError(what, "install the same stride-monai on each, and mount the same storage") from error
            why = f"{readable(item.path.name)}: its task was lost {_TRIES + 1} times ({type(error).__name__})"
            advice = "see the cluster's log, and give --retry-failed"
            return failed_slide(self._remote.out, item, f"{why}: {advice}", time.perf_counter() - start)
        finally:
            with self._lock:
                self._refs.discard(ref)
        if kind == "broken":
            raise _made(*content)
        outcome, about = content
        with self._lock:
            self.about = self.about or about
            self._ended_on[node] += 1
            self._on_node(node, self._ended_on[node])
        ended: Outcome = replace(outcome, path=str(item.path))
        return ended

    def abandon(self) -> None:
        """Have the slides in hand end soon."""
        with self._lock:
            self._over, refs = True, list(self._refs)
        for ref in refs:
            self._ray.cancel(ref, force=True)

    def __enter__(self) -> ClusterScreening:
        return self

    def __exit__(self, *_: object) -> None:
        self._ray.shutdown()


def _connect(address: str) -> Any:
    try:
        import ray
    except ImportError as error:
        raise MissingExtraError("ray", "cluster", "--cluster") from error
    try:
        _reach(address)
        on_stop = signal.getsignal(signal.SIGTERM)
        ray.init(address=address, log_to_driver=False, logging_level="ERROR", configure_logging=False)
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, on_stop)  # Ray takes it, and exits with no word
    except (ConnectionError, ValueError, RuntimeError, OSError) as error:
        what = f"there is no Ray cluster at '{address}' ({' '.join(str(error).split())[:200]})"
        raise ConfigError(what, "start one with 'ray start --head', or check the address") from error
    return ray


def _reach(address: str) -> None:
    """Fail at once where nobody listens, which Ray tries for minutes.

    Raises:
        OSError: nobody does.
    """
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host, int(port)), timeout=_CONNECT_SECONDS).close()


def _shares(ray: Any, at_once: int, device: str) -> tuple[dict[str, float], int]:
    """What a task asks for, and how many fit into the cluster as it is now.

    Where there are GPUs, and the processor was not asked for, a slide has one: Ray gives it to no other task, and makes
    it the only one that the task's process and all that it starts can see.
    """
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU")]
    if not nodes:
        raise ConfigError("no machine of the Ray cluster has processors", "add one with 'ray start --address'")
    gpus = sum(int(node.get("GPU", 0)) for node in nodes)
    if gpus and device.partition(":")[0] in {"auto", "cuda"}:
        if ":" in device:  # a task sees the GPU that Ray gives it, and no other
            raise ConfigError(
                f"--device {device} names a GPU, and the cluster gives each slide one", "give --device cuda"
            )
        return {"num_cpus": 1, "num_gpus": 1}, gpus
    cores = max(1, int(min(node["CPU"] for node in nodes)) // at_once)
    return {"num_cpus": cores}, sum(int(node["CPU"]) // cores for node in nodes)


def _made(name: str, what: str, advice: str) -> StrideError:
    cls: type[StrideError] = getattr(errors, name, StrideError)
    error = cls.__new__(cls)
    StrideError.__init__(error, what, advice)  # some classes take other arguments than these two
    return error


# In the process of a task, which Ray keeps for those that follow.

_here: dict[bytes, GuardedScreening] = {}


def _screen(how: bytes, item: SlideInput) -> tuple[str, Any, str]:
    """Screen a slide: ``("done", (outcome, what screens), machine)``, or ``("broken", error's parts, machine)``."""
    import ray

    if how not in _here:
        for other in _here.values():
            other.__exit__()
        _here.clear()
        _here[how] = pickle.loads(how).start()
    node = f"{ray.util.get_node_ip_address()} {ray.get_runtime_context().get_node_id()[:6]}"
    try:
        outcome = _here[how](item)
    except StrideError as error:
        return "broken", (type(error).__name__, error.what, error.advice), node
    return "done", (outcome, _here[how].about), node
