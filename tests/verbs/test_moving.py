"""Homes and hubs that have moved since a wasteland was joined."""

from __future__ import annotations

import json

from tests.conftest import User, World


def moved(world: World, user: User, name: str) -> User:
    """The same user, whose home has another name now."""
    user.home.rename(world.folder / name)
    user.home = world.folder / name
    return user


def test_a_home_that_has_moved_goes_on_working(world):
    poster = world.create("poster")
    worker = moved(world, world.join("worker", by=poster), "robert")  # its server still runs
    item = worker.json("post", "--title", "From the new home")
    assert item["pull"]["number"]
    assert str(worker.clone()) in worker.ok("list")
    found = {one["what"]: one for one in worker.json("doctor")["checks"]}
    assert "wl doctor --fix" in found["clone"]["hint"]
    assert found["clone"]["state"] == "warning"
    worker.ok("doctor", "--fix")
    file = worker.home / ".config/wasteland/wastelands/acme/commons.json"
    assert json.loads(file.read_text())["local_dir"] == str(worker.clone())
    assert {one["what"]: one["state"] for one in worker.json("doctor")["checks"]}["clone"] == "ok"


def test_a_clone_that_is_neither_there_nor_here_is_said(world):
    poster = world.create("poster")
    poster.stop()
    poster.clone().rename(world.folder / "away")
    lost = poster.wl("browse")
    assert lost.code == 9
    assert f"there is no clone at {poster.clone()}" in lost.err


def test_a_hub_whose_folder_has_moved_is_found_again(world):
    poster = world.create("poster")
    worker = world.join("worker", by=poster)
    world.hub.rename(world.folder / "elsewhere")
    lost = worker.wl("sync")
    assert (lost.code, "wl config set remote-base" in lost.err) == (8, True)
    wrong = worker.wl("config", "set", "remote-base", str(world.folder))
    assert (wrong.code, "no wasteland acme/commons" in wrong.err) == (4, True)
    for user in (poster, worker):
        user.ok("config", "set", "remote-base", str(world.folder / "elsewhere"))
    assert worker.ok("config", "get", "remote-base").strip() == str(world.folder / "elsewhere")
    number = worker.json("post", "--title", "To the new place")["pull"]["number"]
    poster.ok("merge", str(number))
    assert worker.json("sync")["open_wanted"] == 1
