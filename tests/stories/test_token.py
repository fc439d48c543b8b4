"""A rig that has a token and no Dolt key that the hub knows: its rows travel through the hub's API."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import User, World
from tests.hubs import GENERATIONS, Hub


class Place:
    """A hub that takes no keys over its API, the wasteland `acme/commons` on it, and rigs with a token only."""

    def __init__(self, folder: Path) -> None:
        self.world = World(folder)
        self.hub = Hub.start(folder / "hub")
        self.acme = self.user("acme")
        self.acme.ok("create", "acme/commons", "--hub", self.hub.api)
        self.hub.faults(no_keys=True)

    def user(self, name: str, api: str = "v2") -> User:
        return self.world.user(name, WL_HUB_API=api, WL_HUB=self.hub.api, WL_HUB_TOKEN=self.hub.add_user(name))

    def item(self, title: str) -> str:
        made = self.acme.json("post", "--title", title)
        self.acme.ok("merge", str(made["pull"]["number"]))
        return str(made["item"]["id"])

    def stop(self) -> None:
        self.world.stop()
        self.hub.stop()


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path)
    yield made
    made.stop()


def creds(user: User) -> list[Path]:
    return list(user.home.rglob("*.jwk"))


@pytest.mark.parametrize("api", GENERATIONS)
def test_from_joining_to_a_verified_stamp_with_a_token_alone(place, api):
    ada = place.user("ada", api)
    joined = ada.json("join", "acme/commons")
    place.acme.ok("merge", str(joined["pull"]))
    item = place.item("For a token")
    claimed = ada.json("claim", item)
    assert claimed["pull"]["number"]
    done = ada.json("done", item, "--evidence", "https://example.com/1")
    assert done["pull"] == claimed["pull"]
    place.acme.ok("merge", str(done["pull"]["number"]))
    accepted = place.acme.json("accept", item, "--quality", "4")
    place.acme.ok("merge", str(accepted["pull"]["number"]))
    ada.ok("sync")
    assert not creds(ada)
    assert ada.wl("verify", "stamp", accepted["stamp"]["id"]).code == 0
    assert "token" in ada.wl("doctor").out


def killed(user: User, at: str, *words: str) -> bool:
    """Kill a command at a step; whether it came that far."""
    user.env["WL_CRASH_AT"] = at
    try:
        done = user.wl(*words)
    finally:
        del user.env["WL_CRASH_AT"]
    assert done.code in (0, -9), done
    return done.code != 0


STEPS = ("durable", "branched", "sent", "sent:2", "sent:3", "pushed", "offering", "offered", "settled")


def claims_through(place: Place, api: str, steps: tuple[str, ...]) -> None:
    """A claim that is killed at each of the steps ends as one pull request with one lease, and nothing twice."""
    ada = place.user("ada", api)
    place.acme.ok("merge", str(ada.json("join", "acme/commons")["pull"]))
    reached = 0
    for at in steps:
        item = place.item(f"Killed at {at}")
        reached += killed(ada, at, "claim", item)
        again = ada.wl("claim", item, "--json")
        assert again.code in (0, 6), again
        (mine,) = [one for one in place.acme.json("inbox")["pulls"] if one["rig"] == "ada" and one["verbs"]]
        assert mine["verbs"] == ["claim"]
        place.acme.ok("merge", str(mine["number"]))
        assert place.acme.json("status", item)["item"]["claimed_by"] == "ada"
    assert reached >= len(steps) - 1
    assert not creds(ada)
    assert ada.wl("verify", "--all").code in (0, 2)


def test_a_claim_that_is_killed_half_way_is_one_claim(place):
    claims_through(place, "v2", ("branched", "sent", "sent:2"))


@pytest.mark.long
@pytest.mark.parametrize("api", GENERATIONS)
def test_a_claim_that_is_killed_at_any_step_is_one_claim(place, api):
    claims_through(place, api, STEPS)


@pytest.mark.parametrize("fault", [{"drop_after": 2}, {"error_after": 3}], ids=str)
def test_a_lost_answer_writes_nothing_twice(place, fault):
    ada = place.user("ada")
    place.acme.ok("merge", str(ada.json("join", "acme/commons")["pull"]))
    item = place.item("Answers get lost")
    place.hub.faults(no_keys=True, **fault)
    for _ in range(4):
        done = ada.wl("claim", item, "--json")
        if done.code in (0, 6):
            break
        assert done.code in (5, 8), done
    place.hub.faults(no_keys=True)
    (mine,) = [one for one in place.acme.json("inbox")["pulls"] if one["rig"] == "ada" and one["verbs"]]
    place.acme.ok("merge", str(mine["number"]))
    assert place.acme.json("status", item)["item"]["claimed_by"] == "ada"


def test_what_somebody_else_wrote_to_the_branch_is_refused(place):
    ada = place.user("ada")
    place.acme.ok("merge", str(ada.json("join", "acme/commons")["pull"]))
    item, other = place.item("Mine"), place.item("Not meant")
    ada.json("claim", item)
    write(place, ada, "ada", f"wl/ada/{item}", f"UPDATE wanted SET title = 'changed' WHERE id = '{other}'")
    done = ada.wl("done", item, "--evidence", "https://example.com/1")
    assert done.code == 5, done
    assert "rows that are not ours" in done.err or "commits that this clone does not have" in done.err
    assert ada.json("status", item)["item"]["status"] == "claimed"


def test_an_unclaim_takes_the_claim_back_and_the_item_can_be_claimed_again(place):
    ada = place.user("ada")
    place.acme.ok("merge", str(ada.json("join", "acme/commons")["pull"]))
    item = place.item("On and off")
    first = ada.json("claim", item)
    ada.ok("unclaim", item)
    assert all(one["number"] != first["pull"]["number"] for one in place.acme.json("inbox")["pulls"])
    again = ada.json("claim", item)
    place.acme.ok("merge", str(again["pull"]["number"]))
    assert place.acme.json("status", item)["item"]["claimed_by"] == "ada"


def test_a_maintainer_with_a_token_lands_and_accepts_and_may_gain_a_key_later(place):
    ada = place.user("ada")
    ada_pull = ada.json("join", "acme/commons")["pull"]
    give_back = without_key(place.acme)
    landed = place.acme.json("merge", str(ada_pull))
    assert landed["pushed"]
    item = place.item("By a token on both sides")
    claimed = ada.json("claim", item)
    ada.ok("done", item, "--evidence", "https://example.com/1")
    place.acme.ok("merge", str(claimed["pull"]["number"]))
    stamped = place.acme.json("accept", item, "--quality", "4")
    place.acme.ok("merge", str(stamped["pull"]["number"]))
    synced = ada.wl("sync", "--json").ok()
    assert f"wl/ada/{item}" in json.loads(synced.out)["cleaned"]  # it has landed, though the next step is on top
    assert "conflicts" not in synced.err
    assert ada.json("status", item)["item"]["claimed_by"] == "ada"
    give_back()
    place.item("And with a key again")


def without_key(user: User) -> Callable[[], None]:
    """Take a user's Dolt key away; what gives it back."""
    user.stop()
    (key,) = creds(user)
    settings = key.parent.parent / "config_global.json"
    kept = (key.read_bytes(), settings.read_text())
    key.unlink()
    settings.write_text(json.dumps({name: v for name, v in json.loads(kept[1]).items() if name != "user.creds"}))

    def give_back() -> None:
        user.stop()
        key.write_bytes(kept[0])
        settings.write_text(kept[1])

    return give_back


@pytest.mark.parametrize("at", ["sent", "beside", "arrived"])
def test_a_merge_by_token_that_is_killed_lands_once(place, at):
    ada = place.user("ada")
    number = str(ada.json("join", "acme/commons")["pull"])
    without_key(place.acme)
    assert killed(place.acme, at, "merge", number)
    place.acme.ok("merge", number)
    assert place.acme.json("inbox")["pulls"] == []
    ada.ok("sync")
    assert ada.json("me")


def write(place: Place, user: User, owner: str, branch: str, sql: str) -> None:
    """A statement that a person sends through the API."""
    import httpx2

    token = place.hub.tokens[user.name]
    sent = httpx2.post(
        f"{place.hub.api}/api/v2/databases/{owner}/commons/sql-writes", headers={"authorization": f"Bearer {token}"},
        json={"from_branch": branch, "to_branch": branch, "q": sql},
    )  # fmt: skip
    assert sent.status_code == 202, sent.text
    href = sent.json()["data"]["href"]
    url = href if href.startswith("http") else f"{place.hub.api}/{href.lstrip('/')}"
    for _ in range(100):
        state = httpx2.get(url, headers={"authorization": f"Bearer {token}"}).json()["data"]["status"]
        if state == "succeeded":
            return
    raise AssertionError(state)


def whole_way(place: Place, api: str, at: str) -> int:
    """From a registration to a verified stamp, each command killed once at a step; how many met it."""
    ada, met = place.user("ada", api), 0

    def done(user: User, *words: str) -> None:
        nonlocal met
        met += killed(user, at, *words)
        again = user.wl(*words)
        assert again.code in (0, 6), again

    def number(verb: str) -> str:
        return next(str(one["number"]) for one in place.acme.json("inbox")["pulls"] if verb in one["verbs"])

    done(ada, "join", "acme/commons")
    place.acme.ok("merge", number("register"))
    item = place.item("The whole way")
    done(ada, "claim", item)
    done(ada, "done", item, "--evidence", "https://example.com/1")
    place.acme.ok("merge", number("done"))
    without_key(place.acme)
    done(place.acme, "accept", item, "--quality", "4")
    done(place.acme, "merge", number("accept"))
    ada.ok("sync")
    assert ada.json("status", item)["item"]["status"] == "completed"
    assert ada.wl("verify", "--all").code in (0, 2)
    return met


@pytest.mark.long
@pytest.mark.parametrize("api", GENERATIONS)
@pytest.mark.parametrize("at", ["committed", "durable", "branched", "sent", "sent:2", "pushed", "offering", "settled"])
def test_the_whole_way_each_command_killed_once(place, api, at):
    assert whole_way(place, api, at) >= 1
