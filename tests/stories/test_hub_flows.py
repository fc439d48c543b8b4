"""The whole way through a hub over HTTP, in both generations of its interface, and again with each fault on.

What a verb reported as done must be there afterwards; what failed must have
left nothing that stands in the way of doing it again; and no branch ever has
two open pull requests.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytest

from tests.conftest import World
from tests.hubs import GENERATIONS, Hub, by_turns
from wasteland.errors import Conflict, Unreachable
from wasteland.local.config import Paths
from wasteland.market import board, browse
from wasteland.member import create, join
from wasteland.node import proposals, sync, verifying
from wasteland.node.node import Node, open_node
from wasteland.review import judge, land, queue, respond

FAULTS: dict[str, dict[str, Any]] = {
    "delay": {"delay": 0.05},
    "rate_limit": {"rate_limit": 4},
    "error_before": {"error_before": 4},
    "error_after": {"error_after": 2},
    "drop_after": {"drop_after": 2},
    "stale": {"stale": 2},
    "lost_poll": {"lost_poll": True},
    "fork_lag": {"fork_lag": 2},
    "old_spelling": {"spelling": "old"},
    "new_spelling": {"spelling": "new"},
    "merge_lies": {"merge_lies": True},
}
# Those that one hub can have at once; together they are all.
TOGETHER = ("rate_limit stale old_spelling", "error_before fork_lag new_spelling", "error_after lost_poll delay",
            "drop_after", "merge_lies")  # fmt: skip
TRIES = 8
Result = TypeVar("Result")


@dataclass
class Served:
    """A hub, and nodes of this process on it."""

    world: World
    hub: Hub
    nodes: dict[str, Node] = field(default_factory=dict)

    def paths(self, name: str) -> Paths:
        home = self.world.folder / name
        return Paths(home, home / ".config", home / ".local" / "share")

    def user(self, name: str) -> None:
        """A user of the hub with a home and a token."""
        token = self.hub.add_user(name)
        self.world.user(name).wl("login", "--hub", self.hub.api, stdin=token + "\n").ok()

    def create(self, name: str) -> Node:
        self.user(name)
        made = create.create(self.paths(name), f"{name}/commons", handle=name, display_name=None, email=None,
                             title=None, remote_base=None, hub=self.hub.api)  # fmt: skip
        made.close()
        return self.open(name)

    def join(self, name: str) -> Node:
        self.user(name)
        tried(lambda: join.join(self.paths(name), "acme/commons", handle=name, display_name=None, email=None,
                                fork_org=name, remote_base=None, hub=self.hub.api).node.close())  # fmt: skip
        return self.open(name)

    def open(self, name: str) -> Node:
        self.nodes[name] = open_node("acme/commons", self.paths(name))
        return self.nodes[name]

    def stop(self) -> None:
        for node in self.nodes.values():
            node.close()
        self.world.stop()
        self.hub.stop()


def tried(act: Callable[[], Result]) -> Result:
    """Do it again while it fails in a way that says so, as a person would."""
    for left in reversed(range(TRIES)):
        try:
            return act()
        except (Unreachable, Conflict):
            if not left:
                raise
            time.sleep(0.5)
    raise AssertionError


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    made = Served(World(tmp_path), Hub.start(tmp_path / "hub"))
    try:
        yield made
    finally:
        made.stop()


def whole_way(served: Served, acme: Node) -> None:
    """From a registration to stamps, with a rival, a rejection and a queue."""
    ada, bob = served.join("ada"), served.join("bob")
    tried(lambda: sync.sync(acme))
    for one in tried(lambda: proposals.inbox(acme)):
        assert one.verbs == ("register",)
        tried(lambda number=one.number: landed(acme, number))
    item = tried(lambda: board.post(acme, {"title": "Through a hub"}))
    tried(lambda: landed(acme, number_of(acme, item.branch)))
    wanted = item.item.id
    first = tried(lambda: board.claim(ada, wanted))
    second = tried(lambda: board.claim(bob, wanted))
    assert first.branch != second.branch
    tried(lambda: board.done(ada, wanted, "https://example.com/1"))
    both = {f"ada/commons:{first.branch}", f"bob/commons:{second.branch}"}
    found = tried(lambda: need(listed(acme, both)))
    mine = found[f"ada/commons:{first.branch}"]
    assert (mine.verbs, mine.state) == (("claim", "done"), "ready")
    seen = tried(lambda: judge.review(acme, str(mine.number)))
    assert seen.judgement.verdict == "auto"
    rival = found[f"bob/commons:{second.branch}"].number
    tried(lambda: respond.approve(acme, str(mine.number), head=seen.pinned.head))
    tried(lambda: respond.approve(acme, str(rival)))
    states = queued(acme)
    assert states.get(mine.number) in ("landed", None), "landed now, or in a run whose answer was lost"
    assert states[rival] == "conflict"
    tried(lambda: respond.reject(acme, str(rival), "second"))
    tried(lambda: sync.sync(acme))
    rejected = tried(lambda: board.reject(acme, wanted, "once more"))
    tried(lambda: landed(acme, number_of(acme, rejected.branch)))
    tried(lambda: sync.sync(ada))
    again = tried(lambda: board.done(ada, wanted, "https://example.com/2"))
    tried(lambda: landed(acme, number_of(ada, again.branch)))
    said = board.Judgement({"quality": (4, 900)})
    accepted = tried(lambda: board.accept(acme, wanted, said))
    tried(lambda: landed(acme, number_of(acme, accepted.branch)))


def listed(node: Node, sources: set[str]) -> dict[str, proposals.Proposal] | None:
    """The open pull requests by branch, once all of these are among them."""
    found = {one.source: one for one in proposals.inbox(node)}
    return found if sources <= found.keys() else None


def landed(node: Node, number: int) -> None:
    """Merge, unless an attempt whose answer was lost has done it."""
    pull = node.hub.pull("acme", "commons", number)
    if pull.state == "open":
        land.merge(node, str(number))


def number_of(node: Node, branch: str | None) -> int:
    """The pull request of a branch, whose number a lost answer may have kept from us."""
    return tried(lambda: need(sync.find_pull(node, str(branch)))).number


def need(found: Any) -> Any:
    if found is None:
        raise Unreachable("not listed yet")
    return found


def queued(node: Node) -> dict[int, str]:
    """What the queue made of each, over as many runs as it takes."""
    states: dict[int, str] = {}
    tried(lambda: states.update({one.pull: one.state for one in queue.run(node)}))
    return states


def settled(served: Served) -> None:
    """What must be true at the end, whatever was in the way."""
    acme, ada = served.nodes["acme"], served.nodes["ada"]
    tried(lambda: list(queue.run(acme)))
    sync.sync(ada)
    sync.sync(acme)
    item = next(one for one in browse.browse(acme, {}) if one.item.title == "Through a hub").item
    assert (item.status, item.claimed_by) == ("completed", "ada")
    card = browse.status(ada, item.id)
    assert [line["what"].partition(":")[0] for line in card.history] == [
        "wl post", "wl claim", "wl done", "wl reject", "wl done", "wl accept"
    ]  # fmt: skip
    assert card.stamp is not None
    assert verifying.verify(ada, "stamp", card.stamp.id).verdict.name == "VERIFIED"
    assert acme.db.hash_of("main") == ada.db.hash_of("main")
    everything = acme.hub.pulls("acme", "commons", state=None)
    sources = [str(one.source) for one in everything if one.state == "open"]
    assert len(sources) == len(set(sources))
    assert sources == [], "what landed or was rejected is closed"
    opened = [str(one.source) for one in everything]
    assert opened.count(f"ada/commons:wl/ada/{item.id}") <= 2, "one for the claim, one after the rejection"
    assert not [b for b in ada.hub.branches("ada", "commons") if b.startswith("wl/")]


@pytest.mark.parametrize("api", GENERATIONS)
def test_the_whole_way(served, monkeypatch, api):
    monkeypatch.setenv("WL_HUB_API", api)
    whole_way(served, served.create("acme"))
    settled(served)


def disturbed(served: Served, faults: dict[str, Any]) -> None:
    """The whole way with these faults on."""
    acme = served.create("acme")
    served.hub.faults(**faults)
    whole_way(served, acme)
    served.hub.faults()
    settled(served)


@pytest.mark.parametrize(("faults", "api"), by_turns(TOGETHER))
def test_the_whole_way_with_several_faults(served, monkeypatch, faults, api):
    monkeypatch.setenv("WL_HUB_API", api)
    disturbed(served, {name: value for fault in faults.split() for name, value in FAULTS[fault].items()})


@pytest.mark.long
@pytest.mark.parametrize("api", GENERATIONS)
@pytest.mark.parametrize("fault", FAULTS)
def test_the_whole_way_with_one_fault(served, monkeypatch, fault, api):
    monkeypatch.setenv("WL_HUB_API", api)
    disturbed(served, FAULTS[fault])
