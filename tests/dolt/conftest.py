"""What all tests of the database share."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from wasteland.dolt import binary


@pytest.fixture(autouse=True)
def _collected() -> Iterator[None]:
    """What a refused connection left is collected here, not in somebody else's test."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty Dolt database that was never served."""
    folder = tmp_path_factory.mktemp("template")
    binary.run(["init"], cwd=folder, env=binary.environment(binary.dolt_home(folder.parent / "template-data")))
    return folder
