"""Configuration, clone and commons that a peer's program made are taken over as they are."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.conftest import User, World
from wasteland.dolt import binary

SCHEMA = Path(__file__).parents[2] / "schema" / "commons.sql"


@pytest.fixture
def peer(world: World) -> User:
    """A rig that joined with a peer's program: a commons without our tables, a clone and a configuration file."""
    user = world.user("me")
    env = binary.environment(user.home) | {"DOLT_ROOT_PATH": str(user.home)}
    source, remotes = world.folder / "source", world.folder / "remotes"
    source.mkdir()

    def dolt(*words: str, cwd: Path = source, text: str | None = None) -> None:
        binary.run(list(words), cwd=cwd, env=env, input=text)

    dolt("init")
    dolt("sql", text=SCHEMA.read_text())
    dolt("sql", "-q", "INSERT INTO wanted (id, title, status, posted_by, created_at, updated_at) VALUES "
         "('w-com-004', 'Old item', 'open', 'maint', NOW(), NOW())")  # fmt: skip
    dolt("add", "-A")
    dolt("commit", "-m", "Initialize commons schema v1.0")
    dolt("remote", "add", "origin", f"file://{remotes}/hop/wl-commons")
    dolt("push", "origin", "main")
    shutil.copytree(remotes / "hop", remotes / "me-org")
    clone = user.home / ".local/share/wasteland/hop/wl-commons"
    clone.parent.mkdir(parents=True)
    dolt("clone", f"file://{remotes}/me-org/wl-commons", str(clone), cwd=clone.parent)
    dolt("remote", "add", "upstream", f"file://{remotes}/hop/wl-commons", cwd=clone)
    config = user.home / ".config/wasteland/wastelands/hop/wl-commons.json"
    config.parent.mkdir(parents=True)
    config.write_text(json.dumps({
        "upstream": "hop/wl-commons", "provider_type": "file", "upstream_url": f"file://{remotes}/hop/wl-commons",
        "fork_org": "me-org", "fork_db": "wl-commons", "local_dir": str(clone), "rig_handle": "me",
        "hop_uri": "hop://me@x.y/me/", "joined_at": "2026-11-21T02:00:18.716501848Z", "mode": "pr", "backend": "local",
        "github_repo": "a/b", "future": {"x": 1},
    }))  # fmt: skip
    return user


def test_a_peers_rig_goes_on_without_joining_again(peer):
    assert [item["id"] for item in peer.json("browse")] == ["w-com-004"]
    claimed = peer.json("claim", "w-com")
    assert (claimed["branch"], claimed["pull"]["number"]) == ("wl/me/w-com-004", 1)
    done = peer.wl("done", "w-com-004", "--evidence", "x").ok()
    assert "unsigned: this commons has no tables for signatures" in done.err
    card = peer.json("status", "w-com-004")
    assert card["item"]["status"] == "in_review"
    assert card["completion"]["hop_uri"] == "hop://me@x.y/me/"
    assert peer.wl("verify", "completion", card["completion"]["id"]).code == 2


def test_fields_that_we_do_not_know_are_written_back(peer):
    peer.ok("config", "set", "mode", "wild-west")
    found = json.loads((peer.home / ".config/wasteland/wastelands/hop/wl-commons.json").read_text())
    assert (found["mode"], found["github_repo"], found["future"]) == ("wild-west", "a/b", {"x": 1})
    assert found["joined_at"] == "2026-11-21T02:00:18.716501848Z"


def test_the_clone_holds_nothing_of_ours_and_doctor_says_who_made_it(peer):
    clone = peer.home / ".local/share/wasteland/hop/wl-commons"
    before = {path.name for path in clone.iterdir()}
    peer.ok("browse")
    assert {path.name for path in clone.iterdir()} == before
    checks = {check["what"]: check for check in peer.json("doctor")["checks"]}
    assert checks["clone"]["state"] == "warning"
    assert "another program" in checks["clone"]["detail"]


def test_the_server_of_a_clone_that_was_taken_over_stops_soon(peer):
    import time

    peer.env["WL_SERVER_IDLE"] = ""
    peer.ok("browse")
    status = peer.json("server", "status")
    assert status["idle_seconds"] == 2.0
    deadline = time.monotonic() + 30
    while Path(f"/proc/{status['server_pid']}").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not Path(f"/proc/{status['server_pid']}").exists()
