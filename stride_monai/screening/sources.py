"""Where the network of each stage comes from: named weights, a bundle of the user's, or what came with the package.

``--weights detection=FILE`` names the weights of a stage. ``--bundles DIR`` names a folder with bundles of the user's
own; it may hold some of them only. What neither names is what came with the package, and the findings say so. Nothing
heavy is imported before weights are looked up in a bundle's configuration: a wrong word is refused at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from stride_monai.errors import BundleError
from stride_monai.screening.choices import choose_detector, find_bundle
from stride_monai.screening.config import STAGES, ScreeningConfig
from stride_monai.weights_files import kind_of_weights
from stride_monai.workflows.locate import bundle_root

__all__ = ["Origin", "Source", "Sources", "check_config"]

_MODEL = "model.pt"


class Origin(NamedTuple):
    """Where weights were taken from.

    Attributes:
        how: ``given`` (by ``--weights``), ``own bundle`` or ``shipped``.
        files: the weights files: one, or a base and files of what differs.
    """

    how: str
    files: tuple[Path, ...]

    def to_dict(self) -> dict[str, Any]:
        """For the findings, which know no folders."""
        return {"from": self.how, "files": [path.name for path in self.files]}


class Source(NamedTuple):
    """Of one stage: its bundle, and its weights where they were named.

    Attributes:
        name: of the bundle.
        home: folder of the bundle.
        own: it is one of the user's.
        given: the weights files that were named; none for those that the bundle names.
    """

    name: str
    home: Path
    own: bool = False
    given: tuple[Path, ...] = ()

    @property
    def how(self) -> str:
        """As :class:`Origin` says it."""
        return "given" if self.given else "own bundle" if self.own else "shipped"

    def files(self, profile: str, overlays: Sequence[str] = ()) -> list[Path]:
        """The weights files to load, whether they are there or not.

        In a bundle of the user's, ``models/model.pt``, which training writes, stands in for a file that the
        configuration names and that is not there.

        Raises:
            BundleError: the bundle cannot be read, or it has both and which is meant is not clear.
        """
        if self.given:
            return list(self.given)
        from stride_monai.workflows.load import bundle_weights

        named = bundle_weights(self.home, profile, overlays)
        trained = self.home / "models" / _MODEL
        if not self.own or not trained.is_file() or trained.absolute() in [path.absolute() for path in named]:
            return named
        if all(path.is_file() for path in named):
            raise BundleError(
                f"{trained.parent.absolute()} has {named[-1].name}, which its configuration names, and {_MODEL}, which "
                "training writes",
                f"say which: --weights {self.name}={trained} or --weights {self.name}={named[-1]}",
            )
        return [trained]

    def lacks(self, profile: str, overlays: Sequence[str] = ()) -> str:
        """Why it cannot be used as it stands, in words; empty where all its weights files are there."""
        absent = [path.name for path in self.files(profile, overlays) if not path.is_file()]
        return f"the bundle {self.name} has no weights {absent[0]}" if absent else ""


class Sources:
    """Where the network of each stage comes from.

    Args:
        bundles: folder with bundles of the user's; None for none.
        weights: by stage the weights files that were named.

    Raises:
        BundleError: there is no such folder, it holds no bundle, or a folder in it has a bundle's name and is none.
    """

    def __init__(self, bundles: Path | None, weights: Mapping[str, Sequence[Path]] | None = None) -> None:
        self.bundles, self.weights = bundles, {name: tuple(files) for name, files in (weights or {}).items()}
        if bundles is not None:
            _check_bundles(bundles)

    def __getitem__(self, name: str) -> Source:
        given = self.weights.get(name, ())
        shipped = bundle_root(name)
        own = None if self.bundles is None else find_bundle(name, self.bundles)
        if own is None:
            return Source(name, shipped, given=given)
        return Source(name, own, own.resolve() != shipped.resolve(), given)


def _check_bundles(folder: Path) -> None:
    full = folder.absolute()
    if not folder.is_dir():
        raise BundleError(f"there is no folder {full}", "name a folder with bundles in it")
    for name in STAGES:
        if (folder / name).is_dir() and not (folder / name / "configs" / "inference.json").is_file():
            found = [file for file in (folder / name / "models" / _MODEL, folder / name / _MODEL) if file.is_file()]
            file = found[0] if found else "FILE"
            raise BundleError(
                f"{full / name} is no bundle: it has no configs/inference.json",
                f"name its weights by --weights {name}={file}, or make a bundle: stride-monai bundle copy {name}",
            )
    if any(find_bundle(name, folder) for name in STAGES):
        return
    if (folder / "configs" / "inference.json").is_file():
        raise BundleError(f"{full} is itself a bundle", f"name the folder in which it lies, {full.parent}")
    raise BundleError(
        f"{full} holds no bundle",
        f"name a folder with some of {', '.join(STAGES)}; for weights alone there is --weights STAGE=FILE of screen",
    )


def check_config(config: ScreeningConfig) -> None:
    """Refuse, before anything heavy is imported, folders that hold no bundles, files that are no weights, and a
    detector that the bundle does not have.

    Raises:
        BundleError, ConfigError: with the option that is wrong and the way out.
    """
    sources = Sources(config.bundles, config.weights)
    named = [file for files in sources.weights.values() for file in files]
    if config.reranker != "cell_cls" and not Path(config.reranker).is_dir():
        named.append(Path(config.reranker))
    for file in named:
        kind_of_weights(file)
    choose_detector(config.detector, config.profile, sources["detection"].home)
