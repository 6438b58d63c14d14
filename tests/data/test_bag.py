"""Bag files: rows by rank, read without copying, refused when damaged."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from stride_monai.data import BagCell, BagFile, BagHeader, encode_crop, write_bag
from stride_monai.errors import BagError, StrideError
from stride_monai.units import Box

HEADER = BagHeader("s1", slide_mpp=0.25, crop_mpp=0.5, crop_px=32, top_k=8, detector_sha256="ab", slide_class="HSIL")


def _crops(count: int, side: int = 32) -> np.ndarray:
    """Smooth pictures, which JPEG keeps, each of its own colour."""
    ramp = np.linspace(0, 60, side)
    plane = ramp[:, None] + ramp[None, :]
    shades = [np.stack([plane + 20 * k, plane[::-1] + 10, np.full_like(plane, 200 - 20 * k)], -1) for k in range(count)]
    return np.stack(shades).clip(0, 255).astype(np.uint8)


def _cells(count: int) -> list[BagCell]:
    return [
        BagCell(
            score=1 - k / 10,
            box=Box(k, 2 * k, k + 10, 2 * k + 20),
            jpeg=encode_crop(crop),
            cell_class="LSIL" if k == 1 else None,
            descriptions=("one", "two") if k == 1 else (),
            crop_center=(77.5, 88.5) if k == 2 else None,
        )
        for k, crop in enumerate(_crops(count))
    ]


@pytest.fixture
def bag_path(tmp_path: Path) -> Path:
    path = tmp_path / "s1.bag.arrow"
    write_bag(path, HEADER, _cells(4))
    return path


def test_everything_reads_back(bag_path: Path) -> None:
    bag, crops = BagFile(bag_path), _crops(4)
    assert len(bag) == 4
    assert bag.header == HEADER
    assert bag.header.fov_um == 16
    assert bag.boxes.dtype == np.float64
    np.testing.assert_array_equal(bag.boxes[3], [3, 6, 13, 26])
    np.testing.assert_array_equal(bag.scores, [1, 0.9, 0.8, 0.7])
    np.testing.assert_array_equal(bag.centres[1:3], [[6, 12], [77.5, 88.5]])
    for k in range(4):
        assert bag.jpeg(k) == _cells(4)[k].jpeg
        assert np.abs(bag.image(k).astype(int) - crops[k]).max() <= 6
    np.testing.assert_array_equal(bag.images([2, 0]), np.stack([bag.image(2), bag.image(0)]))
    assert [bag.cell_class(k) for k in range(4)] == [None, "LSIL", None, None]
    assert bag.descriptions(1) == ("one", "two")
    assert bag.descriptions(0) == ()


def test_rows_beyond_the_end_are_index_errors(bag_path: Path) -> None:
    bag = BagFile(bag_path)
    for index in (-1, 4):
        with pytest.raises(IndexError):
            bag.image(index)


def test_the_file_is_self_describing_arrow(bag_path: Path) -> None:
    table = pa.ipc.open_file(bag_path).read_all()
    assert table["rank"].to_pylist() == [1, 2, 3, 4]
    facts = {key.decode(): json.loads(value) for key, value in table.schema.metadata.items()}
    assert facts["schema_version"] == "1.4"
    assert facts["slide_id"] == "s1"
    assert facts["fov_um"] == 16.0
    assert facts["top_k"] == 8
    assert facts["package_version"]


def test_crops_are_views_of_the_mapped_file(bag_path: Path) -> None:
    before = pa.total_allocated_bytes()
    bag = BagFile(bag_path)
    _ = [bag._buffer(k) for k in range(4)]
    assert pa.total_allocated_bytes() == before


def test_the_same_cells_give_the_same_bytes(bag_path: Path, tmp_path: Path) -> None:
    write_bag(tmp_path / "again.bag.arrow", HEADER, _cells(4))
    assert (tmp_path / "again.bag.arrow").read_bytes() == bag_path.read_bytes()


def test_it_can_be_pickled_for_a_worker(bag_path: Path) -> None:
    copy = pickle.loads(pickle.dumps(BagFile(bag_path)))
    assert copy.header == HEADER
    np.testing.assert_array_equal(copy.image(3), BagFile(bag_path).image(3))


def test_an_empty_bag_is_a_bag(tmp_path: Path) -> None:
    write_bag(tmp_path / "e.bag.arrow", HEADER, [])
    bag = BagFile(tmp_path / "e.bag.arrow")
    assert len(bag) == 0
    assert bag.boxes.shape == (0, 4)
    assert bag.images([]).shape == (0, 32, 32, 3)


def test_chroma_is_not_subsampled() -> None:
    crop = np.zeros((16, 16, 3), np.uint8)
    crop[:, ::2] = (200, 40, 60)
    crop[:, 1::2] = (40, 60, 200)
    from stride_monai.data.bags.bag import decode_crop

    assert np.abs(decode_crop(encode_crop(crop)).astype(int) - crop).max() < 40


@pytest.mark.parametrize(
    "act",
    [
        lambda folder: write_bag(folder / "a.arrow", HEADER, []),
        lambda folder: write_bag(folder / "a.bag.arrow", HEADER, _cells(4)[::-1]),
        lambda folder: write_bag(folder / "a.bag.arrow", HEADER, _cells(4) * 3),
        lambda folder: BagCell(float("nan"), Box(0, 0, 1, 1), b""),
        lambda folder: BagCell(0.5, Box(0, 0, float("inf"), 1), b""),
        lambda folder: BagCell(0.5, Box(0, 0, 1, 1), b"", cell_class="HSIL"),
        lambda folder: BagHeader("s", 0.25, 0.5, 0, 8),
        lambda folder: BagHeader("s", 0.25, 0.5, 32, 8, slide_class="SCC"),
        lambda folder: encode_crop(np.zeros((8, 8), np.uint8)),
        lambda folder: encode_crop(np.zeros((8, 8, 3), np.float32)),
    ],
)
def test_what_is_no_bag_is_not_written(tmp_path: Path, act: Callable[[Path], object]) -> None:
    with pytest.raises(BagError):
        act(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_error_while_writing_leaves_the_old_bag(bag_path: Path) -> None:
    before = bag_path.read_bytes()
    broken = BagCell(0.5, Box(0, 0, 1, 1), 3)  # type: ignore[arg-type]
    with pytest.raises((StrideError, pa.ArrowException, TypeError)):
        write_bag(bag_path, HEADER, [broken])
    assert bag_path.read_bytes() == before
    assert [path.name for path in bag_path.parent.iterdir()] == [bag_path.name]


@pytest.mark.parametrize("keep", [0.0, 0.01, 0.5, 0.999])
def test_truncated_files_are_refused_by_name(bag_path: Path, keep: float) -> None:
    content = bag_path.read_bytes()
    bag_path.write_bytes(content[: int(len(content) * keep)])
    with pytest.raises(BagError, match=r"s1\.bag\.arrow is no bag or is damaged"):
        BagFile(bag_path)


def test_flipped_bytes_give_a_bag_error_or_nothing_worse(bag_path: Path) -> None:
    content = bag_path.read_bytes()
    refused = 0
    for place in range(0, len(content), 61):
        damaged = bytearray(content)
        damaged[place] ^= 0xFF
        bag_path.write_bytes(bytes(damaged))
        try:  # any other error than BagError fails the test
            bag = BagFile(bag_path)
            for k in range(len(bag)):
                bag.image(k)
        except BagError:
            refused += 1
    assert refused > 0


def _rewrite(path: Path, change: Callable[[dict[str, object]], None], table: pa.Table | None = None) -> None:
    table = pa.ipc.open_file(path).read_all() if table is None else table
    facts = {key.decode(): json.loads(value) for key, value in (table.schema.metadata or {}).items()}
    change(facts)
    table = table.replace_schema_metadata({key: json.dumps(value) for key, value in facts.items()})
    path.unlink()
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as out:
        out.write_table(table)


def test_other_versions_and_other_arrow_files_are_refused(bag_path: Path) -> None:
    content = bag_path.read_bytes()
    _rewrite(bag_path, lambda facts: facts.update(schema_version="2.0"))
    with pytest.raises(BagError, match=r"s1\.bag\.arrow is a bag of version 2\.0"):
        BagFile(bag_path)
    bag_path.write_bytes(content)
    _rewrite(bag_path, lambda facts: facts.clear())
    with pytest.raises(BagError, match="no bag"):
        BagFile(bag_path)
    bag_path.write_bytes(content)
    _rewrite(bag_path, lambda facts: facts.pop("crop_px"))
    with pytest.raises(BagError, match="missing or unknown fields"):
        BagFile(bag_path)
    bag_path.write_bytes(content)
    table = pa.ipc.open_file(bag_path).read_all().drop_columns(["score"])
    _rewrite(bag_path, lambda facts: None, table)
    with pytest.raises(BagError, match="other columns"):
        BagFile(bag_path)


def test_unranked_rows_are_refused(bag_path: Path) -> None:
    table = pa.ipc.open_file(bag_path).read_all()
    _rewrite(bag_path, lambda facts: None, table.take([1, 0, 2, 3]).combine_chunks())
    with pytest.raises(BagError, match="not ranked"):
        BagFile(bag_path)


def test_a_crop_of_another_size_or_no_jpeg_is_refused_by_rank(tmp_path: Path) -> None:
    path = tmp_path / "x.bag.arrow"
    cells = [BagCell(0.9, Box(0, 0, 1, 1), encode_crop(_crops(1, 16)[0])), BagCell(0.8, Box(0, 0, 1, 1), b"no jpeg")]
    write_bag(path, HEADER, cells)
    with pytest.raises(BagError, match="rank 1 is"):
        BagFile(path).image(0)
    with pytest.raises(BagError, match="rank 2 is damaged"):
        BagFile(path).image(1)


def test_an_absent_bag_is_named(tmp_path: Path) -> None:
    with pytest.raises(BagError, match=r"n\.bag\.arrow does not exist"):
        BagFile(tmp_path / "n.bag.arrow")
