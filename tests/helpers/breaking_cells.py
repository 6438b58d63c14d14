"""A process that breaks at some pictures. Imports no PyTorch: it is started again and again."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from typing import Any

from stride_monai.findings import Described
from stride_monai.screening.classify.guarded import Load
from stride_monai.screening.classify.results import ClassifiedCell, Used
from stride_monai.screening.store import About, Choice

USED = Used(About(None, Choice("toy", "a test"), Described(False, "a test"), {"toy": "00"}, "", True), "cpu", 32, 0.5)


def breaking(config: Any) -> Callable[[Any, Callable[..., None]], Any]:
    """A handler that does what a picture's name says."""

    def handle(request: Any, report: Callable[..., None]) -> Any:
        if isinstance(request, Load):
            return USED
        for cell in request:
            match cell.path.stem:
                case "kills":
                    os.kill(os.getpid(), signal.SIGSEGV)
                case "stalls":
                    time.sleep(3600)
        return [ClassifiedCell(cell, "NILM", (1.0, 0.0, 0.0, 0.0, 0.0)) for cell in request]

    return handle
