"""Two small screened slides, and apps over them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from extras import needs


@pytest.fixture(scope="session")
def study(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """``results`` and ``slides``: "slide one" and "切片 二", twelve cells each."""
    from review_samples import write_study

    return write_study(tmp_path_factory.mktemp("a study"))


@pytest.fixture
def make_app(study: tuple[Path, Path], tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """``create_app`` over the study, with a store of the test's own."""
    needs("fastapi", "review")
    from stride_monai.annotations import AnnotationStore
    from stride_monai.review import create_app

    stores = []

    def make(**options: Any) -> Any:
        stores.append(AnnotationStore(tmp_path / "annotations.sqlite"))
        return create_app(*study, stores[-1], **options)

    yield make
    for store in stores:
        store.close()
