"""Pictures of adversarial colours: the colours are those of equation 8, and drawing them changes nothing."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from ignite.engine import Engine
from matplotlib.figure import Figure
from swift_toys import MASK, B, K, bag_batches, classifier, crops
from swift_toys import trainer as swift_trainer

from stride_monai.bethesda import SLIDE_CLASSES
from stride_monai.engines.coloradv import ColorAdvTrainer
from stride_monai.evaluation.colors import ORIGINAL
from stride_monai.handlers.color_pictures import ColorPictures, attacked, stain_color
from stride_monai.transforms.color_perturbation import ColorPerturbation


class Bags:
    """Bags in memory, as a data set that loads them."""

    def __init__(self, labels: tuple[int, ...] = (0, 3)) -> None:
        self.data = [{"slide_id": f"s{k}", "label": label} for k, label in enumerate(labels)]

    def __getitem__(self, place: int) -> dict[str, Any]:
        return {**self.data[place], "image": crops(K, seed=place), "mask": MASK[place % B]}


class Board:
    """Keeps the figures that are written."""

    def __init__(self) -> None:
        self.figures: list[tuple[str, int, Figure]] = []

    def add_figure(self, tag: str, figure: Figure, global_step: int) -> None:
        self.figures.append((tag, global_step, figure))


@pytest.mark.parametrize("chunk", [2, 256])
def test_shifts_are_those_of_equation_8_and_stay_so_in_parts(chunk: int) -> None:
    network, sample = classifier(), Bags()[1]
    network.chunk = chunk
    slide = attacked(network, sample, "north", rho_rgb=0.1, rho_hsv=0.05)
    images = sample["image"][sample["mask"]]
    assert len(images) == K - 1, "one is masked"
    for space, rho in (("rgb", 0.1), ("hsv", 0.05)):
        shift = torch.zeros(3, requires_grad=True)
        seen = [ColorPerturbation(space)(image, shift) for image in images]
        z = torch.stack([network.encoder.encode(image[None])[0] for image in seen])
        loss = -torch.log_softmax(network.slide_head(z[None])[0][0], dim=0)[3]
        (gradient,) = torch.autograd.grad(loss, shift)
        expected = rho * gradient / gradient.norm()
        assert slide.shift[space] == pytest.approx(expected.tolist(), rel=1e-4)
        assert slide.loss[ORIGINAL] == pytest.approx(float(loss.detach()), rel=1e-6)
        moved = torch.stack([ColorPerturbation(space)(image, expected) for image in images])
        worse = -torch.log_softmax(network.slide_head(network.encoder.encode(moved)[None])[0][0], dim=0)[3]
        assert slide.loss[space] == pytest.approx(float(worse.detach()), rel=1e-4)
        assert slide.loss[space] > slide.loss[ORIGINAL]
        shown = (moved[:3] * 255).round().permute(0, 2, 3, 1).numpy()
        assert np.abs(shown - slide.pictures[space].astype(float)).max() <= 1
    assert np.array_equal(slide.pictures[ORIGINAL], images[:3].permute(0, 2, 3, 1).numpy())
    assert (slide.centre, slide.slide_class) == ("north", SLIDE_CLASSES[3])


def test_the_network_comes_back_as_it_was() -> None:
    network = classifier()
    network.train()
    network.slide_head.eval()  # a part that was not in training mode is not put into it
    before, state = copy.deepcopy(network.state_dict()), torch.get_rng_state()
    modes = [module.training for module in network.modules()]
    attacked(network, Bags()[0])
    assert modes == [module.training for module in network.modules()]
    assert all(parameter.grad is None for parameter in network.parameters())
    assert torch.equal(state, torch.get_rng_state())
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name]) or value.isnan().all()


def trained(pictures: Board | None) -> dict[str, Any]:
    network = classifier()
    network.slide_head.pooling.dropout = 0.5  # random numbers are drawn in training
    engine = swift_trainer(network, bag_batches(2), kind=ColorAdvTrainer)
    if pictures is not None:
        ColorPictures(network, Bags(), {}, pictures, cells=2).attach(engine)  # type: ignore[arg-type]
    torch.manual_seed(1)
    engine.state.max_epochs = 2
    engine.run()
    return {**network.state_dict(), "random": torch.get_rng_state(), **engine.state.output}


def test_training_is_the_same_with_and_without_pictures() -> None:
    board = Board()
    ours, theirs = trained(board), trained(None)
    assert [(tag, epoch) for tag, epoch, _ in board.figures] == [
        (tag, epoch) for epoch in (1, 2) for tag in ("adversarial_colors", "stain")
    ]
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        if torch.is_tensor(value):
            assert torch.equal(value, theirs[name]) or value.isnan().all(), name


@pytest.mark.parametrize(("times", "epochs"), [(0, []), (2, [3, 5]), (5, [1, 2, 3, 4, 5]), (99, [1, 2, 3, 4, 5])])
def test_draws_so_often_in_a_run_and_at_its_end(times: int, epochs: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("triplets_figure", "stain_figure"):
        monkeypatch.setattr(f"stride_monai.handlers.color_pictures.{name}", lambda slides: Figure())
    board = Board()
    engine = Engine(lambda engine, batch: None)
    ColorPictures(classifier(), Bags(), {}, board, times=times).attach(engine)  # type: ignore[arg-type]
    engine.run([0], max_epochs=5)
    assert [epoch for tag, epoch, _ in board.figures if tag == "stain"] == epochs


def test_without_a_board_nothing_is_loaded() -> None:
    loaded = []

    class Counted(Bags):
        def __getitem__(self, place: int) -> dict[str, Any]:
            loaded.append(place)
            return super().__getitem__(place)

    for board, expected in ((None, 0), (Board(), 2)):
        engine = Engine(lambda engine, batch: None)
        loaded.clear()
        ColorPictures(classifier(), Counted(), {}, board, most_centres=1).attach(engine)  # type: ignore[arg-type]
        engine.run([0], max_epochs=2)
        assert len(loaded) == expected


def test_the_color_of_stain_is_that_of_the_pixels_that_are_no_glass() -> None:
    crop = torch.full((1, 3, 4, 4), 250, dtype=torch.uint8)
    crop[0, :, 0, 0] = torch.tensor([10, 100, 200], dtype=torch.uint8)
    crop[0, :, 0, 1] = torch.tensor([30, 100, 200], dtype=torch.uint8)
    moved = crop.float() / 255 + 0.1
    assert stain_color(crop, moved)[0] == pytest.approx([20 / 255 + 0.1, 100 / 255 + 0.1, 200 / 255 + 0.1], abs=1e-6)
    glass = torch.full((1, 3, 4, 4), 255, dtype=torch.uint8)
    assert stain_color(glass, moved).tolist() == [[0, 0, 0]]
