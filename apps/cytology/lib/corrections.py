"""Labels that viewers send, as actions of the reader who sent them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lib.exchange.reading import read_label
from lib.server.access import current_user
from lib.workbench import Workbench
from stride_monai.annotations import corrections
from stride_monai.slides.parts import slide_fingerprint


def take_in(bench: Workbench, image_id: str, path: Path, tag: str, info: dict[str, Any]) -> None:
    """Read a label and append what it changes to the annotations; a label of tag ``original`` is the model's own.

    Args:
        info: what the viewer says besides: ``annotator``, where nobody signs in; ``complete``: every cell was looked
            at, so that a class that was left is confirmed and a cell that is missing was deleted as no lesion. What was
            changed is put under ``changes``.

    Raises:
        ManifestError: the label cannot be read, or holds what is no cell.
        AnnotationError: the name of the annotator is none.
        ConflictError: somebody else changed a box meanwhile.
    """
    if tag != "final":
        return
    who = current_user(bench.place, info)
    complete = info.get("complete") is True
    state = bench.store.state(image_id)
    found = corrections(state, read_label(path), who, "the label", confirm=complete, missing_is_no_lesion=complete)
    if not state.fingerprint:
        # Nobody screened the slide: its file becomes known by the first action.
        fingerprint = slide_fingerprint(bench.slides.path_of(image_id))
        found.actions[:] = [_with_fingerprint(action, fingerprint) for action in found.actions]
    bench.store.append_all(found.actions)
    info["changes"] = dict(found.counts)
    info["annotator"] = who


def _with_fingerprint(action: Any, fingerprint: str) -> Any:
    from dataclasses import replace

    return replace(action, fingerprint=fingerprint)
