"""SimCLR, MoCo v2 and DINO against literal loops; what moves, what follows, what is kept."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from stride_monai.errors import ConfigError, MissingExtraError
from stride_monai.networks.encoders.cell_encoder import CellClassifier
from stride_monai.networks.encoders.self_supervised import DINO, MoCo, SelfSupervised, SimCLR, cosine, moco_queue_size

pytest.importorskip("lightly")
SIDE, CELLS = 32, 6


def classifier(name: str = "test_convnext", **kwargs: object) -> CellClassifier:
    torch.manual_seed(0)
    return CellClassifier(name, **kwargs)


def simclr() -> SimCLR:
    return SimCLR(classifier(), hidden_dim=32, output_dim=8)


def moco(queue_size: int = 16) -> MoCo:
    return MoCo(classifier(), queue_size=queue_size, hidden_dim=32, output_dim=8)


def dino() -> DINO:
    vit = classifier("test_vit", dynamic_img_size=True, drop_path_rate=0.5)
    return DINO(vit, prototypes=24, hidden_dim=32, bottleneck_dim=16)


METHODS: dict[str, Callable[[], SelfSupervised]] = {"simclr": simclr, "moco": moco, "dino": dino}


def views(count: int = 2, seed: int = 1) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.rand(CELLS, 3, SIDE, SIDE, generator=generator) for _ in range(count)]


def unit(vector: Tensor) -> Tensor:
    return vector / vector.norm()


@torch.no_grad()
def projected(method: SelfSupervised, image: Tensor, teacher: bool = False) -> list[Tensor]:
    """What a network makes of each cell of a view; float64."""
    encoder, head = (method.teacher, method.teacher_head) if teacher else (method.student, method.head)
    return list(head(encoder.encode(image)).double())


def test_simclr_is_equation_1_at_temperature_one_tenth() -> None:
    method = simclr().eval()
    pictures = views()
    z = [unit(row) for view in pictures for row in projected(method, view)]
    total = 0.0
    for i in range(2 * CELLS):
        j = (i + CELLS) % (2 * CELLS)
        below = sum(math.exp(float(z[i] @ z[k]) / 0.1) for k in range(2 * CELLS) if k != i)
        total += -math.log(math.exp(float(z[i] @ z[j]) / 0.1) / below)
    assert float(method(pictures).detach()) == pytest.approx(total / (2 * CELLS), rel=1e-4)


def test_moco_is_equation_1_over_the_queue_and_the_queue_holds_the_last_keys() -> None:
    method = moco(queue_size=16).eval()
    bank = method.loss.memory_bank
    queue = [row.double().clone() for row in bank.bank]
    assert all(float(row.norm()) == pytest.approx(1, abs=1e-5) for row in queue), "random, of length 1"
    for step in range(3):
        first, second = views(seed=step)
        queries = [unit(row) for row in projected(method, first)]
        keys = [unit(row) for row in projected(method, second, teacher=True)]
        total = 0.0
        for query, key in zip(queries, keys, strict=True):
            positive = math.exp(float(query @ key) / 0.2)
            below = positive + sum(math.exp(float(query @ negative) / 0.2) for negative in queue)
            total += -math.log(positive / below)
        assert float(method([first, second]).detach()) == pytest.approx(total / CELLS, rel=1e-4)
        start = step * CELLS
        queue[start : start + CELLS] = keys[: 16 - start]  # what does not fit at the end is dropped
        torch.testing.assert_close(bank.bank.double(), torch.stack(queue), rtol=0, atol=1e-5)
    assert int(bank.bank_ptr) == 0, "the oldest keys go first"
    before = bank.bank.clone()
    with torch.no_grad():
        method(views(seed=9))
    assert torch.equal(bank.bank, before), "a loss without a gradient to come leaves the queue alone"


def softmax(vector: Tensor) -> list[float]:
    exponentials = [math.exp(float(v - vector.max())) for v in vector]
    return [e / sum(exponentials) for e in exponentials]


def test_dino_is_algorithm_1_with_the_centre_of_the_batches_before() -> None:
    method = dino().eval()
    centre = torch.zeros(24, dtype=torch.float64)
    for step in range(2):
        pictures = [*views(2, seed=step), *(view[..., :16, :16] for view in views(3, seed=10 + step))]
        taught = [projected(method, view, teacher=True) for view in pictures[:2]]
        learnt = [projected(method, view) for view in pictures]
        total, pairs = 0.0, 0
        for u in range(2):
            for v in range(5):
                if u == v:
                    continue
                pairs += 1
                for t, s in zip(taught[u], learnt[v], strict=True):
                    target, given = softmax((t - centre) / 0.04), softmax(s / 0.1)
                    total -= sum(p * math.log(q) for p, q in zip(target, given, strict=True)) / CELLS
        assert pairs == 8
        assert float(method(pictures).detach()) == pytest.approx(total / pairs, rel=1e-4)
        mean = sum(row for view in taught for row in view) / (2 * CELLS)
        centre = 0.9 * centre + 0.1 * mean
        torch.testing.assert_close(method.loss.center.flatten().double(), centre, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", METHODS)
def test_the_loss_moves_with_the_students_input_and_only_the_student_learns(name: str) -> None:
    def loss_of(change: float) -> tuple[float, SelfSupervised]:
        method = METHODS[name]()
        torch.manual_seed(0)
        pictures = views(4 if name == "dino" else 2)
        student_view = 3 if name == "dino" else 0  # a view that no teacher sees
        pictures[student_view] = pictures[student_view] + change * pictures[student_view].flip(-1)
        method.eval()
        value = method(pictures)
        value.backward()
        return float(value.detach()), method

    (plain, method), (moved, _) = loss_of(0.0), loss_of(0.3)
    assert math.isfinite(plain)
    assert abs(plain - moved) > 1e-4
    learns = {key for key, value in method.named_parameters() if value.grad is not None and value.grad.abs().sum() > 0}
    assert learns == {key for key, value in method.named_parameters() if value.requires_grad}
    assert any(key.startswith("student.encoder") for key in learns)
    assert not [key for key in learns if key.startswith(("teacher", "student.head"))]


@pytest.mark.parametrize(("name", "progress", "momentum"), [("moco", 0.5, 0.999), ("dino", 0.0, 0.996)])
def test_the_teacher_starts_as_the_student_and_follows_it(name: str, progress: float, momentum: float) -> None:
    method = METHODS[name]().train()
    assert not method.teacher.training
    assert not method.teacher_head.training
    pairs = [(method.student.encoder, method.teacher.encoder), (method.head, method.teacher_head)]
    for student, teacher in pairs:
        assert all(torch.equal(s, t) for s, t in zip(student.parameters(), teacher.parameters(), strict=True))
    with torch.no_grad():
        for parameter in [*method.student.encoder.parameters(), *method.head.parameters()]:
            parameter += 1
    method.after_step(progress)
    for student, teacher in pairs:
        for s, t in zip(student.parameters(), teacher.parameters(), strict=True):
            torch.testing.assert_close(t, momentum * (s - 1) + (1 - momentum) * s)


def test_dinos_teacher_comes_to_rest_at_the_end_and_is_what_is_kept() -> None:
    assert [cosine(0.996, 1.0, share) for share in (0, 0.5, 1)] == pytest.approx([0.996, 0.998, 1.0])
    method = dino()
    assert method.result is method.teacher
    assert simclr().result.encoder is not None
    before = [parameter.clone() for parameter in method.teacher.parameters()]
    with torch.no_grad():
        for parameter in method.student.parameters():
            parameter += 1
    method.after_step(1.0)
    assert all(torch.equal(old, new) for old, new in zip(before, method.teacher.parameters(), strict=True))


def test_dinos_last_layer_rests_for_the_first_epoch() -> None:
    method = dino().eval()
    for epoch, rests in ((0, True), (1, False)):
        method.zero_grad()
        method(views(3)).backward()
        assert method.head.last_layer.weight_v.grad is not None
        method.before_step(epoch)
        assert (method.head.last_layer.weight_v.grad is None) == rests
        assert method.head.layers[0].weight.grad is not None


@pytest.mark.parametrize("name", METHODS)
def test_state_dict_holds_queue_centre_and_teacher(name: str) -> None:
    method = METHODS[name]().eval()
    pictures = views(3 if name == "dino" else 2)
    method(pictures)
    with torch.no_grad():
        for parameter in method.student.parameters():
            parameter += 0.05 * torch.rand_like(parameter)
    method.after_step(0.0)
    torch.manual_seed(99)  # another random queue and other weights at first
    twin = METHODS[name]().eval()
    if name == "moco":
        twin.loss.memory_bank.bank.normal_()
    twin.load_state_dict(method.state_dict())
    assert float(twin(pictures).detach()) == float(method(pictures).detach())
    kept = {"simclr": "head.layers.0.weight", "moco": "loss.memory_bank.bank_ptr", "dino": "loss.center"}[name]
    assert kept in method.state_dict()


def test_losses_are_float32_under_mixed_precision() -> None:
    method = moco().eval()
    first, second = views()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = method([first, second])
    assert value.dtype == torch.float32
    assert float(value.detach()) == pytest.approx(float(moco().eval()([first, second]).detach()), rel=0.02)


def test_batch_normalization_is_refused_where_there_is_a_teacher() -> None:
    SimCLR(classifier("test_resnet"), hidden_dim=8, output_dim=4)
    for method in (MoCo, DINO):
        with pytest.raises(ConfigError, match="convnext_tiny"):
            method(classifier("test_resnet"), hidden_dim=8)


def test_views_that_do_not_fit_are_refused() -> None:
    for method in (simclr(), moco()):
        with pytest.raises(ConfigError, match="large views"):
            method(views(3))
    with pytest.raises(ConfigError, match="large views"):
        dino()([views()[0], views()[1][..., :16, :16]])
    with pytest.raises(ConfigError, match="queue_size"):
        MoCo(classifier(), queue_size=0)


@pytest.mark.parametrize("method", [SimCLR, MoCo, DINO])
def test_without_lightly_one_line_names_the_extra(method: type, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "lightly"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "lightly", None)
    with pytest.raises(MissingExtraError, match=r"stride-monai\[ssl\]") as caught:
        method(classifier())
    assert "\n" not in str(caught.value)


def test_the_queue_is_whole_batches_of_a_quarter_of_the_cells() -> None:
    sizes = [moco_queue_size(cells, batch_size=256) for cells in (2_000_000, 20_000, 1024, 10)]
    assert sizes == [65536, 4864, 256, 256]
