"""The commands ``stride-monai data ...`` as a user types them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import dataset_samples as samples
import pytest
from typer.testing import CliRunner, Result

from stride_monai.cli.main import app
from stride_monai.data import read_manifest
from stride_monai.errors import ConfigError, ManifestError

runner = CliRunner()


def data(*arguments: object) -> Result:
    return runner.invoke(app, ["data", *map(str, arguments)])


def _text(result: Result) -> str:
    return " ".join(result.output.split())


def test_import_split_and_audit(tmp_path: Path) -> None:
    source = samples.folder_per_class(tmp_path / "f")
    out = tmp_path / "cohort"
    done = data("import", "folder", source, "--out", out, "--mpp", 0.25)
    assert done.exit_code == 0, done.output
    assert "6 images, 6 cells (NILM 2, ASC-H/HSIL 4), 0 annotated regions" in _text(done)
    assert "the patient of 6 of 6 images is not known" in _text(done)

    refused = data("split", out)
    assert isinstance(refused.exception, ManifestError)
    assert "has splits already" in str(refused.exception)
    done = data("split", out, "--overwrite", "--test", 0.34, "--validation", 0.25, "--seed", 3)
    assert done.exit_code == 0, done.output
    assert "LEAKS the patient of 6 of 6 images is not known" in _text(done)
    facts = json.loads((out / "split.json").read_text())
    assert facts["images"] == {"train": 3, "validation": 1, "test": 2}
    assert facts["groups"] == {"patients": 0, "specimens": 0, "single images": 6}
    splits = [record.split for record in read_manifest(out / "manifest.csv")]
    assert {name: splits.count(name) for name in facts["images"]} == facts["images"]

    # The samples of one class are drawn alike: they are near-duplicates across the splits.
    done = data("audit", out)
    assert done.exit_code == 1
    assert "near-duplicate" in done.output or "content" in done.output
    listed = json.loads(data("audit", out, "--json").output)
    assert len(listed["findings"]) == sum(
        line.split(" ")[0] in {"near-duplicate", "content"} for line in done.output.splitlines()
    )


def test_lossy_labels_are_marked_and_what_is_left_out_is_told(tmp_path: Path) -> None:
    source = samples.sipakmed(tmp_path / "s")
    (source / "im_Koilocytotic" / "im_Koilocytotic" / "001.bmp").unlink()
    assert isinstance(
        data("import", "sipakmed", source, "--out", tmp_path / "o", "--mpp", 0.2).exception, ManifestError
    )
    done = data("import", "sipakmed", source, "--out", tmp_path / "o", "--mpp", 0.2, "--skip-broken")
    assert done.exit_code == 0, done.output
    assert "lossy" in done.output
    assert "problems image 1: all in" in _text(done)


def test_a_held_out_centre_is_for_testing_as_a_whole(tmp_path: Path) -> None:
    source = samples.riva(tmp_path / "r")
    data("import", "riva", source, "--out", tmp_path / "o", "--mpp", 0.25, "--centre", "BA")
    assert data("split", tmp_path / "o", "--overwrite", "--hold-out", "BA").exit_code == 0
    assert {record.split for record in read_manifest(tmp_path / "o" / "manifest.csv")} == {"test"}


def test_a_split_by_patient_needs_patients(tmp_path: Path) -> None:
    source = samples.riva(tmp_path / "r")
    rule = r"([A-Z]+_\d+)_\d+\.png$"
    data("import", "riva", source, "--out", tmp_path / "o", "--mpp", 0.25, "--slide-from", rule)
    refused = data("split", tmp_path / "o", "--overwrite", "--by", "patient").exception
    assert "the patient of 3 of 3 images is not known, e.g. of 'LSIL_45_3'" in str(refused)
    assert data("split", tmp_path / "o", "--overwrite", "--by", "slide").exit_code == 0
    assert isinstance(data("split", tmp_path / "o", "--overwrite", "--by", "cell").exception, ManifestError)


def test_options_of_a_format_are_name_and_value(tmp_path: Path) -> None:
    source = samples.sipakmed(tmp_path / "s")
    call = ("import", "sipakmed", source, "--out", tmp_path / "o", "--mpp", 0.2, "--option")
    assert isinstance(data(*call, "cropped").exception, ConfigError)
    assert data(*call, "part=cropped").exit_code == 0


def test_an_own_map_from_a_file(tmp_path: Path) -> None:
    source = samples.sipakmed(tmp_path / "s")
    path = samples.as_json(tmp_path / "map.json", {"Dyskeratotic": {"label": "HSIL", "lossy": True}})
    done = data("import", "sipakmed", source, "--out", tmp_path / "o", "--mpp", 0.2, "--map", path)
    assert "2 cells (LSIL 1, ASC-H/HSIL 1)" in _text(done)


def test_an_error_is_one_line_and_status_two(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "stride_monai",
        "data",
        "import",
        "nix",
        str(tmp_path),
        "--out",
        str(tmp_path / "o"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("error unknown importer 'nix': choose from cric, riva")
    assert len(done.stderr.strip().splitlines()) == 1


def test_help_imports_nothing_heavy() -> None:
    heavy = {"torch", "numpy", "PIL", "pyarrow", "monai", "yaml"}
    code = f"import sys; import stride_monai.cli.main; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.realdata
def test_the_real_fields_do_not_look_alike(real_data: Path, tmp_path: Path) -> None:
    assert data("import", "cric", real_data / "cric", "--out", tmp_path).exit_code == 0
    assert data("split", tmp_path, "--test", 0.3, "--validation", 0.2).exit_code == 0
    done = data("audit", tmp_path)
    assert done.exit_code == 0, done.output
    assert "no leak found" in done.output
    assert "the looks of 242 cells compared" in done.output


def test_splits_and_turned_pictures_are_told(tmp_path: Path) -> None:
    source = tmp_path / "in"
    size, box = samples.turned(source / "val" / "a.jpg", 3)
    samples.cell_in("yolo", source, source / "val" / "a.jpg", size, box)
    done = data("import", "yolo", source, "--out", tmp_path / "out", "--mpp", 0.25, "--labels-on", "stored")
    assert done.exit_code == 0, done.output
    assert "splits: validation 1" in _text(done)
    assert "1 pictures have an orientation tag, e.g. a.jpg (3)" in _text(done)
    assert json.loads((tmp_path / "out" / "import.json").read_text())["options"]["labels_on"] == "stored"
