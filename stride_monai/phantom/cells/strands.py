"""Thin winding things in micrometres: mucus threads, fungal filaments, fibre cells and the tails of tadpole cells."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stride_monai.phantom.cells.outlines import FloatArray

__all__ = ["Strand", "winding"]


@dataclass(frozen=True, slots=True)
class Strand:
    """A chain of straight pieces of changing width.

    Attributes:
        points: ``[n, 2]`` (x, y) in um relative to the figure's centre, n >= 2.
        widths: half widths ``[n]`` in um at the points; 0 at a pointed end.
        density: dye density along it.
        nuclear: stained like a nucleus instead of like cytoplasm.
        hollow: share by which the middle is paler than the walls, 0-1.
    """

    points: NDArray[np.float64]
    widths: NDArray[np.float64]
    density: float
    nuclear: bool = False
    hollow: float = 0.0

    @property
    def x(self) -> float:
        """Where :attr:`reach` is measured from, um."""
        return float(self.points[:, 0].mean())

    @property
    def y(self) -> float:
        return float(self.points[:, 1].mean())

    @property
    def reach(self) -> float:
        """Largest distance of any of it from (x, y), um."""
        distance = np.hypot(self.points[:, 0] - self.x, self.points[:, 1] - self.y)
        return float((distance + self.widths).max())

    def polygon(self) -> NDArray[np.float64]:
        """Vertices ``[2 n, 2]`` (x, y) in um: along one side and back along the other."""
        along = np.gradient(self.points, axis=0)
        along /= np.maximum(np.hypot(along[:, 0], along[:, 1]), 1e-9)[:, None]
        across = np.stack([-along[:, 1], along[:, 0]], axis=1) * np.maximum(self.widths, 0.1)[:, None]
        return np.concatenate([self.points + across, (self.points - across)[::-1]])

    def depth(self, piece: int, x: FloatArray, y: FloatArray) -> FloatArray:
        """Distance (um) to the border of one piece of points ``x, y`` (um), positive inside."""
        (ax, ay), (bx, by) = self.points[piece].astype(np.float32), self.points[piece + 1].astype(np.float32)
        dx, dy = bx - ax, by - ay
        share = np.clip(((x - ax) * dx + (y - ay) * dy) / np.float32(max(dx * dx + dy * dy, 1e-6)), 0, 1)
        first, last = np.float32(self.widths[piece]), np.float32(self.widths[piece + 1])
        radius = first + share * (last - first)
        return np.asarray(radius - np.hypot(x - ax - share * dx, y - ay - share * dy), np.float32)


def winding(
    rng: np.random.Generator,
    *,
    start: tuple[float, float],
    angle: float,
    length: float,
    turn: float,
    pieces: int = 12,
) -> NDArray[np.float64]:
    """Points ``[pieces + 1, 2]`` of a path whose direction wanders.

    Args:
        start: first point, um.
        angle: direction at the start, radians.
        length: um along the path.
        turn: standard deviation of the change of direction over the whole length, radians.
    """
    step = length / pieces
    heading = angle + np.cumsum(rng.normal(0, turn / np.sqrt(pieces), pieces))
    moves = np.stack([np.cos(heading), np.sin(heading)], axis=1) * step
    return np.concatenate([[start], np.asarray(start) + np.cumsum(moves, axis=0)])
