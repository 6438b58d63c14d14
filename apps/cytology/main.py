"""The MONAI Label app of stride-monai: slides are labeled with the model's help, corrected, and the model is retrained.

    monailabel start_server --app apps/cytology --studies SLIDES --host 127.0.0.1

README.md says what the app can do, and what may be set by ``--conf NAME VALUE``.
"""

from __future__ import annotations

from typing import Any

from lib.activelearning.proposing import ReviewStrategy
from lib.activelearning.seeing import Seeing
from lib.configs.classify import ClassifyTask
from lib.configs.detect import DetectTask
from lib.configs.screen import ScreenTask
from lib.configs.text_align import TextAlignTask
from lib.corrections import take_in
from lib.datastore import StudiesDatastore
from lib.place import Place
from lib.requests import image_of, params_of
from lib.scoring.agreement import Agreement, ModelAgainstReaders
from lib.server.hardening import harden
from lib.workbench import Workbench
from monailabel.interfaces.app import MONAILabelApp
from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.tasks.infer_v2 import InferTask
from monailabel.interfaces.tasks.scoring import ScoringMethod
from monailabel.interfaces.tasks.strategy import Strategy
from monailabel.interfaces.tasks.train import TrainTask

from stride_monai import __version__
from stride_monai.active_learning import STRATEGIES
from stride_monai.bethesda import CELL_CLASSES
from stride_monai.errors import StrideError


class CytologyApp(MONAILabelApp):
    """What MONAI Label asks of an app; the work is done by the modules in ``lib``."""

    def __init__(self, app_dir: str, studies: str, conf: dict[str, str]) -> None:
        self.bench = Workbench(Place.of(studies, conf))
        self.configs = [task(self.bench) for task in (DetectTask, ClassifyTask, ScreenTask, TextAlignTask)]
        super().__init__(
            app_dir=app_dir,
            studies=studies,
            conf=conf,
            name="stride-monai cytology",
            description="Cervical cytology: find, classify and describe lesion cells. Research use only.",
            version=__version__,
            labels=list(CELL_CLASSES),
        )
        self._auto_update_scoring = False  # each would start a process of its own after every label

    def _load_sessions(self, load: bool = False) -> None:
        """There are none: they keep uploaded pictures, and unpack archives, in the home folder."""

    def init_datastore(self) -> Datastore:
        return StudiesDatastore(self.bench.place, lambda *label: take_in(self.bench, *label))

    def init_infers(self) -> dict[str, InferTask]:
        return {name: task for config in self.configs for name, task in config.infer().items()}

    def init_trainers(self) -> dict[str, TrainTask]:
        return {name: task for config in self.configs for name, task in config.trainer().items()}

    def init_strategies(self) -> dict[str, Strategy]:
        seeing = Seeing(self.bench)
        return {name: ReviewStrategy(name, self.bench, seeing) for name in STRATEGIES}

    def init_scoring_methods(self) -> dict[str, ScoringMethod]:
        return {"agreement": Agreement(self.bench), "model": ModelAgainstReaders(self.bench)}

    def infer(self, request: dict[str, Any], datastore: Datastore | None = None) -> dict[str, Any]:
        """Cells of a slide, or of a picture that came with the request: as GeoJSON and as JSON."""
        found = self._infers[request["model"]].find(image_of(request, self.bench), params_of(request))
        return {"file": found.file("geojson"), "params": found.to_json()}

    def infer_wsi(self, request: dict[str, Any], datastore: Datastore | None = None) -> dict[str, Any]:
        """The same for viewers of whole slides: ``output`` is ``asap``, ``dsa`` or ``json``."""
        found = self._infers[request["model"]].find(image_of(request, self.bench), params_of(request))
        output = request.get("output") or "dsa"
        return {"file": None if output == "json" else found.file(output), "params": found.to_json()}

    def next_sample(self, request: dict[str, Any]) -> dict[str, Any]:
        """As MONAI Label does it, without telling the folder of the slide."""
        found = self._strategies[request["strategy"]](request, self.datastore())
        return {**found, "path": self.bench.slides.path_of(found["id"]).name} if found else {}

    def train(self, request: dict[str, Any]) -> Any:
        """In a process of its own. What ends it was said in its last line; a traceback would hide it."""
        try:
            return self._trainers[request["model"]](request, self.datastore())
        except StrideError:
            raise SystemExit(2) from None

    def info(self) -> dict[str, Any]:
        return {**super().info(), "review": "/review/", "versions": self.bench.versions.to_dict()}

    def on_init_complete(self) -> None:
        """Called by the server alone, before it answers anybody."""
        from monailabel.app import app as server

        harden(server, self)
