"""However many requests wait for a network, the server answers all others."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from extras import needs

needs("httpx", "dev")
import httpx  # noqa: E402
from label_server import APP, NEEDED, WAIT, serving  # noqa: E402
from review_samples import write_slide  # noqa: E402

pytestmark = NEEDED
WAITING = 60  # more than the threads that a server of FastAPI has for everything

SLOW = '''
"""The app of the project; its inference waits until a file is there."""

import sys
import time
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

from monailabel.interfaces.app import MONAILabelApp

sys.path.insert(0, {app!r})
spec = spec_from_file_location("cytology_main", {main!r})
cytology = module_from_spec(spec)
spec.loader.exec_module(cytology)
GATE = Path({gate!r})


class SlowApp(cytology.CytologyApp, MONAILabelApp):
    def infer_wsi(self, request, datastore=None):
        with (GATE / "begun").open("a") as stream:
            stream.write("x")
        while not (GATE / "open").exists():
            time.sleep(0.02)
        return {{"file": None, "params": {{"answered": True}}}}
'''


def test_a_long_inference_holds_up_nobody(tmp_path: Path) -> None:
    studies, gate, app = (tmp_path / name for name in ("slides 片", "gate", "slow app"))
    for folder in (studies, gate, app):
        folder.mkdir()
    write_slide(studies / "one.tiff", cells=2)
    program = SLOW.format(app=str(APP), main=str(APP / "main.py"), gate=str(gate))
    (app / "main.py").write_text(program, encoding="utf-8")
    with serving(studies, tmp_path / "server.log", app=app) as server, ThreadPoolExecutor(WAITING) as pool:

        def infer(number: int) -> httpx.Response:
            return server.post("/infer/wsi/detect?image=one&output=json", json={"size": [64, 64]})

        try:
            slow = [pool.submit(infer, number) for number in range(WAITING)]
            until = time.monotonic() + WAIT
            while not (gate / "begun").exists():
                assert time.monotonic() < until
                time.sleep(0.05)
            for path in ("/info/", "/datastore/", "/versions/", "/review/", "/review/api/slides", "/openapi.json"):
                answer = server.get(path)
                assert answer.status_code in {200, 401}, path
            shapes = {"label": ("a.json", json.dumps({"shapes": []}))}
            assert server.put("/datastore/label?image=one&tag=final", files=shapes).status_code == 200
            assert not any(one.done() for one in slow)
        finally:
            (gate / "open").touch()
        assert [one.result().json() for one in slow] == [{"answered": True}] * WAITING
