"""The folder of an evaluation: what is written is whole, and replaces what we wrote there before and nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from stride_monai.errors import OutputError
from stride_monai.files import temporary_folder
from stride_monai.ownership import FileList, hand_over, read_list, refuse_foreign, refuse_inputs

__all__ = ["refuse_taken", "write_folder"]


def refuse_taken(out: Path, of: str, names: Iterable[str], inputs: Iterable[Path]) -> None:
    """Refuse, before any work is done, to write over what was given or over what is not ours.

    Args:
        of: what the folder is about. names: of the files to write. inputs: what the user named.

    Raises:
        OutputError: naming it.
    """
    names = list(names)
    refuse_inputs([out / name for name in names], inputs, "choose another --out")
    ours = _ours(out, of) or FileList()
    refuse_foreign(out, names, lambda name: ours.own(out, name), "choose another --out")


def write_folder(out: Path, of: str, files: Mapping[str, bytes], last: str) -> None:
    """Write all of some files, or none.

    Args:
        of: what the folder is about, for its list.
        files: content by name.
        last: the file whose presence speaks for all of them.

    Raises:
        OutputError: a name is taken by something that is not ours, or nothing can be written there.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        with temporary_folder(out) as made:
            for name, content in files.items():
                (made / name).write_bytes(content)
            hand_over(made, out, of, _ours(out, of), last)
    except OSError as error:
        raise OutputError(
            f"cannot write to {out.absolute()} ({error.strerror or error})", "choose another --out"
        ) from error


def _ours(out: Path, of: str) -> FileList | None:
    found = read_list(out)
    return found if found is not None and found.of == of else None
