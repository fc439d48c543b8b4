"""Five nodes share one hub over HTTP, and every item's way from post to stamp can be told afterwards.

In full the board has 200 items (WL_STORY_ITEMS):

    scripts/test -s -m long tests/stories/test_five_nodes.py
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.conftest import World
from tests.hubs import Hub
from tests.stories.five import NODES, UPSTREAM, WORKERS, Five, together

ITEMS = int(os.environ.get("WL_STORY_ITEMS", "200"))
WAVE = 20
KINDS = ("rivals", "plain", "unclaimed", "rejected", "rivals", "edited", "taken_back", "rivals", "withdrawn", "closed")
END = {"unclaimed": "open", "taken_back": "open", "withdrawn": "withdrawn"}
FAULTS = (
    {"rate_limit": 11, "error_after": 9, "drop_after": 13, "stale": 1},
    {"rate_limit": 5},
    {"error_after": 3},
    {"drop_after": 3},
    {"stale": 3},
)


@dataclass
class Work:
    """One item of the story: what shall become of it, and who has a part in it."""

    kind: str
    poster: str
    workers: list[str]
    id: str = ""
    winner: str = ""
    pulls: dict[str, int] = field(default_factory=dict)


def cast(first: int, count: int) -> list[Work]:
    """The items of a wave: every second one acme's, the others by each worker in turn."""
    found = []
    for number in range(first, first + count):
        turn = number // len(KINDS) + number
        poster = "acme" if turn % 2 == 0 else WORKERS[turn // 2 % 4]
        others = [name for name in WORKERS if name != poster]
        others = others[number % len(others) :] + others[: number % len(others)]
        kind = KINDS[number % len(KINDS)]
        found.append(Work(kind, poster, others[: 2 + number % 3] if kind == "rivals" else others[:1]))
    return found


class Story:
    """The phases of a wave, and what must be so at the end."""

    def __init__(self, five: Five, folder: Path) -> None:
        self.five = five
        self.folder = folder
        self.works: list[Work] = []

    def wave(self, number: int, count: int, *, restart: bool) -> None:
        works = cast(number * WAVE, count)
        self.works += works
        self.post(works)
        self.five.hub.faults(**FAULTS[number % len(FAULTS)])
        self.claim(works)
        self.five.hub.faults()
        self.edit(works)
        self.land_claims(works)
        self.complete(works, restart=restart)
        self.redo(works)
        self.judge(works)

    def post(self, works: list[Work]) -> None:
        def posts(name: str) -> None:
            for work in works:
                if work.poster == name:
                    rig = self.five["laptop" if name == "acme" else name]
                    work.id = rig.ok("post", "--title", f"{work.kind} by {name}", "--effort", "small")["item"]["id"]
                    self.five.promised.append((name, "post", work.id))

        together([lambda name=name: posts(name) for name in NODES])
        self.landed()
        self.five.sync()

    def landed(self) -> dict[int, str]:
        return {number: one["state"] for number, one in self.five.land().items()}

    def each(self, tasks: list[tuple[str, Work, str, tuple[str, ...]]], kills: int = 0) -> None:
        """Each rig does its tasks in an order of its own, all rigs at once; some are killed on their way."""
        self.five.random.shuffle(tasks)
        doomed = {id(task) for task in tasks[:kills]}

        def run(name: str) -> None:
            for task in tasks:
                rig, work, verb, words = task
                if rig == name:
                    kill = self.five.random.uniform(0.05, 0.7) if id(task) in doomed else None
                    made = self.five.do(self.five[name], verb, work.id, *words, kill=kill)
                    if made and made.get("pull"):
                        work.pulls[name] = made["pull"]["number"]

        together([lambda name=name: run(name) for name in sorted({task[0] for task in tasks})])

    def claim(self, works: list[Work]) -> None:
        self.each([(rig, w, "claim", ()) for w in works if w.kind != "withdrawn" for rig in w.workers], kills=2)
        self.each([(w.workers[0], w, "unclaim", ()) for w in works if w.kind == "taken_back"])

    def edit(self, works: list[Work]) -> None:
        """Posters change words, and withdraw, while the claims wait; what is theirs upstream is landed by hand."""
        for work in works:
            if work.kind in ("edited", "withdrawn"):
                rig = self.five["laptop" if work.poster == "acme" else work.poster]
                if work.poster == "acme":
                    rig.ok("sync")
                words = ("update", "--title", "Changed meanwhile") if work.kind == "edited" else ("delete",)
                made = self.five.do(rig, words[0], work.id, *words[1:])
                if made and made.get("pull"):
                    self.five["acme"].ok("merge", str(made["pull"]["number"]))

    def land_claims(self, works: list[Work]) -> None:
        """One claim of each item lands; who came second is told, and refused when he tries again."""
        for work in works:
            if work.kind == "plain" and work.pulls:
                self.five["acme"].ok("approve", str(work.pulls[work.workers[0]]))
        states = self.landed()
        board = {row["id"]: row for row in self.five["acme"].call("state")["tables"]["wanted"]}
        tries = []
        for work in works:
            if work.kind in ("withdrawn", "taken_back"):
                continue
            assert board[work.id]["status"] == "claimed", (work, board[work.id], states)
            work.winner = board[work.id]["claimed_by"]
            assert work.winner in work.workers
            tries += [(name, work) for name in work.workers if name != work.winner]
        self.refused(tries)

    def refused(self, tries: list[tuple[str, Work]]) -> None:
        def again(name: str) -> None:
            for loser, work in tries:
                if loser == name:
                    done = self.five[name].wl("claim", work.id)
                    assert done.code == 6, done
                    assert f"claimed by {work.winner}" in done.out
                    self.five.promised.remove((name, "claim", work.id))

        together([lambda name=name: again(name) for name in WORKERS])

    def complete(self, works: list[Work], *, restart: bool) -> None:
        tasks = []
        for work in works:
            if work.winner:
                words = ("unclaim",) if work.kind == "unclaimed" else ("done", "--evidence", f"https://e.org/{work.id}")
                tasks.append((work.winner, work, words[0], words[1:]))
        if restart:
            together([lambda: self.each(tasks, kills=1), lambda: (time.sleep(1), self.five.again())])
        else:
            self.each(tasks, kills=1)
        self.landed()
        self.five.sync()

    def redo(self, works: list[Work]) -> None:
        """Posters reject some completions; their workers submit them again."""
        some = [w for w in works if w.kind == "rejected"]
        self.each([(w.poster, w, "reject", ("--reason", "it does not open")) for w in some])
        self.landed()
        self.each([(w.winner, w, "done", ("--evidence", "https://e.org/again")) for w in some])
        self.landed()

    def judge(self, works: list[Work]) -> None:
        tasks = []
        for work in works:
            if work.kind == "closed":
                tasks.append((work.poster, work, "close", ()))
            elif work.kind not in END:
                tasks.append((work.poster, work, "accept", ("--quality", "4", "--message", "well done")))
        self.each(tasks)
        self.landed()
        self.five.sync()

    def rewrite_upstream(self) -> None:
        """Main is rewritten by force: everybody refuses and changes nothing; it is put back, and all go on."""
        folder = str(self.folder / "plain-acme")
        before = self.five.all(lambda rig: rig.call("state"))
        old, new = self.five["acme"].call("rewrite", org="acme", branch="main", folder=folder)
        assert old == before[0]["head"]
        for words in (("sync",), ("claim", self.five.moving)):
            for done in self.five.all(lambda rig: rig.wl(*words)):
                assert done.code == 6, done
                assert old in done.out
                assert new in done.out
        assert self.five["acme"].wl("queue", "--auto").code == 6
        assert self.five.all(lambda rig: rig.call("state")) == before
        self.five["acme"].call("force", branch="main", head=old, folder=folder)
        self.five.sync()

    def rewrite_fork(self) -> None:
        """A fork's main and a reviewed branch are rewritten by force: what was approved is not what is there now."""
        laptop, dan, acme = (self.five[name] for name in ("laptop", "dan", "acme"))
        work = Work("rewritten", "acme", ["dan"], laptop.ok("post", "--title", "Claimed, then rewritten")["item"]["id"])
        self.five.promised.append(("acme", "post", work.id))
        made = self.five.do(dan, "claim", work.id)
        acme.ok("approve", str(made["pull"]["number"]))
        folder = str(self.folder / "plain-dan")
        old, _ = dan.call("rewrite", org="dan", branch=made["branch"], folder=folder)
        found = self.five.queue()[made["pull"]["number"]]
        assert found["state"] == "moved", found
        dan.call("rewrite", org="dan", branch="main", folder=folder + "-main")
        self.five.sync()
        dan.call("force", branch=made["branch"], head=old, folder=folder)
        assert self.five.queue()[made["pull"]["number"]]["state"] == "landed"
        work.winner = "dan"
        self.works.append(work)
        self.five.sync()

    # what must be so at the end

    def told(self) -> None:
        five = self.five
        five.sync()
        seen = five.all(lambda rig: rig.call("state"))
        for one in seen[1:]:
            assert one["head"] == seen[0]["head"]
            assert one["tables"] == seen[0]["tables"]
        self.rows({row["id"]: row for row in seen[0]["tables"]["wanted"]})
        assert five["acme"].call("unexplained") == []
        self.kept([tuple(one) for one in five["bob"].call("verbs")])
        self.pulls()
        for counts in five.all(lambda rig: rig.ok("verify", "--all")["counts"]):
            assert not any(counts.get(name) for name in ("invalid", "undecided", "unsigned")), counts
        assert len(seen[0]["tables"]["stamps"]) == sum(
            w.kind not in END and w.kind not in ("closed", "rewritten") for w in self.works
        )

    def rows(self, board: dict[str, dict[str, str]]) -> None:
        assert set(board) == {w.id for w in self.works} | {self.five.moving}
        for work in self.works:
            row = board[work.id]
            want = "claimed" if work.kind == "rewritten" else END.get(work.kind, "completed")
            assert row["status"] == want, (work, row)
            assert row["claimed_by"] == (work.winner if want in ("completed", "claimed") else None), (work, row)
            assert row["posted_by"] == work.poster

    def kept(self, landed: list[tuple[str, str, str]]) -> None:
        """All that was acknowledged is there; what was taken back before it landed leaves no trace."""
        gone = {w.id for w in self.works if w.kind == "taken_back"}
        kept = [one for one in self.five.promised if one[2] not in gone or one[1] not in ("claim", "unclaim")]
        missing = Counter(kept) - Counter(landed)
        assert not missing, missing
        winners = Counter(item for _, verb, item in landed if verb == "claim")
        assert all(winners[w.id] == 1 for w in self.works if w.kind == "rivals")

    def pulls(self) -> None:
        """No branch ever had two open pull requests, and none is open whose work has landed."""
        last: dict[tuple[int, str], tuple[int, str | None]] = {}
        for number, state, repo, branch, created, closed in self.five.stored(
            "SELECT number, state, from_repo, from_branch, created, closed FROM pulls WHERE to_branch = 'main' "
            "AND repo = (SELECT id FROM repositories WHERE owner = 'acme') ORDER BY number"
        ):
            before, ended = last.get((repo, branch), (0, ""))
            assert ended is not None, f"#{number} was opened while #{before} was"
            assert ended <= created, f"#{number} was opened while #{before} was"
            last[repo, branch] = number, closed
        assert self.five["acme"].call("landed_leftovers", orgs=list(NODES)) == []


@pytest.fixture
def five(tmp_path: Path) -> Iterator[Five]:
    made = Five.open(tmp_path)
    yield made
    made.close()
    assert made.left_over() == []


def tell(five: Five, folder: Path, items: int) -> None:
    began = time.monotonic()
    story = Story(five, folder)
    try:
        waves = -(-items // WAVE)
        for number in range(waves):
            story.wave(number, min(WAVE, items - number * WAVE), restart=number == waves // 2)
            print(f"\nwave {number}: {time.monotonic() - began:.0f} s", flush=True)
            if number == waves // 2:
                story.rewrite_upstream()
                story.rewrite_fork()
        story.told()
    finally:
        print(f"\n{len(story.works)} items in {time.monotonic() - began:.0f} s\n{five.table()}", flush=True)
    assert five.kills
    assert five.moved


def test_five_nodes_tell_one_story_whatever_happens_on_the_way(five, tmp_path):
    tell(five, tmp_path, len(KINDS))


@pytest.mark.long
def test_five_nodes_and_two_hundred_items(five, tmp_path):
    tell(five, tmp_path, ITEMS)


def test_a_claim_taken_back_closes_its_pull_request_though_the_hubs_list_is_older(world: World, tmp_path: Path):
    hub = Hub.start(tmp_path / "hubdir")
    try:
        acme, ada = (world.user(name, WL_HUB=hub.api, WL_HUB_TOKEN=hub.add_user(name)) for name in ("acme", "ada"))
        acme.ok("create", UPSTREAM)
        acme.ok("config", "set", "mode", "wild-west")
        item = acme.json("post", "--title", "Claimed, and given back")["item"]["id"]
        acme.ok("merge", str(ada.json("join", UPSTREAM)["pull"]))
        hub.faults(stale=60)
        claimed = ada.json("claim", item)
        assert ada.json("unclaim", item)["reverted"]
        hub.faults()
        assert claimed["pull"]["number"] not in [one["number"] for one in acme.json("inbox")["pulls"]]
    finally:
        world.stop()
        hub.stop()
