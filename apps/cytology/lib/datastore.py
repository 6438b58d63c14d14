"""MONAI Label's datastore over a folder of slides: ids are looked up, they never become a path.

MONAI Label's own joins ids to paths, so that ``../x`` leaves the folder. Here an image is one of the slides that were
listed (:class:`stride_monai.annotations.SlideFolder`), a label lies under the id of such a slide, and tags are two.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from filelock import FileLock
from monailabel.interfaces.datastore import Datastore, DefaultLabelTag

from lib.exchange.reading import label_suffix
from lib.place import Place
from stride_monai.annotations import AccessError, SlideFolder
from stride_monai.annotations.slide_folder import is_plain_id
from stride_monai.errors import OutputError, StrideError
from stride_monai.files import moved, replacing, write_bytes
from stride_monai.slides import is_slide_path, open_slide

TAGS = (DefaultLabelTag.FINAL.value, DefaultLabelTag.ORIGINAL.value)
_INDEX = "datastore.json"

OnLabel = Callable[[str, Path, str, dict[str, Any]], None]


class StudiesDatastore(Datastore):
    """Slides of a folder and their labels.

    Args:
        on_label: told of a label (image id, file, tag, info) before it is kept; what it raises refuses the label.
    """

    def __init__(self, place: Place, on_label: OnLabel | None = None) -> None:
        self.place, self._on_label = place, on_label
        self._labels = place.work / "labels"
        for tag in TAGS:
            (self._labels / tag).mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(self._labels / ".lock")
        self.refresh()

    # --- images ---------------------------------------------------------------------------------------------------

    def refresh(self) -> None:
        self._slides = SlideFolder(self.place.studies)

    def list_images(self) -> list[str]:
        return self._slides.ids()

    def get_image_uri(self, image_id: str) -> str:
        """Path of a slide.

        Raises:
            AccessError: there is no slide of this id.
        """
        try:
            return str(self._slides.path_of(image_id))
        except AccessError:
            self.refresh()  # it may have come since
            return str(self._slides.path_of(image_id))

    def get_image(self, image_id: str, params: Any = None) -> Any:
        raise AccessError("slides are not sent", "they may hold pictures of their labels: open them where they are")

    def get_image_info(self, image_id: str) -> dict[str, Any]:
        path = Path(self.get_image_uri(image_id))
        return {**self._index()["images"].get(image_id, {}), "name": path.name}

    def update_image_info(self, image_id: str, info: dict[str, Any]) -> None:
        self.get_image_uri(image_id)
        with self._changing() as index:
            index["images"].setdefault(image_id, {}).update(info)

    def add_image(self, image_id: str, image_filename: str, image_info: dict[str, Any]) -> str:
        """Take in an uploaded slide; nothing that is there is replaced.

        Raises:
            AccessError: the id is none, or taken.
            SlideError, SpacingError: the file is no slide that can be opened.
        """
        source = Path(image_filename)
        suffix = source.suffix.lower()
        if not is_plain_id(image_id) or not is_slide_path(Path(f"x{suffix}")):
            raise AccessError("this cannot be the name of a slide", "send one file with a plain name and its suffix")
        target = self.place.studies / f"{image_id}{suffix}"
        with self._lock:
            if image_id in self.list_images() or target.exists():
                raise AccessError("there is a slide of this name", "send it under another one")
            with open_slide(source, mpp=self.place.mpp):
                pass  # what cannot be opened is refused here
            with replacing(target) as temporary:
                shutil.copy(source, temporary)
        self.refresh()
        self.update_image_info(image_id, {**image_info, "ts": int(time.time())})
        return image_id

    def remove_image(self, image_id: str) -> None:
        raise AccessError("slides are not removed by this server", "remove the file by hand")

    # --- labels ---------------------------------------------------------------------------------------------------

    def save_label(self, image_id: str, label_filename: str, label_tag: str, label_info: dict[str, Any]) -> str:
        """Keep the label of a slide; an earlier one of the same tag is kept as ``<id>.<time>``.

        Raises:
            AccessError: there is no such slide or tag.
            ManifestError: the label cannot be read.
        """
        self.get_image_uri(image_id)
        tag, source = _tag(label_tag), Path(label_filename)
        suffix = label_suffix(source)
        if self._on_label is not None:
            self._on_label(image_id, source, tag, label_info)
        folder = self._labels / tag
        with self._changing() as index:
            before = index["labels"][tag].get(image_id)
            if before and (folder / before["name"]).exists():
                moved(folder / before["name"], folder / f"{image_id}.{time.time_ns()}{before['suffix']}")
            write_bytes(folder / f"{image_id}{suffix}", source.read_bytes())
            info = {**label_info, "ts": int(time.time()), "name": f"{image_id}{suffix}", "suffix": suffix}
            index["labels"][tag][image_id] = info
        return image_id

    def get_label_uri(self, label_id: str, label_tag: str) -> str:
        """Path of a label; empty where the slide has none."""
        self.get_image_uri(label_id)
        found = self._index()["labels"][_tag(label_tag)].get(label_id)
        return str(self._labels / label_tag / found["name"]) if found else ""

    def get_label(self, label_id: str, label_tag: str, params: Any = None) -> Any:
        uri = self.get_label_uri(label_id, label_tag)
        return Path(uri).read_bytes() if uri else None

    def get_label_info(self, label_id: str, label_tag: str) -> dict[str, Any]:
        self.get_image_uri(label_id)
        return self._index()["labels"][_tag(label_tag)].get(label_id, {})

    def update_label_info(self, label_id: str, label_tag: str, info: dict[str, Any]) -> None:
        self.get_image_uri(label_id)
        with self._changing() as index:
            found = index["labels"][_tag(label_tag)].get(label_id)
            if found is None:
                raise AccessError("the slide has no such label", "save one first")
            found.update({name: value for name, value in info.items() if name not in {"name", "suffix"}})

    def get_labels_by_image_id(self, image_id: str) -> dict[str, str]:
        labels = self._index()["labels"]
        return {tag: image_id for tag in TAGS if image_id in labels[tag]}

    def get_label_by_image_id(self, image_id: str, tag: str) -> str:
        return self.get_labels_by_image_id(image_id).get(tag, "")

    def remove_label(self, label_id: str, label_tag: str) -> None:
        """Labels are set aside, as ``<id>.<time>``; what was read of them stays in the annotations."""
        self.get_image_uri(label_id)
        tag = _tag(label_tag)
        with self._changing() as index:
            found = index["labels"][tag].pop(label_id, None)
            if found and (self._labels / tag / found["name"]).exists():
                folder = self._labels / tag
                moved(folder / found["name"], folder / f"{label_id}.{time.time_ns()}{found['suffix']}")

    def get_labeled_images(self, label_tag: str | None = None, labels: list[str] | None = None) -> list[str]:
        final = self._index()["labels"][TAGS[0]]
        return [image_id for image_id in self.list_images() if image_id in final]

    def get_unlabeled_images(self, label_tag: str | None = None, labels: list[str] | None = None) -> list[str]:
        final = self._index()["labels"][TAGS[0]]
        return [image_id for image_id in self.list_images() if image_id not in final]

    def datalist(self, full_path: bool = True) -> list[dict[str, Any]]:
        """Slides that have a final label. Names alone: folders may be called after patients."""
        labels = self._index()["labels"][TAGS[0]]
        return [{"image": image_id, "label": labels[image_id]["name"]} for image_id in self.get_labeled_images()]

    def get_dataset_archive(self, limit_cases: int | None) -> str:
        raise AccessError("slides are not sent", "export the annotations: stride-monai annotations export")

    # --- the whole ------------------------------------------------------------------------------------------------

    def name(self) -> str:
        return self.place.studies.name

    def set_name(self, name: str) -> None:
        raise AccessError("the datastore is called after its folder", "rename that")

    def description(self) -> str:
        return "slides and their labels"

    def set_description(self, description: str) -> None:
        raise AccessError("the description is fixed")

    def status(self) -> dict[str, Any]:
        images, labels = self.list_images(), self._index()["labels"]
        return {
            "total": len(images),
            "completed": len(self.get_labeled_images()),
            "label_tags": {tag: len(labels[tag]) for tag in TAGS if labels[tag]},
        }

    def json(self) -> dict[str, Any]:
        index = self._index()
        objects = {
            image_id: {
                "image": {"info": index["images"].get(image_id, {})},
                "labels": {
                    tag: {"info": index["labels"][tag][image_id]} for tag in self.get_labels_by_image_id(image_id)
                },
            }
            for image_id in self.list_images()
        }
        return {"name": self.name(), "description": self.description(), "objects": objects}

    def _index(self) -> dict[str, Any]:
        path = self._labels / _INDEX
        empty: dict[str, Any] = {"images": {}, "labels": {tag: {} for tag in TAGS}}
        try:
            return {**empty, **json.loads(path.read_text(encoding="utf-8"))}
        except FileNotFoundError:
            return empty
        except (OSError, ValueError) as error:
            raise OutputError(f"{_INDEX} of the labels cannot be read ({error})", "bring back a copy of it") from error

    def _changing(self) -> _Changing:
        return _Changing(self)


class _Changing:
    """The index, under lock, written when the block ends well."""

    def __init__(self, store: StudiesDatastore) -> None:
        self._store = store

    def __enter__(self) -> dict[str, Any]:
        self._store._lock.acquire()
        try:
            self._index = self._store._index()
        except StrideError:
            self._store._lock.release()
            raise
        return self._index

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        try:
            if kind is None:
                text = json.dumps(self._index, indent=1, sort_keys=True, ensure_ascii=False)
                write_bytes(self._store._labels / _INDEX, text.encode())
        finally:
            self._store._lock.release()


def _tag(tag: str) -> str:
    if tag not in TAGS:
        raise AccessError("there is no such tag", f"use one of {', '.join(TAGS)}")
    return tag
