"""The folder of an evaluation: what is written is whole, and replaces what we wrote there before and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from stride_monai.errors import OutputError
from stride_monai.files import temporary_folder
from stride_monai.ownership import hand_over, read_list

__all__ = ["write_folder"]


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
            earlier = read_list(out)
            hand_over(made, out, of, earlier if earlier is not None and earlier.of == of else None, last)
    except OSError as error:
        raise OutputError(
            f"cannot write to {out.absolute()} ({error.strerror or error})", "choose another --out"
        ) from error
