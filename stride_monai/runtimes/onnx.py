"""ONNX Runtime on a CPU."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stride_monai.runtimes.protocol import Run

if TYPE_CHECKING:
    from torch.export import ExportedProgram

__all__ = ["Onnx"]

_FILE = "network.onnx"


class Onnx:
    """See :class:`~stride_monai.runtimes.Runtime`."""

    name = "onnx"

    def convert(self, program: ExportedProgram, folder: Path) -> None:
        import torch

        converted = torch.onnx.export(program, dynamo=True, verbose=False)
        assert converted is not None
        converted.save(str(folder / _FILE), external_data=False)

    def load(self, folder: Path, threads: int) -> Run:
        import onnxruntime

        onnxruntime.disable_telemetry_events()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1  # each call on the thread that calls
        session = onnxruntime.InferenceSession(str(folder / _FILE), options, providers=["CPUExecutionProvider"])
        name = session.get_inputs()[0].name

        def run(images: NDArray[np.float32]) -> NDArray[Any]:
            found: NDArray[Any] = session.run(None, {name: images})[0]
            return found

        return run
