"""The box: what cannot be reached from it, and what is refused where there is none."""

import json
import os
import socket
import sqlite3

import pytest
from conftest import Place, git

from gastown import sandbox
from gastown import town as towns
from gastown.errors import NotFound, Refused
from gastown.models import Phase


def test_an_agent_in_the_box_reaches_nothing_of_the_host(home_town, monkeypatch):
    """T-SBX."""
    canary = home_town.folder / "home" / "canary"
    canary.write_text("secret")
    monkeypatch.setenv("GT_TEST_SECRET", "secret")
    with socket.create_server(("127.0.0.1", 0)) as server:
        home_town.ask("escape", canary=canary, port=server.getsockname()[1])
        home_town.up()
    assert home_town.bead().phase is Phase.LANDED
    assert json.loads(git(home_town.origin, "show", "main:could.json")) == []


def test_what_an_agent_plants_in_its_clone_never_runs_on_the_host(home_town):
    """T-ESCAPE."""
    canary = home_town.folder / "canary"
    home_town.folder.chmod(0o777)
    home_town.ask("plant", canary=canary)
    home_town.up()
    assert home_town.bead().phase is Phase.LANDED
    assert not canary.exists()


@pytest.fixture
def no_box(monkeypatch):
    reasons = ("bubblewrap (bwrap) is not installed",)

    def open_box(runs):
        return sandbox.Box("L0", reasons, *sandbox.unprivileged(), sandbox.make_etc(runs / ".etc", 0))

    monkeypatch.setattr(sandbox, "open_box", open_box)


def test_l0_refuses_to_run_what_a_box_is_for(place, no_box):
    here = Place(place)
    here.ask("ok")
    here.up()
    bead = here.bead()
    assert bead.phase is Phase.READY
    assert "L0" in bead.reason
    assert "bubblewrap" in bead.reason
    assert here.runs() == []


def test_a_person_may_accept_one_run_of_a_local_bead_without_a_box(place, no_box):
    here = Place(place)
    here.ask("ok", no_sandbox=True)
    here.up()
    assert here.bead().phase is Phase.LANDED
    assert [run.level for run in here.runs()] == ["L0"]
    assert [gate.level for gate in here.merge().gates] == ["L0"]


def test_the_acceptance_is_for_one_run(place, no_box):
    here = Place(place)
    here.ask("crash", no_sandbox=True)
    here.up()
    assert len(here.runs()) == 1
    assert here.bead().phase is Phase.READY
    assert "L0" in here.bead().reason


ORDER = {"wanted_id": "w-1", "title": "t", "description": "mode: ok", "posted_by": "bob"}


def test_claimed_work_never_runs_without_a_box(place, no_box):
    here = Place(place)
    here.request("sling", bead="gt-1", rig="acme", order=ORDER, no_sandbox=True)
    here.up()
    with here.town() as town:
        assert town.ledger.beads() == []
    here.request("sling", bead="gt-1", rig="acme", order=ORDER)
    here.request("again", bead="gt-1", no_sandbox=True)
    here.up()
    assert here.runs() == []
    assert here.bead().sandbox == "required"
    with here.town() as town, pytest.raises(sqlite3.IntegrityError):
        town.ledger._db.execute("UPDATE bead SET sandbox = 'accepted'")


def test_a_box_that_leaks_is_no_box(place, boxed, monkeypatch):
    """The probe looks at what works, not at versions."""
    whole = sandbox._bwrap

    def leaky(*given):
        return [*whole(*given)[:2], "--share-net", *whole(*given)[2:]]

    monkeypatch.setattr(sandbox, "_bwrap", leaky)
    box = sandbox.open_box(place)
    assert box.level == "L0"
    assert any("TCP" in reason for reason in box.reasons)


def test_without_bubblewrap_the_level_says_so(place, monkeypatch):
    monkeypatch.setattr(sandbox.shutil, "which", lambda name: None)
    box = sandbox.open_box(place)
    assert (box.level, box.network) == ("L0", "host")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user for the box")
def test_runs_of_root_move_where_the_box_can_reach_them(place, boxed):
    (place / "shut").mkdir(mode=0o700)
    root = towns.install(place / "shut" / "town")
    with towns.Town(root) as town:
        assert town.runs.parent == towns.ELSEWHERE
        assert town.box.level == "L2"
        runs = town.runs
    for left in sorted(runs.rglob("*"), reverse=True):
        left.rmdir() if left.is_dir() else left.unlink()
    runs.rmdir()


def test_what_would_open_the_box_is_not_bound(home_town):
    with home_town.town() as town:
        for path in ("/", "/etc", os.environ["HOME"], str(home_town.folder), str(home_town.root / "rigs")):
            with pytest.raises(Refused):
                towns.check_bind(town, path)
        with pytest.raises(NotFound):
            towns.check_bind(town, str(home_town.root / "nowhere"))
