"""What can go wrong with annotations."""

from __future__ import annotations

from typing import Any

from stride_monai.errors import StrideError

__all__ = ["AccessError", "AnnotationError", "ConflictError"]


class AnnotationError(StrideError):
    """An action, or a file of annotations, is not what it should be."""


class ConflictError(AnnotationError):
    """Somebody, or the same reader elsewhere, was faster: the action starts from what is no longer so. Nothing changed.

    Attributes:
        current: what stands now in the place of the action's ``before``, as JSON types; None where nothing does.
    """

    def __init__(self, what: str, advice: str = "", current: Any = None) -> None:
        self.current = current
        super().__init__(what, advice)


class AccessError(StrideError):
    """Who asks may not have it: an unknown name, a wrong password or token, a role, or a path outside the slides."""
