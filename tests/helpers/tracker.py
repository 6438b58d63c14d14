"""MONAI's ``MLFlowHandler`` with a stand-in for mlflow: it keeps what would be logged, and takes numbers only."""

from __future__ import annotations

import copy
import json
import numbers
from pathlib import Path
from typing import Any
from unittest import mock

from monai.bundle.utils import DEFAULT_MLFLOW_SETTINGS
from monai.handlers import mlflow_handler


class Tracker(mlflow_handler.MLFlowHandler):
    """Appends a line of JSON for each thing that mlflow would get to the file that ``run_name`` names."""

    def __init__(self, **kwargs: Any) -> None:
        with mock.patch.object(mlflow_handler, "mlflow", mock.MagicMock()):
            super().__init__(**{**kwargs, "tracking_uri": "sqlite:///" + kwargs["run_name"]})
        self.kept = Path(kwargs["run_name"])

    def start(self, engine: Any) -> None:
        self.cur_run = True

    def complete(self) -> None:
        self._keep({"artifacts": [str(path) for path in self._parse_artifacts()]})

    def close(self) -> None:
        pass

    def _log_metrics(self, metrics: dict[str, Any], step: int | None = None) -> None:
        flat = mlflow_handler.flatten_dict(metrics)
        assert all(isinstance(value, numbers.Number) for value in flat.values()), flat
        self._keep(flat)

    def _keep(self, things: dict[str, Any]) -> None:
        with self.kept.open("a") as stream:
            stream.write(json.dumps(things) + "\n")


def settings(folder: Path) -> Path:
    """A tracking file as MONAI's ``--tracking mlflow``, with this handler, which writes to ``kept`` beside it."""
    own = copy.deepcopy(DEFAULT_MLFLOW_SETTINGS)
    for engine in own["handlers_id"]:
        own["configs"][engine]["_target_"] = "tracker.Tracker"
    own["configs"] |= {"run_name": str(folder / "kept"), "a_note": "keys of its own"}
    path = folder / "tracking.json"
    path.write_text(json.dumps(own))
    return path
