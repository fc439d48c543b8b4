"""The `dolt` program: which one is taken, what it may see, and what its failures become."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from wasteland.dolt import binary
from wasteland.errors import Misconfigured, Unreachable, WastelandError


@pytest.fixture(autouse=True)
def machine(tmp_path, monkeypatch):
    """A user with nothing installed."""
    for name in ("WL_DOLT", "DOLT_ROOT_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("PATH", f"{tmp_path / 'path'}{os.pathsep}/usr/bin{os.pathsep}/bin")
    return tmp_path


def a_dolt(path: Path, version: str = "1.83.2", then: str = "") -> Path:
    """A program that knows its version, counts how often it is asked, and else does `then`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    asked = f'echo x >> "{path}.asked"; echo "dolt version {version}"; exit'
    path.write_text(f'#!/bin/sh\nif [ "$1" = version ]; then {asked}; fi\n{then}\n')
    path.chmod(0o755)
    return path


def test_without_a_dolt_the_way_to_get_one_is_named():
    with pytest.raises(Misconfigured) as failed:
        binary.find()
    assert "scripts/setup" in (failed.value.hint or "")


def test_a_dolt_on_the_path_is_asked_for_its_version_once(machine):
    program = a_dolt(machine / "path" / "dolt")

    assert binary.find() == program
    assert binary.find() == program
    assert Path(f"{program}.asked").read_text() == "x\n"


def test_a_dolt_that_was_replaced_is_asked_again(machine):
    program = a_dolt(machine / "path" / "dolt")
    binary.find()
    a_dolt(program, "1.9.0")

    with pytest.raises(Misconfigured, match=r"1\.9\.0; 1\.82\.4 or later"):
        binary.find()


def test_an_old_dolt_on_the_path_gives_way_to_the_one_that_setup_built(machine):
    a_dolt(machine / "path" / "dolt", "1.82.3")
    ours = a_dolt(machine / "data" / "wasteland" / "bin" / "dolt")

    assert binary.find() == ours


def test_a_named_dolt_comes_first(machine, monkeypatch):
    a_dolt(machine / "path" / "dolt")
    monkeypatch.setenv("WL_DOLT", str(a_dolt(machine / "mine")))
    assert binary.find() == machine / "mine"

    monkeypatch.setenv("WL_DOLT", str(machine / "nothing"))
    with pytest.raises(Misconfigured, match="WL_DOLT"):
        binary.find()


def test_no_secret_reaches_dolt(machine, monkeypatch):
    for name in ("DOLTHUB_TOKEN", "GITHUB_TOKEN", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "hush-hush")
    a_dolt(machine / "path" / "dolt", then="env")

    seen = binary.run(["log"], cwd=machine, env=binary.environment(machine / "h"), timeout=10).stdout
    assert "hush-hush" not in seen
    assert f"DOLT_ROOT_PATH={machine / 'h'}\n" in seen
    assert "TZ=UTC\n" in seen


def test_the_address_that_the_user_gave_to_dolt_stays_where_it_is(machine):
    settings = machine / "home" / ".dolt" / "config_global.json"
    settings.parent.mkdir(parents=True)
    for name, shown in (("Ada", "Ada"), ("ada@example.com", None)):
        settings.write_text(json.dumps({"user.name": name, "user.email": "ada@example.com"}))
        home = binary.dolt_home(machine / "data")
        assert "example.com" not in (home / ".dolt" / "config_global.json").read_text()
        assert binary.user_name(home) == shown


def test_the_home_sends_no_statistics_and_has_a_name_for_commits(machine):
    home = binary.dolt_home(machine / "data")
    settings = json.loads((home / ".dolt" / "config_global.json").read_text())

    assert settings["metrics.disabled"] == "true"
    assert settings["user.name"]
    assert settings["user.email"]
    assert home.stat().st_mode & 0o077 == 0
    assert not (home / ".dolt" / "creds").exists()


def test_the_home_follows_the_users_own_dolt(machine):
    users = machine / "home" / ".dolt"
    (users / "creds").mkdir(parents=True)
    words = {"user.name": "Ada", "user.creds": "abc", "sqlserver.global.signingkey": "F00", "init.defaultbranch": "x"}
    (users / "config_global.json").write_text(json.dumps(words))

    home = binary.dolt_home(machine / "data")
    settings = json.loads((home / ".dolt" / "config_global.json").read_text())
    assert {name: settings.get(name) for name in words} == words | {"init.defaultbranch": None}
    assert (home / ".dolt" / "creds").resolve() == (users / "creds").resolve()


def test_credentials_made_later_are_found(machine):
    home = binary.dolt_home(machine / "data")
    (machine / "home" / ".dolt" / "creds").mkdir(parents=True)
    binary.dolt_home(machine / "data")

    assert (home / ".dolt" / "creds").is_dir()


def test_a_failure_carries_dolts_first_message_made_safe(machine):
    a_dolt(machine / "path" / "dolt", then=r"printf 'cloning x\n\nno \033[31mdata\nmore\n' >&2; exit 1")

    with pytest.raises(WastelandError, match=r"dolt sql failed: no \\x1b\[31mdata$") as failed:
        binary.run(["sql"], cwd=machine, env={}, timeout=10)
    assert not failed.value.retryable
    with pytest.raises(Unreachable):
        binary.run(["clone"], cwd=machine, env={}, timeout=10)
    assert binary.run(["clone"], cwd=machine, env={}, timeout=10, check=False).returncode == 1


def test_what_does_not_end_is_ended_with_its_children(machine):
    a_dolt(machine / "path" / "dolt", then=f"sleep 60 & echo $! > {machine}/child; wait")

    with pytest.raises(Unreachable, match="did not end"):
        binary.run(["fetch"], cwd=machine, env={"PATH": "/usr/bin:/bin"}, timeout=0.5)
    child = Path(f"/proc/{(machine / 'child').read_text().strip()}/stat")
    assert not child.exists() or child.read_text().split()[2] == "Z"


def test_input_reaches_dolt_and_nothing_waits_for_a_terminal(machine):
    a_dolt(machine / "path" / "dolt", then="cat")

    assert binary.run(["sql"], cwd=machine, env={"PATH": "/usr/bin:/bin"}, timeout=10, input="é").stdout == "é"
    assert binary.run(["sql"], cwd=machine, env={"PATH": "/usr/bin:/bin"}, timeout=10).stdout == ""


def test_a_folder_that_is_gone_is_said_so(machine):
    a_dolt(machine / "path" / "dolt")

    with pytest.raises(Misconfigured, match="could not be started"):
        binary.run(["sql"], cwd=machine / "gone", env={}, timeout=10)
