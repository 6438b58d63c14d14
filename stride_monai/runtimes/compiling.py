"""From a network of torch to one of a runtime: exported, kept for the next time, and held against torch."""

from __future__ import annotations

import hashlib
import logging
import os
import sys
import tempfile
import warnings
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

import stride_monai
from stride_monai.errors import ConfigError, check_name
from stride_monai.files import moved_folder, remove_leftovers, temporary_folder
from stride_monai.runtimes.choice import RuntimeChoice
from stride_monai.runtimes.onnx import Onnx
from stride_monai.runtimes.openvino import OpenVino
from stride_monai.runtimes.protocol import Run, Runtime

__all__ = [
    "TOLERANCE",
    "cache_folder",
    "compile_network",
    "difference",
    "exported",
    "identity",
    "noise_of",
    "runtime_named",
]

TOLERANCE = 1e-3
"""Each value of a runtime is within this of torch's, or within this share of it: boxes are some hundred px large."""

_log = logging.getLogger(__name__)


def runtime_named(name: str) -> Runtime:
    """Raises:
    ConfigError: there is none of that name; torch is none that networks are compiled for.
    """
    known: dict[str, Runtime] = {runtime.name: runtime for runtime in (OpenVino(), Onnx())}
    check_name("runtime", name, known)
    return known[name]


def cache_folder() -> Path:
    """Where networks are kept: ``STRIDE_MONAI_CACHE``, else a folder of the user's cache. It may be emptied at will."""
    if given := os.environ.get("STRIDE_MONAI_CACHE"):
        return Path(given) / "networks"
    home = Path.home()
    usual = {"win32": home / "AppData" / "Local", "darwin": home / "Library" / "Caches"}.get(sys.platform)
    stated = os.environ.get("LOCALAPPDATA" if sys.platform == "win32" else "XDG_CACHE_HOME")
    return (Path(stated) if stated else usual or home / ".cache") / "stride-monai" / "networks"


@torch.no_grad()
def compile_network(network: nn.Module, shape: tuple[int, ...], choice: RuntimeChoice) -> Run:
    """The network, on a CPU and in evaluation mode, as the runtime computes it.

    What the runtime makes of it is kept (:func:`cache_folder`) under a name of everything that decides it. Kept or new,
    it is held against torch on a picture of noise before it is used.

    Args:
        network: from float32 of ``shape`` to one tensor of float32.
        choice: the runtime, not torch.

    Raises:
        ConfigError: the runtime cannot take the network, or gives other values than torch (:data:`TOLERANCE`).
    """
    runtime, named = runtime_named(choice.name), f"{choice.name} {choice.version}"
    noise = noise_of(shape)
    wanted = network(noise)
    home = cache_folder() / _key(network, shape, named)
    if home.is_dir():
        with suppress(Exception):  # damaged, or from elsewhere: made anew below, and held against torch again
            run = runtime.load(home, torch.get_num_threads())
            if difference(run, noise, wanted) <= 1:
                return run
        _remove(home)
    try:
        run = _made(runtime, network, noise, home)
        apart = difference(run, noise, wanted)
    except Exception as error:  # each runtime has errors of its own
        reason = " ".join(str(error).split())[:200]
        kind = type(network).__name__
        raise ConfigError(f"{named} cannot take the network {kind} ({reason})", "use --runtime torch") from error
    if not apart <= 1:
        _remove(home)
        raise ConfigError(
            f"{named} gives other values than torch for the network {type(network).__name__}, {apart:.3g} times "
            f"what is allowed ({TOLERANCE:g})",
            "use --runtime torch",
        )
    return run


def _made(runtime: Runtime, network: nn.Module, noise: Tensor, home: Path) -> Run:
    """The network, exported and loaded; kept where that can be."""
    program = exported(network, noise)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what an exporter thinks of other people's layers
        try:
            home.parent.mkdir(parents=True, exist_ok=True)
            remove_leftovers(home.parent)
            with temporary_folder(home.parent) as folder:
                runtime.convert(program, folder)
                with suppress(OSError):  # another process was first
                    moved_folder(folder, home)
            return runtime.load(home, torch.get_num_threads())
        except OSError as error:
            _log.warning("%s cannot be written (%s): the network is not kept", home.parent, error.strerror or error)
        with tempfile.TemporaryDirectory() as place:
            runtime.convert(program, Path(place))
            return runtime.load(Path(place), torch.get_num_threads())


def noise_of(shape: tuple[int, ...]) -> Tensor:
    """The picture that networks are held against each other on: float32, 0-1, always the same."""
    return torch.rand(shape, generator=torch.Generator().manual_seed(0))


def exported(network: nn.Module, example: Tensor) -> ExportedProgram:
    """The network as the runtimes take it, for inputs of the example's shape."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.export.export(network, (example,), strict=False)


def _remove(home: Path) -> None:
    """A network that was kept and is not what it should be."""
    with suppress(OSError):
        for path in home.glob("network.*"):
            path.unlink()
        home.rmdir()


def difference(run: Run, noise: Tensor, wanted: Tensor) -> float:
    """The largest of what a runtime gives, in units of what is allowed.

    It is infinite where the shape is another or a value is no number.
    """
    found = torch.from_numpy(run(noise.numpy()))
    if found.shape != wanted.shape or not bool(found.isfinite().all()):
        return float("inf")
    allowed = TOLERANCE * wanted.abs().clamp(min=1)
    return float(((found - wanted).abs() / allowed).max())


def _key(network: nn.Module, shape: tuple[int, ...], named: str) -> str:
    """SHA-256 of the network, of the code that computes it, and of the versions of all that has a part in it."""
    libraries = [f"{name} {version(name)}" for name in ("torch", "timm", "torchvision")]
    with suppress(ModuleNotFoundError):
        libraries.append(f"ultralytics {version('ultralytics')}")
    said = [named, *libraries, stride_monai.__version__, identity(network, shape)]
    found = hashlib.sha256("\n".join(said).encode())
    package = Path(__file__).parent.parent
    for source in sorted([*(package / "networks").rglob("*.py"), *(package / "runtimes").glob("*.py")]):
        found.update(source.read_bytes())
    return found.hexdigest()


def identity(network: nn.Module, shape: tuple[int, ...]) -> str:
    """SHA-256 of a network's weights, of its layers as they are printed, and of the shape of its input."""
    found = hashlib.sha256(f"{shape}\n{network!r}".encode())
    for name, tensor in [*network.named_parameters(), *network.named_buffers()]:
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        found.update(tensor.detach().contiguous().numpy().tobytes())
    return found.hexdigest()
