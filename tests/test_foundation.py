"""Units, files, errors and the command line's first impression."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import mypy.api
import pytest
from hypothesis import given
from hypothesis import strategies as st

import stride_monai
from stride_monai import units
from stride_monai.errors import MissingExtraError, OutputError, StrideError
from stride_monai.files import (
    config_hash,
    files_below,
    fingerprint,
    free_name,
    moved_folder,
    remove_leftovers,
    replacing,
    sha256_of,
    write_bytes,
)
from stride_monai.units import Box

coordinates = st.floats(-1e6, 1e6)


@given(coordinates, coordinates, st.floats(0, 1e5))
def test_a_box_around_a_point_has_that_centre_and_side(x: float, y: float, side: float) -> None:
    box = Box.around(x, y, side)
    assert box.center == pytest.approx((x, y), abs=1e-6)
    assert box.width == pytest.approx(side, abs=1e-6)


@given(st.lists(st.integers(-50, 50), min_size=8, max_size=8))
def test_the_intersection_is_the_set_of_common_pixels(c: list[int]) -> None:
    a = Box(min(c[0], c[1]), min(c[2], c[3]), max(c[0], c[1]), max(c[2], c[3]))
    b = Box(min(c[4], c[5]), min(c[6], c[7]), max(c[4], c[5]), max(c[6], c[7]))
    common = a.intersection(b)
    columns = len(set(range(int(a.x0), int(a.x1))) & set(range(int(b.x0), int(b.x1))))
    rows = len(set(range(int(a.y0), int(a.y1))) & set(range(int(b.y0), int(b.y1))))
    assert common.area == columns * rows


def test_a_box_on_a_tile_and_in_um() -> None:
    box, tile = Box(110.0, 220.0, 130.0, 260.0), Box(100.0, 200.0, 300.0, 400.0)
    assert box.on_tile(tile, 0.5) == (5, 10, 15, 30)
    assert tile.on_tile(tile, 2.56) == (0, 0, 512, 512)
    assert box.in_um(0.25) == (27.5, 55, 32.5, 65)
    assert type(box.in_um(0.25)) is type(box), "units cost nothing at run time"


def test_types_say_which_unit_a_box_has(tmp_path: Path) -> None:
    code = """
from units import Box, TilePx, Um
slide = Box(0.0, 0.0, 9.0, 9.0)
def read(box: Box) -> None: ...
read(slide)
read(Box.around(1.0, 2.0, 3.0))
core: Box[TilePx] = Box(0.0, 0.0, 512.0, 512.0)
core.intersection(slide.on_tile(slide, 2.0))
read(slide.on_tile(slide, 2.0))
read(slide.in_um(0.25))
core.intersection(slide)
core.in_um(0.25)
"""
    (tmp_path / "code.py").write_text(code)
    shutil.copy(units.__file__, tmp_path)  # alone: all else of the package would be looked through as well
    found, _, _ = mypy.api.run(
        ["--strict", "--cache-dir", os.devnull, str(tmp_path / "code.py"), str(tmp_path / "units.py")]
    )
    lines = [line for line in found.splitlines() if ": error: " in line]
    assert [int(line.split(":")[1]) for line in lines] == [9, 10, 11, 12]
    assert 'Argument 1 to "read" has incompatible type "Box[TilePx]"; expected "Box[Level0Px]"' in lines[0]


def _fail_half_way(target: Path) -> None:
    with replacing(target) as temporary:
        temporary.write_text("half")
        raise RuntimeError("killed")


def test_a_file_is_complete_or_absent(tmp_path: Path) -> None:
    target = tmp_path / "a" / "result.json"
    with pytest.raises(RuntimeError):
        _fail_half_way(target)
    assert list(target.parent.iterdir()) == []
    write_bytes(target, b"whole")
    with pytest.raises(RuntimeError):
        _fail_half_way(target)
    assert target.read_bytes() == b"whole"
    assert [p.name for p in target.parent.iterdir()] == ["result.json"]


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs Linux's /proc")
def test_what_a_killed_process_left_is_removed_though_nobody_has_asked_how_it_ended(tmp_path: Path) -> None:
    """As in a container whose first process never asks: what was killed there stays a zombie."""
    code = """if True:
        import sys, time
        from pathlib import Path
        from stride_monai.files import replacing
        with replacing(Path(sys.argv[1])):
            time.sleep(600)
    """
    writing = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "result.json")])
    deadline = time.monotonic() + 60
    while not list(tmp_path.iterdir()) and time.monotonic() < deadline:
        time.sleep(0.02)
    remove_leftovers(tmp_path)
    assert len(list(tmp_path.iterdir())) == 1, "it is at work"
    os.kill(writing.pid, signal.SIGKILL)
    stat = Path(f"/proc/{writing.pid}/stat")
    while ") Z" not in stat.read_text() and time.monotonic() < deadline:
        time.sleep(0.02)
    remove_leftovers(tmp_path)
    left = list(tmp_path.iterdir())
    writing.wait()
    assert left == []


@pytest.mark.skipif(os.name != "posix", reason="file modes are POSIX")
def test_written_files_have_ordinary_permissions(tmp_path: Path) -> None:
    write_bytes(tmp_path / "a", b"x")
    (tmp_path / "b").write_bytes(b"x")
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "b").stat().st_mode


def test_an_unwritable_place_is_an_output_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OutputError, match="cannot write"):
        write_bytes(tmp_path / "file" / "below", b"x")


def test_hashes_tell_contents_apart(tmp_path: Path) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    a.write_bytes(b"x" * 3_000_000)
    b.write_bytes(b"x" * 3_000_001)
    assert sha256_of(a) != sha256_of(b)
    assert fingerprint(a) != fingerprint(b)
    assert config_hash({"a": 1, "b": 2}) == config_hash({"b": 2, "a": 1}) != config_hash({"a": 1, "b": 3})


def test_an_error_says_what_and_what_to_do() -> None:
    assert str(StrideError("a.svs has no um/px", "pass --mpp")) == "a.svs has no um/px: pass --mpp"
    assert "pip install 'stride-monai[yolo]'" in str(MissingExtraError("ultralytics", "yolo", "the YOLO detector"))


def test_the_package_imports_without_torch() -> None:
    code = "import sys, stride_monai.findings, stride_monai.bethesda; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "False"
    assert stride_monai.__version__[0].isdigit()


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys; sys.argv = ['stride-monai', '--help']\n"
        "import stride_monai.cli.main\n"
        "try: stride_monai.cli.main.main()\nexcept SystemExit as e: assert e.code == 0\n"
        "heavy = {'torch', 'monai', 'numpy', 'openslide', 'scipy', 'pyarrow'} & set(sys.modules)\n"
        "print('HEAVY', sorted(heavy))"
    )
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "HEAVY []" in done.stdout, f"took {time.perf_counter() - start:.1f} s\n{done.stdout}"


def test_files_below_a_folder_are_found_through_links_once_and_loops_end(tmp_path: Path) -> None:
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    for name in ("a/1.png", "b/.hidden/2.png", "b/.3.png", "b/4.png"):
        write_bytes(inside / name, b"x")
    write_bytes(outside / "5.png", b"x")
    (inside / "a" / "back").symlink_to(inside)
    (inside / "0").symlink_to(inside / "b")  # sorts before the folder that it names
    (inside / "c").symlink_to(outside)
    (inside / "gone.png").symlink_to(tmp_path / "nowhere")
    os.mkfifo(inside / "pipe.png")
    found = [path.relative_to(inside).as_posix() for path in files_below(inside)]
    assert found == ["a/1.png", "b/4.png", "c/5.png", "gone.png"]


def test_a_folder_that_cannot_be_listed_is_named(tmp_path: Path) -> None:
    with pytest.raises(StrideError, match="nowhere cannot be listed"):
        files_below(tmp_path / "nowhere")
    told: list[OSError] = []
    assert files_below(tmp_path / "nowhere", told.append) == []
    assert [Path(error.filename).name for error in told] == ["nowhere"]


@pytest.mark.parametrize("renames", [True, False])
def test_a_folder_is_moved_whole_on_shares_that_rename_none_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, renames: bool
) -> None:
    real = os.rename

    def rename(source: Path, target: Path) -> None:
        if not renames and Path(source).is_dir():
            raise PermissionError(errno.EACCES, "Permission denied")
        real(source, target)

    monkeypatch.setattr(os, "rename", rename)
    (tmp_path / "a" / "deep" / "empty").mkdir(parents=True)
    (tmp_path / "a" / "deep" / "x.txt").write_text("x")
    moved_folder(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "b" / "deep" / "x.txt").read_text() == "x"
    assert (tmp_path / "b" / "deep" / "empty").is_dir()


def test_a_free_name_is_nobodys(tmp_path: Path) -> None:
    path = tmp_path / "summary.csv"
    assert free_name(path) == path
    path.symlink_to(tmp_path / "nowhere")
    (tmp_path / "summary (2).csv").mkdir()
    assert free_name(path).name == "summary (3).csv"
