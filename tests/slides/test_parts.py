"""Slides of several files: one slide, whichever of its files is seen, and stale when any of them changes."""

from __future__ import annotations

import shutil
import struct
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import tifffile

from stride_monai.files import fingerprint
from stride_monai.phantom import render_slide
from stride_monai.screening.inputs import SlideInput, collect
from stride_monai.slides.dicom_header import identity_of, read_header
from stride_monai.slides.parts import FolderView, own_folders, parts_of, slide_fingerprint


def touch(path: Path, content: bytes = b"x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def names(slides: Sequence[SlideInput]) -> list[str]:
    return [slide.slide_id for slide in slides if not slide.problem]


def problems(slides: Sequence[SlideInput]) -> dict[str, str]:
    return {slide.path.name: slide.problem for slide in slides if slide.problem}


@pytest.fixture(scope="module")
def series(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two slides in DICOM, of several files each."""
    folder = tmp_path_factory.mktemp("dicom")
    for seed, name in enumerate(("A", "B")):
        render_slide(folder / name, "NILM", diameter_mm=0.15, margin_mm=0.1, mpp=0.5, file_format="dicom", seed=seed)
    return folder


def vms(folder: Path, name: str = "s.vms", pictures: str = "p") -> list[Path]:
    """A Hamamatsu slide's files; with a folder and a backslash, as its own software writes them."""
    key = f"[Virtual Microscope Specimen]\r\nImageFile={pictures}.jpg\r\nMapFile={pictures}_map2.jpg\r\n"
    key += f"MacroImage=D:\\scans\\{pictures}_Macro.JPG\r\nSourceLens=40\r\nComments=\r\n"
    others = [f"{pictures}.jpg", f"{pictures}_map2.jpg", f"{pictures}_macro.jpg"]
    return [touch(folder / name, key.encode()), *(touch(folder / other) for other in others)]


def test_heads_of_dicom_files_are_read(series: Path) -> None:
    headers = {path.name: read_header(path) for path in sorted((series / "A").iterdir())}
    assert len({header.series for header in headers.values() if header}) == 1
    assert {name: header.volume for name, header in headers.items() if header} == {
        name: name.startswith("level") for name in headers
    }


def _dicom(kind: str, series: str, implicit: bool = False, nested: int = 0, sop: str = "77.1.6") -> bytes:
    def element(group: int, number: int, vr: bytes, value: bytes, short: bool) -> bytes:
        value += (b"\0" if vr == b"UI" else b" ") * (len(value) % 2)
        if implicit and group != 2:
            return struct.pack("<HHI", group, number, len(value)) + value
        length = struct.pack("<H", len(value)) if short else struct.pack("<HI", 0, len(value))
        return struct.pack("<HH", group, number) + vr + length + value

    syntax = b"1.2.840.10008.1.2" + (b"" if implicit else b".1")
    body = element(2, 0x10, b"UI", syntax, True) + element(8, 8, b"CS", f"ORIGINAL\\PRIMARY\\{kind}".encode(), True)
    body += element(8, 0x16, b"UI", f"1.2.840.10008.5.1.4.1.1.{sop}".encode(), True)
    if nested:
        head = struct.pack("<HH", 8, 0x1115) + (b"" if implicit else b"SQ\0\0") + b"\xff" * 4
        item = struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)
        ends = struct.pack("<HHIHHI", 0xFFFE, 0xE00D, 0, 0xFFFE, 0xE0DD, 0)
        body += (head + item) * nested + element(0x20, 0x0E, b"UI", b"9.9", True) + ends * nested
        body += element(8, 0x9999, b"OB", b"\0" * 9, False)
    body += element(0x20, 0x0D, b"UI", b"1.9", True)
    return b"\0" * 128 + b"DICM" + body + element(0x20, 0x0E, b"UI", series.encode(), True)


@pytest.mark.parametrize("implicit", [False, True])
@pytest.mark.parametrize("nested", [0, 1, 3])
def test_heads_in_other_encodings(tmp_path: Path, implicit: bool, nested: int) -> None:
    header = read_header(touch(tmp_path / "a", _dicom("LABEL\\NONE", "1.2.3", implicit, nested)))
    assert header is not None
    assert header[:4] == ("1.2.3", True, False, "1.9")
    assert identity_of(tmp_path / "a") == {"StudyInstanceUID": "1.9", "SeriesInstanceUID": "1.2.3"}
    assert identity_of(touch(tmp_path / "b", b"II*\0")) == {}
    whole = (tmp_path / "a").read_bytes()
    for end in range(0, len(whole) - 1, 7):  # cut anywhere: no error, no series
        assert read_header(touch(tmp_path / "cut", whole[:end])) is None


def test_sequences_may_be_nested_however_deep(tmp_path: Path) -> None:
    """Heads are read in the command itself, where an error would cost the whole run."""
    header = read_header(touch(tmp_path / "a", _dicom("VOLUME\\NONE", "1.2.3", nested=5_000)))
    assert header is not None
    assert header.series == "1.2.3"
    assert read_header(touch(tmp_path / "b", _dicom("VOLUME\\NONE", "1.2.3", nested=100_000))) is None


@pytest.mark.parametrize(
    "rename", [str, lambda name: name.replace(".dcm", ""), lambda name: f"1.2.{sum(name.encode())}"]
)
def test_a_dicom_slide_is_one_however_it_is_named(series: Path, tmp_path: Path, rename: Callable[[str], str]) -> None:
    folder = tmp_path / "A"
    folder.mkdir()
    for path in (series / "A").iterdir():
        shutil.copy(path, folder / rename(path.name))
    files = sorted(folder.iterdir())
    for arguments in ([folder], files, files[::-1], files[:1], [folder, *files], [*files, folder], [tmp_path]):
        slides = collect(arguments)
        assert (names(slides), problems(slides)) == (["A"], {})
        assert slides[0].path.stat().st_size == max(path.stat().st_size for path in files)
    assert own_folders(slides[0].path, "A") == [folder]


def test_several_dicom_slides_in_one_folder(series: Path, tmp_path: Path) -> None:
    flat = tmp_path / "flat"
    for name in ("A", "B"):
        for path in (series / name).iterdir():
            touch(flat / f"{name}-{path.name}", path.read_bytes())
    touch(flat / "DICOMDIR", _dicom("", "")[:140])
    touch(flat / "report.dcm", _dicom("NONE", "5.5", sop="88.33"))
    touch(flat / "label alone.dcm", _dicom("LABEL", "6.6"))
    slides = collect([flat])
    assert (len(names(slides)), problems(slides)) == (2, {})
    assert all(name.startswith("flat-") for name in names(slides))
    assert names(collect([flat / "DICOMDIR"])) == names(slides)
    every = collect(sorted(flat.iterdir()))
    assert sorted(names(every)) == sorted(names(slides))
    assert all(slide.skipped for slide in every if slide.problem)
    one = slides[0].path
    assert {path.name[0] for path in (one, *parts_of(one))} == {one.name[0]}


def test_a_manifest_may_name_a_dicom_folder_or_any_file_of_it(series: Path, tmp_path: Path) -> None:
    rows = f"a,{series / 'A'},0.5\nb,{next((series / 'B').iterdir())},\n"
    touch(tmp_path / "m.csv", f"slide_id,path,mpp\n{rows}c,{series},\n".encode())
    slides = collect([tmp_path / "m.csv", series])
    assert [(slide.slide_id, slide.mpp) for slide in slides if not slide.problem] == [("a", 0.5), ("b", None)]
    assert "holds 2 files that may be slides" in problems(slides)[series.name]


@pytest.mark.parametrize("key", ["s.vms", "p.vms", "S.VMU"])
def test_a_key_file_is_the_slide_and_its_pictures_are_none(tmp_path: Path, key: str) -> None:
    files = vms(tmp_path / "x", key)
    for arguments in ([tmp_path], files, files[::-1], [files[1], tmp_path]):
        slides = collect(arguments)
        assert (names(slides), problems(slides)) == ([key[0]], {})
    alone = collect(files[1:])
    assert names(alone) == []
    assert all(f"part of the slide {key}" in why and f"name {key} itself" in why for why in problems(alone).values())
    assert len(problems(alone)) == 3


def _ome(folder: Path, name: str, images: list[list[str]]) -> Path:
    planes = [
        "".join(f'<TiffData><UUID FileName="{file}">urn:x</UUID></TiffData>' for file in files) for files in images
    ]
    xml = "".join(f'<Image><Pixels Type="uint8">{data}</Pixels></Image>' for data in planes)
    path = folder / name
    xml = f'<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">{xml}</OME>'
    tifffile.imwrite(path, np.zeros((16, 16, 3), np.uint8), photometric="rgb", description=xml, metadata=None)
    return path


def test_planes_of_one_image_in_several_ome_tiffs_are_one_slide(tmp_path: Path) -> None:
    planes = ["z0.ome.tif", "z1.ome.tif", "z2.ome.tif"]
    files = [_ome(tmp_path, name, [planes]) for name in planes]
    others = [_ome(tmp_path, name, [["a.ome.tiff"], ["b.ome.tiff"]]) for name in ("a.ome.tiff", "b.ome.tiff")]
    _ome(tmp_path, "single.ome.tif", [["single.ome.tif", "away.ome.tif"]])
    touch(tmp_path / "broken.ome.tif", b"II*\0")
    slides = collect([tmp_path])
    assert (names(slides), problems(slides)) == (["a.ome", "b.ome", "broken.ome", "single.ome", "z0.ome"], {})
    assert parts_of(files[0]) == tuple(files[1:])
    assert [parts_of(path) for path in (files[1], *others)] == [(), (), ()]
    assert "part of the slide z0.ome.tif" in problems(collect([files[2]]))["z2.ome.tif"]
    before = slide_fingerprint(files[0])
    touch(files[1], files[1].read_bytes() + b"!")
    assert slide_fingerprint(files[0]) != before


def test_a_mirax_slide_is_its_file_and_the_folder_holds_its_pixels(tmp_path: Path) -> None:
    touch(tmp_path / "m.mrxs")
    pixels = [touch(tmp_path / "m" / name) for name in ("Slidedat.ini", "Data0000.dat", "preview.jpg")]
    assert (names(collect([tmp_path])), problems(collect([tmp_path]))) == (["m"], {})
    assert "holds the pixels of m.mrxs: name that file" in problems(collect([tmp_path / "m"]))["m"]
    touch(tmp_path / "z.dzi")
    touch(tmp_path / "z_files" / "11" / "0_0.jpeg")
    slides = collect([tmp_path])
    assert names(slides) == ["m"]
    assert "no reader for .dzi" in problems(slides)["z.dzi"]
    assert parts_of(tmp_path / "m.mrxs") == tuple(sorted(pixels))
    assert own_folders(tmp_path / "m.mrxs") == [tmp_path / "m"]


@pytest.mark.parametrize(
    "name",
    [
        *("A_label.png", "A-macro.jpg", "a.Label.TIF", "A.svs - macro.png", "A.svs_thumbnail.jpg"),
        *("A (label image).png", "Alabel.jpeg", "A_overview.jpg", "A_slide_label.bmp", "A#macro.jfif"),
    ],
)
def test_exported_pictures_of_a_slide_are_none(tmp_path: Path, name: str) -> None:
    slide, picture = touch(tmp_path / "A.svs"), touch(tmp_path / name)
    for arguments in ([tmp_path], [slide, picture], [picture, slide]):
        slides = collect(arguments)
        assert (names(slides), problems(slides)) == (["A"], {})
    assert "picture about it" in problems(collect([picture]))[name]
    before = slide_fingerprint(slide)
    picture.unlink()
    assert slide_fingerprint(slide) == before == fingerprint(slide)


@pytest.mark.parametrize("name", ["B_map.png", "labelled.png", "macrophages.jpg", "B2.png", "overview.png"])
def test_other_pictures_are_slides(tmp_path: Path, name: str) -> None:
    touch(tmp_path / "B.svs")
    touch(tmp_path / name)
    assert sorted(names(collect([tmp_path]))) == sorted(["B", Path(name).stem])


@pytest.mark.parametrize("name", ["label.png", "macro.jpg", "x_Macro.jpg", "x label image.tif"])
def test_a_label_alone_is_not_screened_and_that_is_said(tmp_path: Path, name: str) -> None:
    touch(tmp_path / name)
    (lone,) = collect([tmp_path])
    assert "patient's name" in lone.problem
    assert not lone.skipped  # nothing else is there: the folder holds no slide
    touch(tmp_path / "A.svs")
    slides = collect([tmp_path])
    assert names(slides) == ["A"]
    assert [slide.skipped for slide in slides if slide.problem] == [True]


def test_a_list_cannot_make_a_slide_of_a_part(tmp_path: Path) -> None:
    vms(tmp_path)
    for name in ("A.svs", "A_label.png", "macro.png"):
        touch(tmp_path / name)
    touch(tmp_path / "m.csv", b"slide_id,path\na,p.jpg\nb,A_label.png\nc,A.svs\nd,macro.png\n")
    slides = collect([tmp_path / "m.csv", tmp_path])
    assert names(slides) == ["c", "d", "s"]  # whoever lists a lone picture of that name knows what it is
    assert [slide.slide_id for slide in slides if slide.problem and not slide.skipped] == ["a", "b"]
    assert "list s.vms itself" in problems(slides)["p.jpg"]


def test_a_slide_changes_with_any_of_its_files(series: Path, tmp_path: Path) -> None:
    shutil.copytree(series / "A", tmp_path / "d")
    touch(tmp_path / "m.mrxs")
    touch(tmp_path / "m" / "Data0000.dat")
    key, *_ = vms(tmp_path / "v")
    largest = max((tmp_path / "d").iterdir(), key=lambda path: path.stat().st_size)
    for main in (tmp_path / "m.mrxs", key, largest):
        seen = {slide_fingerprint(main)}
        for part in (main, *parts_of(main)):
            part.write_bytes(part.read_bytes() + b"!")
            seen.add(slide_fingerprint(main))
        assert len(seen) == len(parts_of(main)) + 2
    for number, path in enumerate(sorted((tmp_path / "d").iterdir())):  # the names of DICOM files mean nothing
        path.rename(path.with_name(f"IM{number}"))
    (slide,) = collect([tmp_path / "d"])
    assert slide_fingerprint(slide.path) in seen


def test_a_single_file_keeps_its_fingerprint(tmp_path: Path) -> None:
    for name in ("a.svs", "b.png", "c.dcm", "d.vms", "e.mrxs", "f"):
        path = touch(tmp_path / name, name.encode())
        assert slide_fingerprint(path) == fingerprint(path)
    with pytest.raises(OSError, match="none"):
        slide_fingerprint(tmp_path / "none.svs")


def test_a_folder_that_is_not_there_is_an_empty_one(tmp_path: Path) -> None:
    view = FolderView(tmp_path / "none")
    assert (view.wholes, view.aside) == ([], {})
