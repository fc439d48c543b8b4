"""An upstream whose history was rewritten, or that was deleted and made anew under its name."""

from __future__ import annotations

import shutil

import pytest

from tests.conftest import User, World


def made_anew(world: World) -> User:
    """Another wasteland under the name of the first, by the same hand; the hub's folder is a new one."""
    poster = world.users["poster"]
    poster.stop()
    shutil.rmtree(world.hub)
    shutil.rmtree(poster.home)
    return world.create("poster")


@pytest.fixture
def worker(world: World) -> User:
    """A rig with a draft, whose upstream was made anew."""
    poster = world.create("poster")
    worker = world.join("worker", by=poster)
    worker.ok("post", "--title", "Never landed")
    made_anew(world)
    return worker


def works(world: World, worker: User, pull: int) -> None:
    """A rig is registered upstream, and proposes an item that lands."""
    poster = world.users["poster"]
    poster.ok("merge", str(pull))
    worker.ok("sync")
    made = worker.json("post", "--title", "In the new one")
    poster.ok("merge", str(made["pull"]["number"]))
    assert worker.json("sync")["open_wanted"] == 1
    assert worker.json("doctor")["healthy"]


def branches(user: User) -> list[str]:
    found = user.python("print(*d.branches())").split()
    return sorted(found)


def test_an_upstream_that_was_made_anew_is_said_and_taken_on_request(world, worker):
    worker.ok("server", "stop")
    before = branches(worker)
    refused = worker.wl("sync")
    assert refused.code == 6
    assert "was made anew" in refused.err
    assert "wl sync --anew" in refused.err
    assert branches(worker) == before
    found = worker.json("sync", "--anew")
    assert [name.partition("/")[0] for name in found["kept"]] == ["aside", "lost"]
    drafts = "print(*[r['title'] for r in d.at('{}').rows('SELECT title FROM wanted')])"
    assert worker.python(drafts.format(found["kept"][1])) == "Never landed"
    works(world, worker, found["pull"])
    again = worker.json("sync", "--anew")
    assert (again["kept"], again["pull"]) == ([], None)


@pytest.mark.parametrize("fork", ["worker-org", "worker2-org"])
def test_an_upstream_that_was_made_anew_is_joined_by_who_left_the_old_one(world, worker, fork):
    worker.ok("leave")
    if fork == "worker2-org":
        shutil.move(worker.clone(), world.folder / "old")
    words = ["join", "acme/commons", "--remote-base", str(world.hub), "--fork-org", fork, "--handle", "worker"]
    refused = worker.wl(*words)
    assert refused.code == 6
    assert "--anew" in refused.err
    works(world, worker, worker.json(*words, "--anew")["pull"])


def test_a_rewritten_history_is_taken_on_request_and_work_on_it_goes_on(world):
    poster = world.create("poster")
    worker = world.join("worker", by=poster)
    poster.ok("merge", str(poster.json("post", "--title", "Taken back")["pull"]["number"]))
    worker.ok("sync")
    kept = worker.json("post", "--title", "Goes on")
    poster.python("d.as_root([\"CALL DOLT_RESET('--hard', 'HEAD~1')\", \"UPDATE rigs SET display_name = 'x'\","
           " \"CALL DOLT_COMMIT('-Am', 'other')\"])\nd.push('origin', 'main', force=True)")  # fmt: skip
    refused = worker.wl("sync")
    assert (refused.code, "was rewritten" in refused.err, "wl sync --anew" in refused.err) == (6, True, True)
    found = worker.json("sync", "--anew")
    assert [name.partition("/")[0] for name in found["kept"]] == ["aside"]
    assert found["pull"] is None
    assert "Taken back" not in worker.ok("browse")
    assert "Goes on" in worker.ok("browse")
    assert worker.wl("status", kept["item"]["id"]).code == 0
