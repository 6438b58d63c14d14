"""How a watch is, for a monitoring system: a page of metrics (Prometheus' text format) and one of health."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from stride_monai import __version__
from stride_monai.errors import ConfigError
from stride_monai.findings import SlideStatus
from stride_monai.run_index import Outcome

__all__ = ["Vitals", "served"]

_BUCKETS = (5.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0)
_CALLS = ("positive", "negative")


class Vitals:
    """Counts since the watch began. May be told and asked by several threads.

    Args:
        alive: seconds without a look at the folder, and without a slide in hand, after which the watch is not well.
    """

    def __init__(self, alive: float = 120.0, clock: Callable[[], float] = time.time) -> None:
        self._alive, self._clock, self._lock = alive, clock, threading.Lock()
        self._statuses: Counter[str] = Counter()
        self._calls: Counter[str] = Counter()
        self._seconds: list[int] = [0] * (len(_BUCKETS) + 1)
        self._sum, self._waiting, self._ended = 0.0, 0, 0.0
        self._begun: float | None = None
        self._looked, self._trouble = clock(), ""

    def looked(self, waiting: int | None, trouble: str = "") -> None:
        """The folder was looked at: so many slides wait, or it could not be listed."""
        with self._lock:
            self._looked, self._trouble = self._clock(), trouble
            self._waiting = self._waiting if waiting is None else waiting

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """A slide is in hand as long as the block lasts."""
        with self._lock:
            self._begun = self._clock()
        try:
            yield
        finally:
            with self._lock:
                self._begun, self._looked = None, self._clock()

    def ended(self, outcome: Outcome) -> None:
        """A slide is done with."""
        with self._lock:
            self._statuses[outcome.status.value] += 1
            self._calls[outcome.call or ""] += 1
            self._seconds[sum(outcome.seconds > bound for bound in _BUCKETS)] += 1
            self._sum, self._ended = self._sum + outcome.seconds, self._clock()

    def health(self) -> tuple[bool, str]:
        """Whether the watch is well, and what there is to say."""
        with self._lock:
            if self._trouble:
                return False, self._trouble
            if self._begun is not None:
                return True, "a slide is in hand"
            silent = self._clock() - self._looked
            return silent <= self._alive, f"looked at the folder {silent:.0f} s ago"

    def text(self) -> str:
        """The page of metrics."""
        healthy = self.health()[0]
        with self._lock:
            in_hand = 0.0 if self._begun is None else self._clock() - self._begun
            bounds = [*(f"{bound:g}" for bound in _BUCKETS), "+Inf"]
            counts = [sum(self._seconds[: at + 1]) for at in range(len(bounds))]
            histogram = [(f'_bucket{{le="{bound}"}}', count) for bound, count in zip(bounds, counts, strict=True)]
            families: list[tuple[str, str, str, list[tuple[str, float]]]] = [
                ("info", "gauge", "What runs.", [(f'{{version="{__version__}"}}', 1)]),
                ("up", "gauge", "Whether the watch is well.", [("", int(healthy))]),
                ("slides", "counter", "Slides that ended, by how.",
                 [(f'_total{{status="{status.value}"}}', self._statuses[status.value]) for status in SlideStatus]),
                ("calls", "counter", "Slides with a call.",
                 [(f'_total{{call="{call}"}}', self._calls[call]) for call in _CALLS]),
                ("slide_seconds", "histogram", "Seconds a slide took.",
                 [*histogram, ("_sum", round(self._sum, 3)), ("_count", counts[-1])]),
                ("slides_waiting", "gauge", "Slides that are not complete or not begun.", [("", self._waiting)]),
                ("slide_in_hand_seconds", "gauge", "How long the slide in hand takes; 0 for none.", [("", in_hand)]),
                ("last_look_timestamp_seconds", "gauge", "When the folder was looked at.", [("", self._looked)]),
                ("last_slide_timestamp_seconds", "gauge", "When a slide ended; 0 for never.", [("", self._ended)]),
            ]  # fmt: skip
        return "".join(_family(f"stride_monai_{name}", kind, about, samples) for name, kind, about, samples in families)


def _family(name: str, kind: str, about: str, samples: list[tuple[str, float]]) -> str:
    named = f"{name}_total" if kind == "counter" else name
    lines = [f"# HELP {named} {about}", f"# TYPE {named} {kind}", *(f"{name}{more} {value}" for more, value in samples)]
    return "\n".join(lines) + "\n"


@contextmanager
def served(vitals: Vitals, port: int) -> Iterator[int]:
    """Serve ``/metrics`` and ``/healthz`` on 127.0.0.1 as long as the block lasts; gives the port, a free one for 0.

    Raises:
        ConfigError: the port cannot be had.
    """

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            if path == "/metrics":
                self._say(200, vitals.text(), "text/plain; version=0.0.4; charset=utf-8")
            elif path == "/healthz":
                well, said = vitals.health()
                self._say(200 if well else 503, f"{said}\n", "text/plain; charset=utf-8")
            else:
                self._say(404, "there are /metrics and /healthz\n", "text/plain; charset=utf-8")

        def _say(self, status: int, text: str, kind: str) -> None:
            content = text.encode()
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    try:
        server = ThreadingHTTPServer(("127.0.0.1", port), Page)
    except (OSError, OverflowError) as error:
        raise ConfigError(f"port {port} cannot be had ({error})", "give another --port, or 0 for a free one") from error
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
