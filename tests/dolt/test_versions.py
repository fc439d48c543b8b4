"""A newer Dolt has written: an older one is not started on it, and the sentence says what to do."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from wasteland.dolt import binary
from wasteland.dolt.server import Server
from wasteland.errors import Misconfigured, Unreachable, WastelandError
from wasteland.hubserver.engine import Engine

OLDER, NEWER = "1.83.0", "2.3.1"


@pytest.fixture
def server(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    clone = tmp_path / "org" / "db"
    shutil.copytree(template, clone)
    made = Server(clone, binary.dolt_home(tmp_path / "data"), idle=60)
    made.prepare()
    made.made()
    yield made
    made.stop()


@pytest.fixture
def use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Let WL_DOLT name the real program under another version, or one that does `instead`."""
    real = binary.find()

    def chosen(version: str, instead: str = "") -> None:
        program = tmp_path / f"dolt-{version}"
        program.write_text(
            f'#!/bin/sh\nif [ "$1" = version ]; then echo "dolt version {version}"; exit; fi\n'
            f'{instead or f"exec {real}"} "$@"\n'
        )
        program.chmod(0o755)
        monkeypatch.setenv("WL_DOLT", str(program))

    return chosen


def served(server: Server) -> None:
    server.connect().close()
    server.stop()


def logged(server: Server) -> None:
    binary.run(["log"], cwd=server.clone, env=binary.environment(server.home))


def test_an_older_dolt_is_not_started_on_a_clone_that_a_newer_one_wrote_to(server, use):
    for version in (OLDER, NEWER):
        use(version)
        served(server)
    use(OLDER)

    for start in (served, logged):
        with pytest.raises(Misconfigured) as refused:
            start(server)
        assert f"{server.clone} was last written to by Dolt {NEWER}" in refused.value.message
        assert f"dolt-{OLDER} is {OLDER}" in refused.value.message
        assert f"use {NEWER} or later: WL_DOLT=/path/to/dolt" in (refused.value.hint or "")
    assert not server.running()
    use(NEWER)
    served(server)


def test_a_fresh_clone_in_its_place_is_open_to_every_dolt(server, use):
    use(NEWER)
    served(server)
    server.prepare()
    use(OLDER)
    served(server)


def test_a_dolt_that_did_not_come_up_has_written_nothing(server, use):
    use(NEWER, "exit 1;")
    with pytest.raises(Unreachable):
        server.connect()
    use(OLDER)
    served(server)


def test_where_nothing_can_be_remembered_reading_goes_on(server, use):
    (server.folder / binary.WRITTEN).mkdir()
    use(NEWER)
    served(server)


@pytest.mark.parametrize("start", [served, logged])
def test_a_dolt_that_panics_gets_a_sentence(server, use, start):
    use(OLDER, "echo 'panic: table has unknown fields\n\ngoroutine 1 [running]:\nmain.main()' >&2; exit 2;")
    with pytest.raises(Misconfigured) as failed:
        start(server)
    assert failed.value.message == f"Dolt {OLDER} broke down on {server.clone}: table has unknown fields"
    assert "a newer Dolt may have written to it" in (failed.value.hint or "")


def test_the_databases_of_a_hub_are_kept_from_an_older_dolt(tmp_path, use, monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    use(NEWER)
    hub = Engine(tmp_path / "hub")
    hub.start()
    hub.stop()
    use(OLDER)
    with pytest.raises(WastelandError, match=f"Dolt {NEWER}, and .*{OLDER}"):
        hub.start()
    hub.stop()
    use(NEWER)
    hub.start()
    hub.stop()
