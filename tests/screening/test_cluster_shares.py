"""What a slide asks a cluster for: a GPU where there is one, else a share of a machine's processors."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from stride_monai.errors import ConfigError
from stride_monai.screening.cluster import _shares


def cluster(*nodes: dict[str, float], dead: bool = False) -> SimpleNamespace:
    return SimpleNamespace(nodes=lambda: [{"Alive": not dead, "Resources": node} for node in nodes])


HEAD, CPUS, GPUS = {"memory": 1.0}, {"CPU": 16.0}, {"CPU": 32.0, "GPU": 4.0}


@pytest.mark.parametrize("device", ["auto", "cuda"])
def test_each_slide_has_a_gpu_where_there_are_any(device: str) -> None:
    assert _shares(cluster(HEAD, CPUS, GPUS, GPUS), 1, device) == ({"num_cpus": 1, "num_gpus": 1}, 8)


def test_a_certain_gpu_is_refused_as_the_cluster_gives_them() -> None:
    with pytest.raises(ConfigError, match=r"--device cuda:1 names a GPU.*give --device cuda"):
        _shares(cluster(GPUS), 1, "cuda:1")


@pytest.mark.parametrize(("at_once", "needs", "slots"), [(1, 16, 3), (2, 8, 6), (40, 1, 48)])
def test_without_a_gpu_a_share_of_the_processors(at_once: int, needs: int, slots: int) -> None:
    assert _shares(cluster(HEAD, CPUS, CPUS, CPUS), at_once, "auto") == ({"num_cpus": needs}, slots)


def test_gpus_are_left_alone_where_the_processor_is_asked_for() -> None:
    assert _shares(cluster(CPUS, GPUS), 1, "cpu") == ({"num_cpus": 16}, 3)


def test_a_cluster_that_does_no_work_is_refused() -> None:
    for nothing in (cluster(HEAD), cluster(CPUS, dead=True)):
        with pytest.raises(ConfigError, match="no machine of the Ray cluster has processors"):
            _shares(nothing, 1, "auto")
