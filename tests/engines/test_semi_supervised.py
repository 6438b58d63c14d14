"""The semi-supervised trainer step by step against plain torch, and generations that are stopped and resumed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from ignite.engine import Events
from semi_supervised_toys import BATCH, UNLABELED, C, Cells, make
from torch import Tensor
from torch.nn import functional

from stride_monai.bethesda import CELL_CLASSES
from stride_monai.data.datasets.cells import GrownCells
from stride_monai.data.datasets.sampling import CellSampler
from stride_monai.data.datasets.streams import EndlessBatches
from stride_monai.engines.cell_training import StepAugmentation
from stride_monai.errors import ConfigError
from stride_monai.handlers.generations import CrestGenerations
from stride_monai.handlers.pseudo_labels import PseudoLabelShares
from stride_monai.handlers.resume import TrainingState
from stride_monai.losses.crest import CReST
from stride_monai.losses.fixmatch import FixMatch
from stride_monai.losses.flexmatch import FlexMatch
from stride_monai.losses.mean_teacher import MeanTeacher
from stride_monai.losses.semi_supervised import SemiSupervisedLoss


@pytest.mark.parametrize("kind", [MeanTeacher, FixMatch, lambda: FlexMatch(20, C)])
def test_trains_as_the_same_steps_in_plain_torch(kind: Callable[[], SemiSupervisedLoss]) -> None:
    trainer, parts = make(kind())
    losses: list[float] = []
    trainer.add_event_handler(
        Events.ITERATION_COMPLETED, lambda engine: losses.append(engine.state.output["loss"].item())
    )
    trainer.run()

    _, again = make(kind())
    network, ema, method, optimizer = (again[name] for name in ("network", "ema", "method", "optimizer"))
    labeled, unlabeled = again["labeled"], again["unlabeled"]
    sampler = CellSampler(labeled.data, 0.0, 2 * BATCH, seed=5)
    sampler.set_epoch(1)
    order, expected = list(sampler), []
    views = [StepAugmentation(strength, 5, stream) for stream, strength in
             enumerate(("strong", method.student_view, method.teacher_view))]  # fmt: skip
    for step in range(2):
        mine = order[step * BATCH : (step + 1) * BATCH]
        index = torch.tensor(EndlessBatches(20, UNLABELED, 5).batch(step))
        picture = unlabeled.image[index]
        with torch.no_grad():
            teacher = (ema if method.teacher == "ema" else network)(views[2](picture, step))
        supervised = functional.cross_entropy(network(views[0](labeled.image[mine], step + 1)), labeled.label[mine])
        loss = supervised + method(network(views[1](picture, step)), teacher, index, step).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        ema.update(network)
        expected.append(float(loss.detach()))
    assert losses == pytest.approx(expected, rel=1e-4)
    for ours, theirs in zip(parts["ema"].parameters(), ema.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-5)


def test_one_forward_with_gradient_for_both_streams() -> None:
    trainer, parts = make(FixMatch())
    trainer.run()
    assert parts["network"].seen == [(BATCH + UNLABELED, True), (UNLABELED, False)] * 2
    output = trainer.state.output
    assert len(output["pred"]) == len(output["image"]) == len(output["label"]) == BATCH
    assert output["loss"].item() == pytest.approx(float(output["supervised_loss"] + output["unlabeled_loss"]))


def test_logs_parts_of_the_loss_and_the_quality_of_pseudo_labels() -> None:
    trainer, parts = make(FlexMatch(20, C))
    outputs: list[dict[str, Any]] = []
    trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda engine: outputs.append(dict(engine.state.output)))
    trainer.run()
    metrics = trainer.state.metrics
    for part in ("supervised_loss", "unlabeled_loss"):
        assert metrics[part] == pytest.approx(sum(float(output[part]) for output in outputs) / 2)
    label, accepted, truth = (torch.cat([output["pseudo_labels"][k] for output in outputs]) for k in range(3))
    assert metrics["accepted"] == pytest.approx(float(accepted.float().mean()))
    known = accepted & (truth >= 0)
    assert metrics["agreement"] == pytest.approx(float((label == truth)[known].float().mean()))
    for c, name in enumerate(CELL_CLASSES):
        of_class = label == c
        if of_class.any():
            assert metrics[f"accepted_{name}"] == pytest.approx(float(accepted[of_class].float().mean()))
        else:
            assert f"accepted_{name}" not in metrics
    assert set(truth.tolist()) <= set(parts["unlabeled"].known_labels().tolist())


def test_quality_of_pseudo_labels_counted_by_hand() -> None:
    metric = PseudoLabelShares(("a", "b"))
    label, truth = torch.tensor([0, 0, 0, 1, 1]), torch.tensor([0, 1, -1, 1, 1])
    metric.update((label, torch.tensor([True, True, True, False, True]), truth))
    expected = {"accepted": 4 / 5, "agreement": 2 / 3, "accepted_a": 1.0, "agreement_a": 1 / 2}
    assert metric.compute() == pytest.approx({**expected, "accepted_b": 1 / 2, "agreement_b": 1.0})
    metric.reset()
    assert metric.compute() == {}


def test_a_further_method_is_one_class() -> None:
    class Entropy(SemiSupervisedLoss):
        def forward(self, student: Tensor, teacher: Tensor, index: Tensor, step: int) -> Any:
            found = FixMatch(0.0)(student, teacher, index, step)
            return found._replace(loss=torch.distributions.Categorical(logits=student).entropy().mean())

    trainer, _ = make(Entropy(), gain=1)
    trainer.run()
    assert 0 < trainer.state.metrics["unlabeled_loss"] <= torch.log(torch.tensor(float(C))) + 1e-6


# Generations of CReST


def generations(tmp: Path, resume: str = "", stop_after: int = 0) -> Callable[..., list[Any]]:
    def handlers(
        network: Any, ema: Any, optimizer: Any, lr_scheduler: Any, unlabeled: Any, method: Any, **_: Any
    ) -> Any:
        training = CrestGenerations(method, network, ema, optimizer, lr_scheduler, unlabeled, epochs=2, balance=0.5)
        objects = {"network": network, "ema": ema, "optimizer": optimizer, "lr_scheduler": lr_scheduler}
        state = TrainingState(tmp, {**objects, "method": method, "self_training": training}, resume)
        return [state, training, Stop(stop_after)]

    return handlers


class Stop(Exception):  # noqa: N818
    """Ends a run as a power cut would."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def attach(self, engine: Any) -> None:
        engine.add_event_handler(Events.EPOCH_COMPLETED, self)

    def __call__(self, engine: Any) -> None:
        if engine.state.epoch == self.epoch:
            raise self


def crest() -> CReST:
    return CReST(torch.bincount(Cells(11, 1, True).label, minlength=C).tolist(), generations=3, threshold=0.5)


def test_generations_start_anew_with_what_the_one_before_chose(tmp_path: Path) -> None:
    trainer, parts = make(crest(), epochs=6, handlers=generations(tmp_path))
    first = {name: value.clone() for name, value in parts["network"].state_dict().items()}
    seen: list[tuple[float, int, float]] = []

    def look(engine: Any) -> None:
        if (engine.state.epoch - 1) % 2 == 0:
            assert all(torch.equal(value, first[name]) for name, value in parts["network"].state_dict().items())
            assert not parts["optimizer"].state_dict()["state"]
            assert int(parts["ema"].step) == 0
            seen.append((parts["method"].temperature, len(engine.state.dataloader.dataset) if engine.state.dataloader
                         else 11, parts["optimizer"].param_groups[0]["lr"]))  # fmt: skip

    trainer.add_event_handler(Events.EPOCH_STARTED, look)
    trainer.run()
    assert [temperature for temperature, _, _ in seen] == pytest.approx([1.0, 0.75, 0.5])
    assert [rate for _, _, rate in seen] == [1e-3] * 3
    assert seen[0][1] == 11
    assert 11 < seen[1][1] <= 31
    last = trainer.state.dataloader.dataset
    assert isinstance(last, GrownCells)
    for place in range(len(last)):  # the pictures and labels are those that were chosen
        sample = last[place]
        old = place < 11
        index = place if old else last.chosen[place - 11]
        assert torch.equal(sample["image"], parts["labeled" if old else "unlabeled"].image[index])
        assert sample["label"] == last.data[place]["label"]
    assert trainer.state.iteration == 12, "an epoch keeps its length"


def test_pseudo_labels_are_the_averages_and_chosen_by_the_rates(tmp_path: Path) -> None:
    trainer, parts = make(crest(), epochs=6, handlers=generations(tmp_path))
    chosen: list[tuple[Tensor, Tensor]] = []
    trainer.add_event_handler(
        Events.EPOCH_COMPLETED,
        lambda engine: chosen.append(
            parts["method"].choose(parts["ema"](parts["unlabeled"].image.float() / 255).softmax(1))
        ),
    )
    trainer.run()
    grown = trainer.state.dataloader.dataset
    assert grown.chosen == chosen[3][0].tolist(), "by the average at the end of the second generation"
    assert [item["label"] for item in grown.data[11:]] == chosen[3][1].tolist()


@pytest.mark.parametrize("stop_after", [2, 3])
def test_resumes_within_and_between_generations(stop_after: int, tmp_path: Path) -> None:
    whole, parts = make(crest(), epochs=6, handlers=generations(tmp_path / "whole"))
    whole.run()
    stopped, _ = make(crest(), epochs=6, handlers=generations(tmp_path / "cut", stop_after=stop_after))
    with pytest.raises(Stop):
        stopped.run()
    resumed, again = make(crest(), epochs=6, handlers=generations(tmp_path / "cut", resume="auto"))
    resumed.run()
    assert resumed.state.iteration == whole.state.iteration
    for name in ("network", "ema"):
        for ours, theirs in zip(again[name].parameters(), parts[name].parameters(), strict=True):
            assert torch.equal(ours, theirs)


def test_generations_refuse_more_epochs_and_say_where_they_end_early(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The zoo's key ``train#trainer#max_epochs 1`` ends within the first generation."""
    trainer, _ = make(crest(), epochs=7, handlers=generations(tmp_path))
    with pytest.raises(ConfigError, match="generations times epochs"):
        trainer.run()
    make(crest(), epochs=1, handlers=generations(tmp_path / "short"))[0].run()
    assert "1 epochs end before 3 generations of 2 epochs do" in caplog.text
