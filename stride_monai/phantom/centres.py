"""Laboratories: presets that differ visibly, variants that differ from one in a single parameter, and any other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from stride_monai.errors import check_name
from stride_monai.phantom.stain import Centre, tinted

__all__ = ["ANY", "CENTRES", "SITES", "VARIANTS", "any_centre", "centre_named"]

ANY = "any"
"""In place of a preset's name: a laboratory that never was, another for every seed."""

_NORTH = Centre("north")

_SITES: tuple[Centre, ...] = (
    _NORTH,
    Centre(
        "south",
        dye_od=tinted(0.82, 1.0, 1.06),
        strength=(1.1, 0.95, 0.9, 1.35, 1.0),
        eosinophilic=0.75,
        background=(242, 241, 246),
        gamma=1.1,
        streaks=0.008,
    ),
    Centre(
        "east",
        dye_od=tinted(1.0, 0.92, 0.62),
        strength=(1.15, 0.8, 0.8, 0.5, 0.6),
        eosinophilic=0.3,
        background=(221, 223, 221),
        gamma=1.05,
        blur_um=0.14,
        noise=0.012,
        jpeg_quality=80,
    ),
    Centre(
        "west",
        dye_od=tinted(1.06, 0.84, 0.95),
        strength=(0.9, 0.85, 1.15, 0.9, 1.2),
        eosinophilic=0.35,
        background=(247, 250, 248),
        gamma=1.05,
        sharpen=(0.5, 0.5, 0.4),
        noise=0.006,
        haze=0.014,
        jpeg_quality=90,
    ),
    Centre(
        "coast",
        dye_od=tinted(0.74, 1.04, 1.0),
        strength=(1.05, 1.45, 0.7, 0.7, 1.0),
        eosinophilic=0.7,
        background=(236, 240, 243),
        blur_um=0.26,
        noise=0.007,
        haze=0.012,
        jpeg_quality=75,
        focus_um=1.2,
    ),
    Centre(
        "valley",
        dye_od=tinted(0.92, 0.98, 1.15),
        strength=(0.85, 0.9, 1.1, 1.3, 1.5),
        eosinophilic=0.5,
        background=(240, 233, 219),
        gamma=0.88,
        blur_um=0.32,
        sharpen=(0.2, 0.2, -0.2),
        noise=0.014,
        haze=0.016,
        shading=0.012,
        jpeg_quality=70,
    ),
    Centre(
        "harbour",
        dye_od=tinted(0.72, 1.12, 0.82),
        strength=(1.2, 1.2, 0.55, 0.2, 0.4),
        eosinophilic=0.6,
        background=(206, 207, 205),
        gamma=0.95,
        blur_um=0.15,
        sharpen=(0.5, 0.5, 0.4),
        noise=0.009,
        noise_color=0.2,
        haze=0.004,
        dirt_per_mm2=900,
        mpp=0.23,
        deposit_mm=13.0,
        density_per_mm2=603.0,
        offset_mm=(0.3, -0.2),
        scanner="leica",
        origin_mm=(6.0, 21.0),
    ),
    Centre(
        "island",
        dye_od=tinted(0.86, 1.05, 1.1),
        strength=(1.1, 0.7, 1.0, 1.9, 1.2),
        eosinophilic=0.85,
        background=(244, 247, 246),
        white_balance=(1.02, 1.04, 1.05),
        gamma=1.15,
        blur_um=0.2,
        sharpen=(1.1, 1.1, 0.9),
        noise=0.011,
        noise_color=0.9,
        haze=0.02,
        streaks=0.02,
        dirt_per_mm2=2200,
        shading=0.014,
        mpp=0.22,
        focus_um=1.2,
        depth_um=1.0,
        density_per_mm2=255.0,
    ),
    Centre(
        "lake",
        dye_od=tinted(1.12, 0.8, 0.72),
        strength=(0.95, 0.7, 1.45, 0.3, 0.5),
        eosinophilic=0.15,
        background=(228, 236, 240),
        white_balance=(0.99, 1.0, 1.01),
        blur_um=0.2,
        jpeg_quality=80,
        mpp=0.33,
        aperture=0.6,
        offset_mm=(-0.25, 0.15),
    ),
    Centre(
        "forest",
        dye_od=tinted(1.1, 0.72, 1.12),
        strength=(1.0, 0.6, 1.6, 0.6, 1.3),
        eosinophilic=0.25,
        background=(234, 240, 226),
        gamma=0.92,
        sharpen=(0.0, 0.1, -0.3),
        haze=0.016,
        shading=0.02,
        jpeg_quality=70,
        focus_um=1.5,
    ),
    Centre(
        "desert",
        dye_od=tinted(0.9, 0.95, 1.35),
        strength=(0.7, 0.6, 0.8, 1.6, 1.0),
        eosinophilic=0.9,
        background=(246, 240, 232),
        gamma=0.9,
        blur_um=0.3,
        noise=0.016,
        noise_color=0.8,
        streaks=0.014,
        dirt_per_mm2=1400,
        jpeg_quality=60,
        mpp=0.5,
        aperture=0.5,
        density_per_mm2=255.0,
    ),
    Centre(
        "mountain",
        dye_od=tinted(0.95, 1.1, 0.7),
        strength=(1.6, 1.0, 0.7, 0.5, 1.4),
        eosinophilic=0.45,
        background=(250, 248, 252),
        white_balance=(1.0, 1.0, 1.02),
        gamma=1.3,
        blur_um=0.12,
        sharpen=(0.8, 0.8, 0.8),
        noise=0.004,
        haze=0.003,
        dirt_per_mm2=150,
        jpeg_quality=92,
        mpp=0.25,
        deposit_mm=13.0,
        density_per_mm2=603.0,
        scanner="leica",
        origin_mm=(4.5, 18.0),
    ),
)

_VARIANTS: tuple[Centre, ...] = (
    replace(_NORTH, name="north_pale", strength=(0.6, 0.6, 0.6, 0.6, 0.6)),
    replace(_NORTH, name="north_pink", eosinophilic=0.95),
    replace(_NORTH, name="north_gamma", gamma=1.4),
    replace(_NORTH, name="north_warm", white_balance=(1.05, 0.98, 0.86)),
    replace(_NORTH, name="north_cool", white_balance=(0.88, 0.98, 1.05)),
    replace(_NORTH, name="north_dim", background=(205, 206, 208)),
    replace(_NORTH, name="north_soft", blur_um=0.6),
    replace(_NORTH, name="north_sharp", sharpen=(1.4, 1.4, 1.2)),
    replace(_NORTH, name="north_noisy", noise=0.035),
    replace(_NORTH, name="north_hazy", haze=0.06),
    replace(_NORTH, name="north_jpeg", jpeg_quality=30),
    replace(_NORTH, name="north_defocus", focus_um=3.0),
    replace(_NORTH, name="north_coarse", mpp=0.5),
    replace(_NORTH, name="north_13mm", deposit_mm=13.0),
)

SITES: tuple[str, ...] = tuple(centre.name for centre in _SITES)
"""Independent laboratories, told apart by eye: for cohorts and held-out centres."""

VARIANTS: Mapping[str, str] = {centre.name: "north" for centre in _VARIANTS}
"""Variant -> the site from which it differs in exactly one parameter."""

CENTRES: Mapping[str, Centre] = {centre.name: centre for centre in (*_SITES, *_VARIANTS)}
"""All presets by name: sites first, then variants."""


def centre_named(name: str, seed: int | None = None) -> Centre:
    """The preset of that name; for :data:`ANY` a laboratory drawn by the seed, or its fixed geometry without one.

    Raises:
        ConfigError: there is none.
    """
    if name == ANY:
        return Centre(ANY) if seed is None else any_centre(seed)
    check_name("phantom centre", name, [*CENTRES, ANY])
    return CENTRES[name]


def any_centre(seed: int) -> Centre:
    """A laboratory whose stain, scanner and smears are drawn from ranges wider than the presets span.

    For training sets: a network that has met a thousand laboratories, most of them odd, takes the next real one for
    another of them (domain randomisation, Tobin et al., https://arxiv.org/abs/1703.06907). Nuclei may be hardly darker
    than their cytoplasm, cells as crowded as on a conventional smear. The size of a cell is nobody's to change.
    """
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(97,)))

    def spread(low: float, high: float) -> float:
        """Log-uniform."""
        return float(np.exp(rng.uniform(np.log(low), np.log(high))))

    haematoxylin, others = spread(0.45, 1.3), rng.lognormal(0.1, 0.4, 4).tolist()
    sharpen = rng.uniform(-0.2, 1.2)
    return Centre(
        ANY,
        dye_od=tinted(*rng.uniform((0.65, 0.7, 0.55), (1.2, 1.2, 1.35)).tolist()),
        strength=(haematoxylin, *others),
        eosinophilic=rng.uniform(0.05, 0.95),
        background=tuple((rng.uniform(200, 253) + rng.normal(0, 5, 3)).clip(190, 254).astype(int).tolist()),
        gamma=spread(0.75, 1.35),
        white_balance=tuple(rng.uniform(0.96, 1.08, 3).tolist()),
        glare=rng.uniform(0.01, 0.1),
        blur_um=spread(0.12, 0.6),
        sharpen=(sharpen, sharpen, rng.uniform(-0.2, 1.0)),
        noise=spread(0.004, 0.03),
        noise_color=rng.uniform(0, 1),
        haze=spread(0.003, 0.05),
        streaks=rng.uniform(0, 0.025),
        dirt_per_mm2=spread(150, 4000),
        shading=rng.uniform(0, 0.02),
        jpeg_quality=int(rng.integers(40, 96)),
        focus_um=rng.uniform(0.3, 2.0),
        depth_um=rng.uniform(0.4, 1.4),
        density_per_mm2=spread(180, 700),
        crowding=rng.uniform(0, 1),
    )
