"""OpenVINO on a CPU."""

from __future__ import annotations

import importlib
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stride_monai.runtimes.protocol import Run

if TYPE_CHECKING:
    from torch.export import ExportedProgram

__all__ = ["OpenVino", "imported_openvino", "without_telemetry"]

_FILE = "network.xml"


class OpenVino:
    """See :class:`~stride_monai.runtimes.Runtime`.

    The network is kept as OpenVINO's intermediate representation and compiled anew by each process: what
    ``export_model`` gave of a network with a cumulative sum computed something else (OpenVINO 2026.4.1).
    """

    name = "openvino"

    def convert(self, program: ExportedProgram, folder: Path) -> None:
        self.save(self.model_of(program), folder)

    def model_of(self, program: ExportedProgram) -> Any:
        """The network as an ``openvino.Model``."""
        # Not openvino.convert_model, which reports to its makers that it was called.
        imported_openvino()
        from openvino.frontend import FrontEndManager
        from openvino.frontend.pytorch.fx_decoder import TorchFXPythonDecoder

        front = FrontEndManager().load_by_framework("pytorch")
        with _root_logger_silent():
            decoder = TorchFXPythonDecoder.from_exported_program(program)  # what is loaded does not keep it alive
        model = front.convert(front.load(decoder))
        # Exporting gave it one shape; the frontend leaves it open, and open shapes are slower.
        model.reshape({0: list(program.example_inputs[0][0].shape)})
        return model

    def save(self, model: Any, folder: Path) -> None:
        """Write an ``openvino.Model`` as :meth:`convert` does.

        Raises:
            OSError: it cannot be written, as where the disk is full.
        """
        # Names count what this process has made before; the hash of a file must not hang on that.
        model.set_friendly_name("network")
        for place, operation in enumerate(model.get_ordered_ops()):
            operation.set_friendly_name(f"{operation.get_type_name()}_{place}")
        try:
            imported_openvino().save_model(model, str(folder / _FILE), compress_to_fp16=False)
        except RuntimeError as error:  # its word for that is "basic_ios::clear: iostream error"
            raise OSError(f"OpenVINO cannot write {folder / _FILE}, is the disk full?") from error

    def load(self, folder: Path, threads: int) -> Run:
        core = _core()
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


@cache
def _core() -> Any:
    """One for the process, as its makers advise: processes that make a second one, or some twenty, have ended with a
    segmentation fault (https://github.com/openvinotoolkit/openvino/issues/35338)."""
    return imported_openvino().Core()


def imported_openvino() -> Any:
    """OpenVINO, imported so that it reports to nobody."""
    with without_telemetry():
        return importlib.import_module("openvino")


@contextmanager
def without_telemetry() -> Iterator[None]:
    """As if ``openvino_telemetry`` were not installed, with which the mere import of OpenVINO or NNCF writes into the
    home folder and reports."""
    name = "openvino_telemetry"
    loaded = sys.modules.get(name)
    sys.modules[name] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[name]
        if loaded is not None:
            sys.modules[name] = loaded


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
