from __future__ import annotations

from pathlib import Path

from stride_monai.phantom import render_slide
from stride_monai.screening.inputs import collect
from stride_monai.slides import open_slide


def _touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"")
    return path


def test_folders_files_and_manifests_become_slides_in_order(tmp_path: Path) -> None:
    for name in ("b.svs", "a.tiff", "deep/c.png", "notes.txt", ".hidden/d.svs"):
        _touch(tmp_path / "folder" / name)
    single = _touch(tmp_path / "single.svs")
    _touch(tmp_path / "listed.svs")
    manifest = tmp_path / "list.csv"
    manifest.write_text("slide_id,path,mpp\nX1,listed.svs,0.5\n")
    slides = collect([single, tmp_path / "folder", manifest])
    assert [(s.slide_id, s.mpp) for s in slides] == [
        ("single", None),
        ("a", None),
        ("b", None),
        ("c", None),
        ("X1", 0.5),
    ]
    assert not any(s.problem for s in slides)


def test_a_file_named_twice_is_screened_once(tmp_path: Path) -> None:
    slide = _touch(tmp_path / "a.svs")
    assert len(collect([slide, tmp_path, slide])) == 1


def test_two_files_of_one_id_are_both_refused_and_the_rest_is_not(tmp_path: Path) -> None:
    slides = collect([_touch(tmp_path / "1" / "a.svs"), _touch(tmp_path / "2" / "a.svs"), _touch(tmp_path / "b.svs")])
    assert ["same id 'a'" in s.problem for s in slides] == [True, True, False]


def test_no_slide_takes_the_name_of_a_file_of_the_run(tmp_path: Path) -> None:
    names = ("errors.svs", "summary.csv.svs", "run.json.svs", "error.svs")
    slides = collect([_touch(tmp_path / name) for name in names])
    assert ["cannot name a folder of results" in s.problem for s in slides] == [True, True, True, False]


def test_what_is_no_slide_is_a_problem_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad.csv").write_text("path,mpp\na.svs,wide\n")
    slides = collect([tmp_path / "empty", tmp_path / "absent.svs", tmp_path / "bad.csv"])
    assert [bool(s.problem) for s in slides] == [True, True, True]
    assert "holds no slide" in slides[0].problem
    assert "no such file" in slides[1].problem
    assert all("\n" not in s.problem and s.problem.count(str(tmp_path)) == 0 for s in slides)


def test_the_files_of_a_dicom_series_are_one_slide_with_the_name_of_its_folder(tmp_path: Path) -> None:
    for name in ("one", "two"):
        render_slide(tmp_path / name, "NILM", diameter_mm=0.15, margin_mm=0.1, mpp=0.5, file_format="dicom")
    alone = tmp_path / "three" / "alone.dcm"
    alone.parent.mkdir()
    alone.write_bytes((tmp_path / "one" / "level-0.dcm").read_bytes())
    damaged = [_touch(tmp_path / "four" / name) for name in ("x.dcm", "y.dcm")]
    slides = collect([tmp_path])
    assert [s.slide_id for s in slides] == [*(d.stem for d in damaged), "one", "alone", "two"]
    assert not any(s.problem for s in slides)
    with open_slide(slides[2].path) as slide:
        assert slide.facts.format == "dicom"
        assert len(list(slides[2].path.parent.iterdir())) > 2
