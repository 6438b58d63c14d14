"""Why jobs failed, a text each beside what the others made."""

from __future__ import annotations

import contextlib
from pathlib import Path

from stride_monai.files import free_name, write_bytes

__all__ = ["Notes"]


class Notes:
    """Texts ``<job id>.txt``. What is not ours under such a name is neither replaced nor removed.

    Args:
        folder: it is made with the first text.
        head: how the first line begins, by which a text is known to be ours; the job's id follows.
    """

    def __init__(self, folder: Path, head: str) -> None:
        self.folder, self.head = folder, head

    def write(self, job_id: str, text: str) -> Path:
        """Keep why a job failed.

        Raises:
            OutputError: it cannot be written.
        """
        path = self.folder / f"{job_id}.txt"
        path = path if self._own(path) else free_name(path)
        write_bytes(path, f"{self.head}{job_id}\n\n{text}".encode("utf-8", "backslashreplace"))
        return path

    def forget(self, job_id: str) -> None:
        """Remove what was kept of a failure that is over."""
        path = self.folder / f"{job_id}.txt"
        with contextlib.suppress(OSError):
            if self._own(path):
                path.unlink()

    def _own(self, path: Path) -> bool:
        try:
            if path.is_symlink() or not path.is_file():
                return False
            with path.open("rb") as stream:
                return stream.read(len(self.head.encode())) == self.head.encode()
        except OSError:
            return False
