"""Optics of the phantom: centres, focus, sharpening, background and things on the glass."""

from __future__ import annotations

from dataclasses import asdict, fields, replace

import numpy as np
import pytest

from stride_monai.errors import ConfigError
from stride_monai.phantom.centres import ANY, CENTRES, SITES, VARIANTS, any_centre, centre_named
from stride_monai.phantom.painting.background import Background
from stride_monai.phantom.painting.focus import LEVELS_UM, FocusField, blur_per_um, defocus_levels
from stride_monai.phantom.painting.optics import sharpened, sharpening_margin
from stride_monai.phantom.painting.painter import Scene
from stride_monai.phantom.render import plan_slide, render_field, truth_of
from stride_monai.phantom.scenes.artefacts import ARTEFACTS, make_artefacts
from stride_monai.phantom.stain import Centre
from stride_monai.units import Box

NORTH = CENTRES["north"]
BARE = replace(NORTH, name="bare", noise=0.0, haze=0.0, dirt_per_mm2=0.0, shading=0.0, sharpen=(0.0, 0.0, 0.0))
DISC = {"diameter_mm": 0.6, "margin_mm": 0.1, "seed": 5}


def field_of(centre: Centre | str, side_um: float = 100, **arguments: object) -> np.ndarray:
    given = {"mpp": 0.5, "seed": 2, "density_per_mm2": 900, **arguments}
    return render_field(side_um, side_um, centre=centre, **given)[0].astype(float)


def test_there_are_enough_sites_and_each_has_its_own_look() -> None:
    assert len(SITES) >= 12
    pictures = {name: field_of(name) for name in SITES}
    names = sorted(pictures)
    for i, first in enumerate(names):
        for second in names[i + 1 :]:
            assert np.abs(pictures[first] - pictures[second]).mean() > 4, (first, second)


@pytest.mark.parametrize("variant", sorted(VARIANTS))
def test_a_variant_differs_in_exactly_one_parameter_and_shows_it(variant: str) -> None:
    site, centre = centre_named(VARIANTS[variant]), centre_named(variant)
    changed = {f.name for f in fields(Centre) if getattr(site, f.name) != getattr(centre, f.name)} - {"name"}
    assert len(changed) == 1
    if changed <= {"mpp", "deposit_mm"}:
        first, second = (plan_slide("NILM", seed=1, centre=replace(c, mpp=c.mpp * 2))[0] for c in (site, centre))
        assert first.region != second.region
    elif changed != {"jpeg_quality"}:
        assert np.abs(field_of(site, 250) - field_of(centre, 250)).mean() > 0.7


def test_an_impossible_centre_is_refused() -> None:
    for wrong in ({"mpp": 3}, {"jpeg_quality": 0}, {"scanner": "toaster"}, {"noise": -0.1}, {"crowding": 2}):
        with pytest.raises(ConfigError) as caught:
            replace(NORTH, **wrong)
        assert "\n" not in str(caught.value)


def test_any_laboratory_is_the_seed_s_own_and_possible() -> None:
    drawn = [any_centre(seed) for seed in range(200)]  # Centre refuses impossible ones
    assert drawn[3] == any_centre(3) == centre_named(ANY, 3)
    assert len({centre.strength for centre in drawn}) == 200
    haematoxylin = [centre.strength[0] for centre in drawn]
    assert min(haematoxylin) < 0.55
    assert max(haematoxylin) > 1.2
    assert ANY not in CENTRES
    pictures = [field_of(ANY, seed=seed) for seed in (1, 1, 2)]
    assert np.array_equal(pictures[0], pictures[1])
    assert np.abs(pictures[0] - pictures[2]).mean() > 4


@pytest.mark.parametrize("amount", [-1.0, -0.3, 0.0, 0.5, 2.0])
def test_sharpening_is_an_unsharp_mask(amount: float) -> None:
    values = np.random.default_rng(0).integers(0, 256, (40, 50)).astype(np.uint8)
    margin = sharpening_margin((amount, 0.5, 0.5))
    kernel = np.convolve([1, 2, 1], [1, 0, 2, 0, 1]) / 16
    assert kernel.sum() == 1
    smooth = np.apply_along_axis(np.convolve, 0, values.astype(float), kernel, "valid")
    smooth = np.apply_along_axis(np.convolve, 1, smooth, kernel, "valid")
    core = values[margin:-margin, margin:-margin].astype(float)
    expected = np.clip(core + amount * (core - smooth), 0, 255)
    assert np.abs(sharpened(values, amount, margin) - expected).max() <= 1.5 + abs(amount)


def test_no_sharpening_needs_no_margin() -> None:
    assert sharpening_margin((0.0, 0.0, 0.0)) == 0
    values = np.arange(64, dtype=np.uint8).reshape(8, 8)
    assert (sharpened(values, 0.0, 0) == values).all()


def test_sharpening_makes_a_bright_fringe_around_cells() -> None:
    plain = field_of(BARE, mpp=0.25)
    fringed = field_of(replace(BARE, sharpen=(1.2, 1.2, 1.2)), mpp=0.25)
    assert plain.max() <= np.max(NORTH.background)
    assert (fringed > np.array(NORTH.background) + 4).mean() > 0.003


def test_white_balance_is_a_gain_that_clips() -> None:
    plain, warm = field_of(BARE), field_of(replace(BARE, white_balance=(1.3, 1.0, 0.5)))
    assert np.abs(warm[..., 1] - plain[..., 1]).max() == 0
    assert np.abs(warm[..., 0] - np.minimum(plain[..., 0] * 1.3, 255)).max() <= 1.2
    assert np.abs(warm[..., 2] - plain[..., 2] * 0.5).max() <= 1


@pytest.mark.parametrize("sigma", [0.01, 0.03])
def test_the_noise_has_the_stated_strength_and_color(sigma: float) -> None:
    for color in (0.0, 1.0):
        plan, _ = plan_slide("NILM", centre=replace(BARE, noise=sigma, noise_color=color), **DISC)
        pixels = Scene(plan).paint(-2000, -2000, 512, 512).astype(float)
        assert pixels[..., 1].std() / pixels[..., 1].mean() == pytest.approx(sigma, rel=0.15)
        correlation = np.corrcoef(pixels[..., 0].ravel(), pixels[..., 1].ravel())[0, 1]
        assert correlation > 0.7 if color == 0 else abs(correlation) < 0.1


def test_the_background_is_not_flat_and_each_part_of_it_can_be_left_out() -> None:
    def spread(centre: Centre) -> float:
        plan, _ = plan_slide("NILM", centre=centre, diameter_mm=2.0, seed=1, density_per_mm2=1)
        return float(Background(plan).window(3000, 3000, 1024, 1024)[1].astype(float).std())

    assert spread(BARE) == 0
    for part in ({"noise": 0.01}, {"haze": 0.03}, {"streaks": 0.03}, {"dirt_per_mm2": 2000}, {"shading": 0.03}):
        assert spread(replace(BARE, **part)) > 0.5, part


def test_dirt_has_the_stated_density() -> None:
    plan, _ = plan_slide("NILM", centre=replace(BARE, dirt_per_mm2=1500), diameter_mm=3.0, seed=1, density_per_mm2=1)
    background = Background(plan)
    bins = [background._grains_of(column, row) for column in range(8, 18) for row in range(8, 18)]
    area = 100 * (512 * 0.25e-3) ** 2
    assert sum(len(found) for found in bins) / area == pytest.approx(1500, rel=0.25)


def test_blur_grows_with_the_aperture() -> None:
    assert blur_per_um(0.3) < blur_per_um(0.75) < blur_per_um(1.2)
    assert blur_per_um(0.75) == pytest.approx(0.285, abs=0.01)


def test_the_focus_error_has_the_stated_size_and_is_smooth() -> None:
    errors = []
    grid = np.meshgrid(np.linspace(0, 20_000, 60), np.linspace(0, 20_000, 60))
    for seed in range(12):
        field = FocusField(1.5, 20_000, 20_000, np.random.default_rng(seed))
        errors.append((field.at(*grid) ** 2).mean())
        near = field.at(np.array([5000.0, 5010.0]), np.array([5000.0, 5000.0]))
        assert abs(near[0] - near[1]) < 0.15
    assert np.sqrt(np.mean(errors)) == pytest.approx(1.5, rel=0.3)


def test_the_truth_states_the_blur_that_is_painted() -> None:
    centre = replace(BARE, focus_um=2.0, depth_um=1.5)
    plan, _ = plan_slide("HSIL", centre=centre, **DISC)
    levels = defocus_levels(plan, unique=True)
    assert len(set(levels.tolist())) >= 4
    for index in (0, 3, 7):
        blur = np.hypot(plan.unique[index].figure.defocus_um, LEVELS_UM[levels[index]])
        assert truth_of(plan, index).defocus_um == pytest.approx(blur)
    alone = defocus_levels(plan, unique=False, only=np.array([4, 2]))
    assert (alone == defocus_levels(plan, unique=False)[[4, 2]]).all()


def test_a_plane_out_of_focus_is_blurred_and_stained_as_before() -> None:
    plan, _ = plan_slide("LSIL", centre=replace(BARE, focus_um=0.0, depth_um=0.0), **DISC)
    sharp, near, far = (Scene(plan, z).paint(800, 800, 1400, 1400).astype(float)[..., 1] for z in (0.0, 3.0, 9.0))
    detail = [np.abs(np.diff(picture, axis=1)).mean() for picture in (sharp, near, far)]
    assert detail[0] > 1.2 * detail[1] > 1.4 * detail[2]
    assert np.log(far).mean() == pytest.approx(np.log(sharp).mean(), abs=0.03)


@pytest.mark.parametrize("centre", ["island", "north_defocus"])
@pytest.mark.parametrize("side", [300, 512])
def test_windows_are_seamless_with_everything_switched_on(centre: str, side: int) -> None:
    plan, _ = plan_slide("LSIL", centre=centre, artefacts=ARTEFACTS, **DISC)
    whole = Scene(plan, 1.5).paint(-40, 500, 1200, 900)
    scene, tiled = Scene(plan, 1.5), np.zeros_like(whole)
    for y in reversed(range(0, 900, side)):
        for x in range(0, 1200, side):
            width, height = min(side, 1200 - x), min(side, 900 - y)
            tiled[y : y + height, x : x + width] = scene.paint(-40 + x, 500 + y, width, height)
    assert (tiled == whole).all()


@pytest.mark.parametrize("name", ARTEFACTS)
def test_an_artefact_shows_inside_its_box_only(name: str) -> None:
    plan, _ = plan_slide("NILM", centre=BARE, seed=3, diameter_mm=0.8, mpp=0.7, margin_mm=0.1, density_per_mm2=9)
    width, height = plan.region.width, plan.region.height
    made = make_artefacts((name,), np.random.default_rng(3), width, height, plan.mpp)
    assert made
    clean = Scene(plan).paint(0, 0, width, height).astype(int)
    marked = Scene(replace(plan, artefacts=made)).paint(0, 0, width, height).astype(int)
    outside = np.ones((height, width), bool)
    for artefact in made:
        assert artefact.box.intersection(Box(0, 0, width, height)).area > 0
        x0, y0, x1, y1 = (int(value) for value in artefact.box)
        outside[max(y0, 0) : max(y1 + 1, 0), max(x0, 0) : max(x1 + 1, 0)] = False
    difference = np.abs(clean - marked).max(axis=2)
    assert difference[outside].max(initial=0) <= 1
    assert (difference > 8).mean() > 0.0005


def test_a_centre_is_plain_data() -> None:
    assert Centre(**asdict(CENTRES["harbour"])) == CENTRES["harbour"]
