"""Pull requests that change nothing: rows that a maintainer took over by hand, and branches that have none."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.conftest import User, World
from tests.hubs import Hub

# Upstream's main gets the rows of a branch of bob's fork as one commit of its own; `less` are tables left out.
TAKE = """
from wasteland.dolt.rows import apply
from wasteland.node import levelling, forks
from wasteland.hub import Branch
levelling.refresh(n)
head = forks.fetched(n, Branch('{org}', 'commons', '{branch}'))
rows = [row for row in d.diff_all('{base}' or d.merge_base(head, 'main'), head) if row.table not in {less}]
with d.at('main').change('taken over by hand'): apply(d.at('main'), rows)
d.push(n.upstream_remote, 'main')
"""
# A branch of bob's fork as another program pushes it, with a pull request; `{sql}` runs on it first.
OFFER = """
from wasteland.node import levelling
d.branch('{branch}', levelling.refresh(n))
for said in {said}:
    with d.at('{branch}').change('as another program does'): d.at('{branch}').run(said)
d.push('origin', '{branch}')
print(n.hub.open_pull(n.fork_branch('{branch}'), n.upstream_main, 'Something', 'Words', n.handle).number)
"""
# Upstream's main is moved to the very head of a branch of bob's fork.
FORWARD = """
from wasteland.node import levelling, forks
from wasteland.hub import Branch
levelling.refresh(n)
d.at('main').reset(forks.fetched(n, Branch('{org}', 'commons', '{branch}')))
d.push(n.upstream_remote, 'main')
"""
# A claim of an item is taken back by hand.
UNDO = """
from wasteland.node import levelling
levelling.refresh(n)
with d.at('main').change('undone by hand'):
    d.at('main').run("UPDATE wanted SET status='open', claimed_by=NULL WHERE id='{item}'")
d.push(n.upstream_remote, 'main')
"""


FOLDER = pytest.mark.parametrize("place", ["folder"], indirect=True)


class Place:
    """A wasteland of ada's that bob has joined, on a hub of one kind."""

    def __init__(self, world: World, hub: Hub | None) -> None:
        self.world, self.hub = world, hub
        if hub is None:
            self.ada = world.create("ada")
            self.bob, self.org = world.join("bob", by=self.ada), "bob-org"
            return
        self.ada, self.bob, self.org = self._user("acme"), self._user("bob"), "bob"
        self.ada.ok("create", "acme/commons", "--hub", hub.api)
        made = self.bob.json("join", "acme/commons", "--hub", hub.api)
        self.ada.ok("merge", str(made["pull"]))

    def _user(self, name: str) -> User:
        assert self.hub is not None
        user = self.world.user(name)
        user.wl("login", "--hub", self.hub.api, stdin=self.hub.add_user(name) + "\n").ok()
        return user

    def take_over(self, item: str, *less: str, base: str = "") -> None:
        self.ada.python(TAKE.format(org=self.org, branch=f"wl/bob/{item}", less=less, base=base))

    def main(self) -> str:
        return self.ada.python("print(d.hash_of('main'))")

    def offer(self, name: str, *said: str) -> int:
        return int(self.bob.python(OFFER.format(branch=f"wl/bob/{name}", said=said)))

    def seen(self, number: int) -> tuple[str, str, str]:
        """The state of a pull request in the inbox, the verdict of its review, and what the queue would do."""
        state = next(one for one in self.ada.json("inbox")["pulls"] if one["number"] == number)["state"]
        queued = next(one for one in self.ada.json("queue", "--dry-run")["pulls"] if one["pull"] == number)["state"]
        return state, self.ada.json("review", str(number))["verdict"], queued

    def hub_state(self, number: int) -> str:
        return self.ada.python(f"print(n.hub.pull(n.config.org, n.config.db, {number}).state)").strip()

    def is_open(self, number: int) -> bool:
        return number in [one["number"] for one in self.ada.json("inbox")["pulls"]]


@pytest.fixture(scope="module", params=["folder", "rest"])
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("place")
    hub = Hub.start(folder / "served") if request.param == "rest" else None
    made = Place(World(folder), hub)
    yield made
    made.world.stop()
    if hub is not None:
        hub.stop()


@pytest.fixture
def handed_in(place: Place) -> tuple[str, int]:
    """An item that bob has claimed and handed in by one open pull request: its id and the number."""
    item = place.world.post(place.ada, "Something to do")
    place.bob.ok("claim", item)
    return item, int(place.bob.json("done", item, "--evidence", "https://example.com/x")["pull"]["number"])


def test_a_maintainer_sees_that_main_holds_the_rows_and_a_merge_closes_the_pull_request(place, handed_in):
    item, number = handed_in
    assert place.seen(number)[0] == "ready"
    place.take_over(item)
    assert place.seen(number) == ("nothing", "nothing", "nothing")
    assert "G-NOTHING" in place.ada.ok("review", str(number))
    refused = place.ada.wl("approve", str(number))
    assert (refused.code, f"wl merge {number} closes it" in refused.err) == (6, True), refused
    before = place.main()
    merged = place.ada.ok("merge", str(number))
    assert f"holds the rows of {place.org}/commons:wl/bob/{item} already" in merged
    assert place.main() == before, "nothing landed once more"
    assert not place.is_open(number)


def test_the_rig_drops_its_branch_and_closes_its_pull_request_at_the_next_sync(place, handed_in):
    item, number = handed_in
    place.take_over(item)
    synced = place.bob.wl("sync").ok()
    told = [line for line in (synced.out + synced.err).splitlines() if f"{item} proposes, though not by its" in line]
    assert len(told) == 1
    assert f"pull request #{number} closed" in told[0]
    assert not place.is_open(number)
    assert item not in place.bob.ok("review")
    assert place.bob.json("status", item)["item"]["status"] == "in_review"
    assert place.bob.wl("verify", "--all").code == 0
    assert "not by its pull request" not in (again := place.bob.wl("sync").ok()).out + again.err


@FOLDER
def test_the_next_verb_on_the_item_goes_on_from_what_was_taken_over(place):
    item = place.world.post(place.ada, "Claimed by hand")
    claimed = int(place.bob.json("claim", item)["pull"]["number"])
    place.take_over(item)
    done = place.bob.json("done", item, "--evidence", "https://example.com/y")
    assert not place.is_open(claimed)
    place.ada.ok("merge", str(done["pull"]["number"]))
    assert place.ada.json("status", item)["item"]["status"] == "in_review"


@FOLDER
def test_without_its_signature_the_branch_still_changes_something(place, handed_in):
    item, number = handed_in
    base = place.main()
    place.take_over(item, "wl_attestations")
    assert place.seen(number)[:2] == ("ready", "auto")
    place.bob.ok("sync")
    assert place.is_open(number), "upstream lacks the signature"
    place.take_over(item, "wanted", "completions", "wl_leases", base=base)
    place.bob.ok("sync")
    assert not place.is_open(number), "now it has the signature too"
    assert place.bob.wl("verify", "--all").code == 0


def test_a_branch_without_rows_is_listed_as_nothing_and_closed_by_a_merge(place):
    place.world.post(place.ada, "A landing, of which the branch is made")
    level = place.offer("level")
    change = "UPDATE rigs SET rig_type='{}' WHERE handle='bob'"
    undone = place.offer("undone", change.format("agent"), change.format("human"))
    for number in (level, undone):
        assert place.seen(number) == ("nothing", "nothing", "nothing")
    place.ada.ok("queue")
    assert place.is_open(level), "its author may yet push something"
    assert "that change nothing" in place.ada.wl("doctor").out
    place.world.post(place.ada, "Main moves on, and leaves the branch behind")
    assert place.seen(level) == ("nothing", "nothing", "nothing")
    for number in (level, undone):
        merged = place.ada.json("merge", str(number))
        assert (merged["nothing"], merged["verdict"]) == (True, "nothing")
        assert not place.is_open(number)


@FOLDER
def test_what_was_taken_over_and_undone_is_closed_unmerged_and_kept(place):
    item = place.world.post(place.ada, "Taken over, and back")
    number = int(place.bob.json("claim", item)["pull"]["number"])
    place.take_over(item)
    place.ada.python(UNDO.format(item=item))
    told = place.bob.wl("sync").ok()
    assert f"once held what wl/bob/{item} proposes, and has changed since" in told.out + told.err
    assert place.hub_state(number) == "closed"
    assert f"lost/bob/{item}-" in place.bob.python("print(list(d.branches('lost/')))")
    assert place.bob.json("claim", item)["pull"], "it can be proposed anew"


@FOLDER
def test_what_was_taken_over_and_gone_on_from_has_landed(place, handed_in):
    item, number = handed_in
    place.take_over(item)
    place.ada.ok("config", "set", "mode", "wild-west")
    try:
        place.ada.ok("accept", item, "--quality", "4")
    finally:
        place.ada.ok("config", "set", "mode", "pr")
    place.bob.ok("sync")
    assert place.hub_state(number) == "merged"


@FOLDER
@pytest.mark.parametrize("verb", ["merge", "queue"])
def test_what_was_landed_by_fast_forward_is_contained_and_closed_as_merged(place, verb):
    number = place.offer(f"forward-{verb}", f"UPDATE rigs SET display_name='{verb}' WHERE handle='bob'")
    place.ada.python(FORWARD.format(org=place.org, branch=f"wl/bob/forward-{verb}"))
    assert place.seen(number) == ("landed", "nothing", "would land")
    if verb == "merge":
        assert "Upstream's main already contains" in place.ada.ok("merge", str(number))
    else:
        assert [one["state"] for one in place.ada.json("queue")["pulls"] if one["pull"] == number] == ["landed"]
    assert place.hub_state(number) == "merged"


@FOLDER
def test_the_queue_closes_what_was_taken_over(place, handed_in):
    item, number = handed_in
    place.take_over(item)
    assert [one["state"] for one in place.ada.json("queue")["pulls"] if one["pull"] == number] == ["nothing"]
    assert not place.is_open(number)
