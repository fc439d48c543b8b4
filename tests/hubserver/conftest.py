"""A Dolt remote of our hub, for the tests that meet it by the program and by hand."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hubserver.remote_place import Machine, Place, home_of, serving


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with serving(tmp_path_factory.mktemp("hub")) as made:
        yield made


@pytest.fixture
def machine(place: Place, tmp_path: Path) -> Machine:
    place.desk.pushes.clear()
    return Machine(home_of(tmp_path, "somebody"), place.base)
