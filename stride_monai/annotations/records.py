"""Reviewed cells as the canonical records of ``data``: what stands of a slide, in the words that bundles train on."""

from __future__ import annotations

from collections.abc import Iterator

from stride_monai.annotations.actions import CANNOT_TELL, NOT_A_LESION, meaning
from stride_monai.annotations.state import CellState, ReviewState, SlideState
from stride_monai.bethesda import ABNORMAL, NEGATIVE, UNLABELED, slide_class_of
from stride_monai.data.cells import CellRecord

__all__ = ["cell_records", "is_reviewed", "slide_class"]

_SUBTYPE = "not a lesion"


def cell_records(state: SlideState) -> list[CellRecord]:
    """The cells of a slide that somebody has read, as rows of ``cells.csv``; removed and unread cells are left out.

    ====================================  ========================  =============================================
    what stands                           label                     also
    ====================================  ========================  =============================================
    a label, agreed or arbitrated         that
    ``not_a_lesion``                      NILM, lossy               ``raw_label``, subtype "not a lesion"
    ``cannot_tell``                       ``unlabelled``            ``raw_label``
    readers differ, all see a lesion      ``abnormal_unspecified``  ``raw_label`` "disagreed: ASC-US, LSIL", lossy
    readers differ otherwise              ``unlabelled``            likewise
    ====================================  ========================  =============================================

    Descriptions are those of the readers whose label is the one that stands; ``|`` in typed words becomes ``/``.
    """
    return list(_records(state))


def _records(state: SlideState) -> Iterator[CellRecord]:
    for cell in state.present:
        if cell.state == ReviewState.UNREVIEWED or cell.box is None:
            continue
        label, raw, subtype, lossy = _labels_of(cell)
        yield CellRecord(
            state.slide_id, cell.cell_id, *cell.box, label, _descriptions(cell), raw, subtype=subtype, lossy=lossy
        )


def _labels_of(cell: CellState) -> tuple[str, str, str, bool]:
    """``label``, ``raw_label``, ``subtype`` and ``lossy``."""
    if cell.label == NOT_A_LESION:
        return NEGATIVE, NOT_A_LESION, _SUBTYPE, True
    if cell.label == CANNOT_TELL:
        return UNLABELED, CANNOT_TELL, "", False
    if cell.label is not None:
        return cell.label, "", "", False
    lesions = all(meaning(label) not in {NEGATIVE, CANNOT_TELL} for label in cell.labels)
    raw = f"disagreed: {', '.join(sorted(set(cell.labels)))}"
    return ABNORMAL if lesions else UNLABELED, raw, "", True


def _descriptions(cell: CellState) -> tuple[str, ...]:
    if cell.label is None or meaning(cell.label) == CANNOT_TELL or cell.label == NOT_A_LESION:
        return ()
    texts: dict[str, None] = {}
    for read in cell.reads.values():
        if read.label is not None and meaning(read.label) == meaning(cell.label):
            texts.update(dict.fromkeys(read.descriptions))
            texts.update(dict.fromkeys([read.typed.replace("|", "/")] if read.typed else []))
    return tuple(texts)


def slide_class(state: SlideState) -> str | None:
    """The slide's class by its readers; None where none stands, or somebody calls the slide unsatisfactory."""
    if state.call is None or state.call == CANNOT_TELL or state.satisfactory is False:
        return None
    return slide_class_of(state.call)


def is_reviewed(state: SlideState) -> bool:
    """Whether anything was said of the slide that an export holds."""
    read = any(cell.state != ReviewState.UNREVIEWED for cell in state.present)
    return read or bool(state.regions) or bool(state.calls) or bool(state.adequacy)
