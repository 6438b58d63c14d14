"""Slides behind a URL: a web server on this machine, with ranges, without them, and one that fails."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from extras import needs
from slide_files import textured, write_pyramid
from web_server import Server, serving

from stride_monai.cli.screen import _local
from stride_monai.errors import ConfigError, OutputError, RegionError, SlideError
from stride_monai.screening.inputs import one_input
from stride_monai.slides import block_cache, open_slide, remote
from stride_monai.slides.block_cache import FolderCache
from stride_monai.slides.remote import RemoteError, fetched
from stride_monai.slides.urls import is_url, name_of_url, without_secrets
from stride_monai.units import Box

needs("aiohttp", "remote")

ARRAY = textured(1500, 2000)
WHOLE = Box(0, 0, 2000, 1500)


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("STRIDE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(remote, "_WAITS", (0.0, 0.0, 0.0))
    monkeypatch.setattr(remote, "BLOCK", 1 << 16)
    folder = tmp_path / "served"
    folder.mkdir()
    with serving(folder) as served:
        yield served


def slide(server: Server, name: str = "a.tif") -> tuple[str, Path]:
    path = write_pyramid(server.folder / name, ARRAY, compression="deflate")
    return f"{server.url}/{name}?signature=SECRET", path


def kept(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def test_a_tiff_is_read_where_it_lies(server: Server, tmp_path: Path) -> None:
    url, path = slide(server, "片 1.tif")
    with open_slide(url) as far, open_slide(path, reader="tiff") as near:
        assert (far.facts.file_name, far.facts.slide_id, far.facts.reader) == ("片 1.tif", "片 1", "tiff")
        assert (far.mpp, far.facts.levels) == (near.mpp, near.facts.levels)
        box = Box(700, 600, 900, 800)
        assert np.array_equal(far.read(box), near.read(box))
        fetched_bytes = sum(last - first + 1 for first, last in filter(None, server.requests))
        assert fetched_bytes < path.stat().st_size / 2, "the parts that are asked for only"
        number = len(server.requests)
        assert np.array_equal(far.read(WHOLE, 0.7), near.read(WHOLE, 0.7))
    with open_slide(url) as again:
        before = len(server.requests)
        assert np.array_equal(again.read(box), ARRAY[600:800, 700:900])
        assert len(server.requests) == before > number, "from the cache"
    assert (tmp_path / "cache").stat().st_mode & 0o77 == 0, "slides are data of patients"


def test_threads_read_at_once(server: Server) -> None:
    url, _ = slide(server)
    boxes = [Box(x, y, x + 300, y + 200) for x in range(0, 1700, 200) for y in range(0, 1300, 300)]
    with open_slide(url) as far, ThreadPoolExecutor(6) as pool:
        for box, seen in zip(boxes, pool.map(far.read, boxes), strict=True):
            x0, y0, x1, y1 = map(int, box)
            assert np.array_equal(seen, ARRAY[y0:y1, x0:x1])


@pytest.mark.parametrize("failure", ["error", "cut"])
def test_a_server_that_fails_now_and_then(server: Server, failure: str) -> None:
    url, _ = slide(server)
    server.fails = lambda number: failure if number % 3 == 1 else ""
    with open_slide(url) as far:
        assert np.array_equal(far.read(WHOLE), ARRAY)


def test_a_server_that_is_gone_fails_the_slide_and_no_region(server: Server) -> None:
    url, _ = slide(server)
    with open_slide(url) as far:
        far.read(Box(0, 0, 100, 100))
        server.fails = lambda number: "error"
        with pytest.raises(RemoteError, match=r"a\.tif cannot be fetched .*503.*try again") as caught:
            far.read(Box(1500, 1200, 1600, 1300))
    assert not isinstance(caught.value, RegionError)
    assert "SECRET" not in str(caught.value)
    with pytest.raises(RemoteError, match=r"none\.tif is not there"):
        open_slide(f"{server.url}/none.tif?signature=SECRET")


@pytest.mark.parametrize("ranges", [True, False])
def test_what_needs_a_path_is_fetched_whole(server: Server, ranges: bool) -> None:
    url, path = slide(server)
    server.ranges = ranges
    with open_slide(url, reader="openslide") as far, open_slide(path, reader="openslide") as near:
        assert far.facts == near.facts
        assert np.array_equal(far.read(WHOLE), near.read(WHOLE))
    number = len(server.requests)
    with open_slide(url, reader="openslide"):
        assert len(server.requests) == number, "the copy is still there"
    with open_slide(url) as far:
        assert np.array_equal(far.read(WHOLE), ARRAY)


def test_a_copy_that_nobody_asked_for_is_told_before_it_is_fetched(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    url, _ = slide(server)
    server.ranges = False
    with open_slide(url) as far:
        assert np.array_equal(far.read(WHOLE), ARRAY)
    assert "a.tif: the server sends whole files only, a copy is fetched" in caplog.text


def test_a_server_that_no_longer_sends_parts_fails_the_slide_and_no_region(server: Server) -> None:
    url, _ = slide(server)
    with open_slide(url) as far:
        server.ranges = False
        with pytest.raises(RemoteError, match=r"a\.tif: the server sends whole files only: .*try again") as caught:
            far.read(WHOLE)
    assert not isinstance(caught.value, RegionError)


def test_what_the_reader_that_was_asked_for_cannot_open_is_not_fetched(server: Server, tmp_path: Path) -> None:
    url, path = slide(server)
    path.write_bytes(b"no TIFF at all" * 100_000)
    with pytest.raises(SlideError, match=r"a\.tif: not a TIFF"):
        open_slide(url, reader="tiff")
    assert sum(last - first + 1 for first, last in filter(None, server.requests)) <= 1 << 16
    assert None not in server.requests
    assert not list((tmp_path / "cache").glob("*.whole"))
    with pytest.raises(SlideError, match=r"a\.tif is no slide"):
        open_slide(url)  # any other reader may know it


def test_a_cache_that_cannot_be_written_is_what_is_said(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    url, _ = slide(server)

    def full(*_: object) -> None:
        raise OutputError("the cache cannot be written", "free some of the disk")

    monkeypatch.setattr(FolderCache, "keep", full)
    with pytest.raises(OutputError, match="free some of the disk"):
        open_slide(url)
    assert len(server.requests) == 1, "and no copy of the whole slide is asked for"


def test_a_file_that_was_replaced_is_fetched_anew(server: Server) -> None:
    url, path = slide(server)
    with open_slide(url) as far:
        far.read(WHOLE)
    write_pyramid(path, 255 - ARRAY, compression="deflate")
    os.utime(path, (1, 1))
    with open_slide(url) as far:
        assert np.array_equal(far.read(WHOLE), 255 - ARRAY)


def test_the_cache_stays_small(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url, path = slide(server)
    monkeypatch.setenv("STRIDE_CACHE_GB", "0.0005")
    assert path.stat().st_size > 1_000_000
    with open_slide(url) as far:
        assert np.array_equal(far.read(WHOLE), ARRAY)
        assert np.array_equal(far.read(WHOLE), ARRAY)
    assert 0 < kept(tmp_path / "cache") <= 500_000
    with pytest.raises(ConfigError, match="STRIDE_CACHE_GB higher"):
        fetched([url], lambda name: None)
    monkeypatch.setenv("STRIDE_CACHE_GB", "much")
    with pytest.raises(ConfigError, match="give a number of GB"):
        open_slide(url)


def test_what_was_used_longest_ago_goes_first_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine" * 1000)
    cache = FolderCache(tmp_path, 10_000)
    places = [cache.path("a", number) for number in range(5)]
    for age, place in enumerate(places[:3]):
        cache.keep(place, lambda path: path.write_bytes(b"x" * 3000) and None)
        os.utime(place, (age + 1, age + 1))
    assert cache.get(places[0]) == b"x" * 3000, "used just now"
    cache.keep(places[3], lambda path: path.write_bytes(b"x" * 3000) and None)
    assert [place.exists() for place in places] == [True, False, True, True, False]
    assert (tmp_path / "notes.txt").exists()
    assert block_cache.cache_bytes() == 20_000_000_000


def test_the_command_line_takes_urls_among_paths(server: Server, tmp_path: Path) -> None:
    url, path = slide(server)
    assert one_input(url).path.read_bytes() == path.read_bytes()
    here, copy = _local(["d/b.tif", url])
    assert here == Path("d/b.tif")
    assert (copy.name, copy.read_bytes()) == ("a.tif", path.read_bytes())
    assert tmp_path / "cache" in copy.parents


def test_urls() -> None:
    assert is_url("https://h/a.svs")
    assert is_url("s3://bucket/a.svs")
    assert not any(map(is_url, ("a.svs", "/d/a.svs", "C:\\d\\a.svs", Path("https://h/a.svs"))))
    assert name_of_url("https://h/d/%E7%89%87%201.svs?X-Signature=abc/def") == "片 1.svs"
    assert name_of_url("https://h/d/%2e%2e") == "slide"
    assert without_secrets("https://me:word@h/a.svs?sig=1") == "https://h/a.svs"
    assert without_secrets("a?b.svs") == "a?b.svs"


def test_a_protocol_that_is_not_installed_is_named() -> None:
    with pytest.raises(SlideError, match=r"a\.svs: nosuch:// cannot be used"):
        open_slide("nosuch://b/a.svs")
