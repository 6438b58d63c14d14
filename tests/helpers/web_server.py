"""A web server on 127.0.0.1 that serves a folder, with range requests, and fails when a test says so."""

from __future__ import annotations

import http.server
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit

__all__ = ["Server", "serving"]


class Server:
    """What was asked of it.

    Attributes:
        url: of the folder.
        requests: the ranges that were answered, in order; None for a whole file.
        fails: whether the request of a number (from 0, of those with a body) gets an error, or half of its bytes.
        ranges: whether ranges are answered at all.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.url = folder, ""
        self.requests: list[tuple[int, int] | None] = []
        self.fails: Callable[[int], str] = lambda number: ""
        self.ranges = True
        self.asked = 0


@contextmanager
def serving(folder: Path) -> Iterator[Server]:
    server = Server(folder)
    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _handler(server))
    server.url = f"http://127.0.0.1:{httpd.server_address[1]}"
    thread = threading.Thread(target=httpd.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        httpd.shutdown()
        httpd.server_close()
        thread.join()


def _handler(server: Server) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def log_message(self, *words: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self._answer(False)

        def do_GET(self) -> None:
            self._answer(True)

        def _answer(self, body: bool) -> None:
            path = server.folder / unquote(urlsplit(self.path).path).lstrip("/")
            if not path.is_file():
                self.send_error(404)
                return
            content, stat = path.read_bytes(), path.stat()
            asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
            failure = ""
            if body:
                failure = server.fails(server.asked)
                server.asked += 1
            if failure == "error":
                self.send_error(503)
                return
            first, last = 0, len(content) - 1
            if asked and server.ranges:
                first, last = int(asked[1]), min(int(asked[2] or last), last)
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {first}-{last}/{len(content)}")
            else:
                self.send_response(200)
            self.send_header("Content-Length", str(last - first + 1))
            self.send_header("ETag", f'"{stat.st_mtime_ns:x}-{stat.st_size}"')
            if server.ranges:
                self.send_header("Accept-Ranges", "bytes")
            self.end_headers()
            if not body:
                return
            data = content[first : last + 1]
            server.requests.append((first, last) if asked and server.ranges else None)
            self.wfile.write(data[: len(data) // 2] if failure == "cut" else data)
            if failure == "cut":
                self.close_connection = True

    return Handler
