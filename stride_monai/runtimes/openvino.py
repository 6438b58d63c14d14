"""OpenVINO on a CPU."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stride_monai.runtimes.protocol import Run

if TYPE_CHECKING:
    from torch.export import ExportedProgram

__all__ = ["OpenVino"]

_FILE = "network.xml"


class OpenVino:
    """See :class:`~stride_monai.runtimes.Runtime`.

    The network is kept as OpenVINO's intermediate representation and compiled anew by each process: what
    ``export_model`` gave of a network with a cumulative sum computed something else (OpenVINO 2026.4.1).
    """

    name = "openvino"

    def convert(self, program: ExportedProgram, folder: Path) -> None:
        # Not openvino.convert_model, which reports to its makers that it was called.
        openvino = _imported()
        from openvino.frontend import FrontEndManager
        from openvino.frontend.pytorch.fx_decoder import TorchFXPythonDecoder

        front = FrontEndManager().load_by_framework("pytorch")
        with _root_logger_silent():
            decoder = TorchFXPythonDecoder.from_exported_program(program)  # what is loaded does not keep it alive
        model = front.convert(front.load(decoder))
        openvino.save_model(model, str(folder / _FILE), compress_to_fp16=False)

    def load(self, folder: Path, threads: int) -> Run:
        openvino = _imported()
        core = openvino.Core()
        settings = {
            "INFERENCE_PRECISION_HINT": "f32",  # else a CPU that can computes in bfloat16
            "NUM_STREAMS": threads,
            "INFERENCE_NUM_THREADS": threads,
            "ENABLE_CPU_PINNING": False,  # other processes have cores too
        }
        compiled = core.compile_model(core.read_model(str(folder / _FILE)), "CPU", settings)
        requests: SimpleQueue[Any] = SimpleQueue()
        for _ in range(threads):
            requests.put(compiled.create_infer_request())

        def run(images: NDArray[np.float32]) -> NDArray[Any]:
            request = requests.get()
            try:
                found: NDArray[Any] = request.infer([images])[0].copy()
            finally:
                requests.put(request)
            return found

        return run


def _imported() -> Any:
    """OpenVINO without ``openvino_telemetry``, with which its mere import writes into the home folder and reports."""
    name = "openvino_telemetry"
    loaded = sys.modules.get(name)
    sys.modules[name] = None  # type: ignore[assignment]  # as if it were not installed
    try:
        import openvino
    finally:
        del sys.modules[name]
        if loaded is not None:
            sys.modules[name] = loaded
    return openvino


@contextmanager
def _root_logger_silent() -> Iterator[None]:
    """OpenVINO warns there of operations that this torch does not have, with tracebacks, and nothing is wrong."""
    root, nowhere = logging.getLogger(), logging.NullHandler()
    level = root.level
    root.addHandler(nowhere)  # else logging.warning adds a handler for good
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(level)
        root.removeHandler(nowhere)
