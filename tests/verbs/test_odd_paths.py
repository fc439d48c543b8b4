"""Homes and folders whose names hold letters that mean something to some program."""

from __future__ import annotations

import pytest

from tests.conftest import Done, User, World

FINE = "a#b? 'c' \"d\" ä; & + ` : @ $x *"


def at(world: World, name: str) -> User:
    """A user whose home has this name."""
    home = world.folder / name
    home.mkdir()
    world.users[name] = User("poster", home)
    return world.users[name]


def create(user: User, hub: str, *more: str) -> Done:
    return user.wl("create", "acme/commons", "--remote-base", hub, "--handle", "poster", *more)


def test_a_home_with_odd_letters_works(world):
    poster = at(world, FINE)
    create(poster, str(world.hub)).ok()
    made = poster.json("post", "--title", "From an odd home")
    poster.ok("merge", str(made["pull"]["number"]))
    assert poster.json("sync")["open_wanted"] == 1
    assert poster.json("doctor")["healthy"]
    assert poster.json("server", "stop")["stopped"]


@pytest.mark.parametrize("name", ["100% mine", "50%25", "back\\slash", "two\nlines", "caf\udce9"])
def test_a_home_that_dolt_cannot_work_in_is_named(world, name):
    poster = at(world, name)
    refused = create(poster, str(world.hub))
    assert refused.code == 9
    assert "\nwl: Dolt cannot work in " in refused.err
    assert "XDG_DATA_HOME" in refused.err
    assert len(refused.err.splitlines()) == 3
    assert poster.ok("list").startswith("No wastelands")
    assert create(poster, str(world.hub), "--json").code == 9
    poster.env["XDG_DATA_HOME"] = str(world.folder / "plain")
    create(poster, str(world.hub)).ok()
    poster.ok("server", "stop")


def test_a_home_that_has_moved_to_where_dolt_cannot_work_is_named(world):
    poster = world.create("poster")
    poster.stop()
    poster.home = poster.home.rename(world.folder / "50% off")
    refused = poster.wl("browse")
    assert (refused.code, "holds '%'" in refused.err) == (9, True)


@pytest.mark.parametrize("name", ["100% ours", "number#1", "which?", "back\\slash", "two\nlines"])
def test_a_hub_in_a_folder_that_no_remote_can_have_is_named(world, name):
    poster = world.user("poster")
    refused = create(poster, str(world.folder / name))
    assert refused.code == 9
    assert "\nwl: Dolt cannot work in " in refused.err
    assert not (world.folder / name).exists()
    assert poster.ok("list").startswith("No wastelands")
