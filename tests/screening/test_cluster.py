"""A Ray cluster of two nodes on this machine: a node that is killed costs no slide, a run that is stopped goes on."""

from __future__ import annotations

import csv
import os
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from extras import needs
from screening_toys import noted, writers

from stride_monai.errors import BundleError, ConfigError
from stride_monai.guard import AbandonedError, Stopped
from stride_monai.run_index import Outcome
from stride_monai.runs import Threads
from stride_monai.screening.batch import Tell, run_slides
from stride_monai.screening.cluster import ClusterScreening, Remote
from stride_monai.screening.config import ScreeningConfig
from stride_monai.screening.guarded import Allowance
from stride_monai.screening.inputs import SlideInput

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two nodes with a processor each, and a head without any."""
    needs("ray", "cluster")
    from ray.cluster_utils import Cluster

    # Programs that the nodes start look for modules where these tests do.
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
        yield from two_nodes(Cluster)


def two_nodes(kind: Any) -> Iterator[Any]:
    made = kind(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    made.add_node(num_cpus=1)
    made.add_node(num_cpus=1)
    yield made
    made.shutdown()


def slides(folder: Path, *contents: str) -> list[SlideInput]:
    folder.mkdir(exist_ok=True)
    items = [SlideInput(folder / f"涂片 {number}.toy", f"涂片 {number}") for number in range(len(contents))]
    for item, content in zip(items, contents, strict=True):
        item.path.write_text(content)
    return items


def run(
    cluster: Any, tmp_path: Path, items: list[SlideInput], tell: Tell, nodes: dict[str, int], **settings: Any
) -> list[Outcome]:
    config = ScreeningConfig(**settings)
    remote = Remote(config, tmp_path / "out", False, writers, Allowance(120, 0), "screening_toys:worker")
    with ClusterScreening(remote, cluster.address, on_node=nodes.__setitem__) as one:
        return run_slides(one, items, tmp_path / "out", tell=tell, runner=Threads(one.slots, one.abandon))


def summary(out: Path) -> dict[str, str]:
    with (out / "summary.csv").open(newline="") as stream:
        rows = [(row["slide_id"], row["status"]) for row in csv.DictReader(stream)]
    assert len(dict(rows)) == len(rows), "nothing twice"
    return dict(rows)


def test_a_run_that_is_stopped_goes_on_and_a_bad_slide_stops_nothing(cluster: Any, tmp_path: Path) -> None:
    items = slides(tmp_path / "in", "good", "screen:abort", "slow:0.2", *["slow:120"] * 2)

    def stop(outcome: Outcome) -> None:
        done.append(outcome)
        if len(done) == 3:
            raise Stopped(15)

    done: list[Outcome] = []
    start = time.monotonic()
    with pytest.raises(Stopped):
        run(cluster, tmp_path, items, Tell(done=stop), {})
    assert time.monotonic() - start < 100
    assert summary(tmp_path / "out") == {"涂片 0": "ok", "涂片 1": "failed", "涂片 2": "ok"}
    before = noted(tmp_path / "notes")
    for item in items[1:]:
        if item.slide_id != "涂片 2":
            item.path.write_text("good")
    outcomes = run(cluster, tmp_path, items, Tell(), {})
    assert {outcome.slide_id: outcome.status for outcome in outcomes} == {item.slide_id: "ok" for item in items}
    again = [name for name in noted(tmp_path / "notes")[len(before) :] if name != "load"]
    assert sorted(again) == ["涂片 1", "涂片 3", "涂片 4"]


def test_a_slide_that_is_begun_while_the_run_is_stopped_is_not_waited_for(cluster: Any, tmp_path: Path) -> None:
    (item,) = slides(tmp_path / "in", "slow:120")
    remote = Remote(ScreeningConfig(), tmp_path / "out", False, writers, Allowance(0, 0), "screening_toys:worker")
    (tmp_path / "out").mkdir()
    start = time.monotonic()
    with ClusterScreening(remote, cluster.address) as one:
        one.abandon()
        with pytest.raises(AbandonedError):
            one(item)
    assert time.monotonic() - start < 60


def test_networks_that_cannot_be_loaded_end_the_run_with_the_true_error(cluster: Any, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="the bundle has no weights: train it"):
        run(cluster, tmp_path, slides(tmp_path / "in", "good"), Tell(), {}, detector="broken")


def test_an_address_without_a_cluster_is_refused(tmp_path: Path) -> None:
    needs("ray", "cluster")
    remote = Remote(ScreeningConfig(), tmp_path, False, writers, Allowance())
    with pytest.raises(ConfigError, match="there is no Ray cluster at 'localhost:1'"):
        ClusterScreening(remote, "localhost:1")


def test_a_node_that_is_killed_in_the_middle_costs_no_slide(cluster: Any, tmp_path: Path) -> None:
    """The last test: it leaves one node."""
    items = slides(tmp_path / "in", *["slow:1"] * 12)
    nodes: dict[str, int] = {}
    victim = cluster.list_all_nodes()[-1]
    killed = threading.Event()

    def kill(outcome: Outcome) -> None:
        if len(nodes) == 2 and not killed.is_set():
            killed.set()
            cluster.remove_node(victim, allow_graceful=False)

    outcomes = run(cluster, tmp_path, items, Tell(done=kill), nodes)
    assert killed.is_set(), "both nodes were at work before one was killed"
    assert {outcome.slide_id: outcome.status for outcome in outcomes} == {item.slide_id: "ok" for item in items}
    assert summary(tmp_path / "out") == {item.slide_id: "ok" for item in items}
    for item in items:
        assert (tmp_path / "out" / item.slide_id / "findings.json").is_file()
    assert len(nodes) == 2
