"""Kill programs at chosen and at random moments, and look at what they leave behind.

An Arena is a wasteland with two rigs and an eye: a third clone, never killed,
that sees only what upstream and the forks hold.  An item goes from post to
stamp; each verb on its way is a round: the verb is killed, or its database
server is, then the same verb is typed again, and everything is looked at.

    python -m tests.stories.chaos --rounds 200 --races
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

from tests.conftest import PASSED, Done, User, World
from wasteland.commons import signatures
from wasteland.dolt.database import Database
from wasteland.errors import WastelandError
from wasteland.hub import MERGED, Pull
from wasteland.local.config import Paths
from wasteland.local.journal import Journal
from wasteland.market import board
from wasteland.node import levelling, standing, verifying
from wasteland.node.node import Node, open_node
from wasteland.review import land
from wasteland.trust.statements import Link
from wasteland.trust.verification import Verdict

ROOT = Path(__file__).parents[2]
UPSTREAM = "acme/commons"
ORDER = ("open", "claimed", "in_review", "completed")
TARGET = {"post": "open", "claim": "claimed", "done": "in_review", "accept": "completed"}
WAY = {
    "wild-west": (("a", "post"), ("b", "claim"), ("b", "done"), ("a", "accept")),
    "pr": (
        ("a", "post"),
        ("a", "merge"),
        ("b", "claim"),
        ("b", "done"),
        ("a", "merge"),
        ("a", "accept"),
        ("a", "merge"),
    ),
}
BEFORE, BETWEEN, AFTER = "before the first statement", "between", "after the acknowledgement"
REFUSALS = (5, 6)


def paths(user: User) -> Paths:
    """The folders of a test's user."""
    return Paths(user.home, user.home / ".config", user.home / ".local" / "share")


@contextmanager
def node_of(user: User) -> Iterator[Node]:
    """A user's node in this process, to look with."""
    node = open_node(UPSTREAM, paths(user))
    try:
        yield node
    finally:
        node.close()


@dataclass
class Item:
    """An item on its way, as the rounds know it."""

    title: str
    id: str = ""
    branch: str = ""
    head: str = ""
    pull: int = 0


@dataclass
class Kill:
    """What is killed, and when: at a named step, or some seconds after a step or the start."""

    what: str = "client"
    at: str | None = None
    after: str | None = None
    delay: float = 0.0


@dataclass
class Record:
    """A round: where the kill landed and what the command had said by then."""

    mode: str
    verb: str
    kill: Kill
    landed: str
    last_step: str
    acknowledged: bool
    retried: int
    seconds: float


@dataclass
class Arena:
    """One wasteland in one mode."""

    world: World
    mode: str
    items: int = 0
    acknowledged: list[str] = field(default_factory=list)
    heard: str = ""

    @classmethod
    def open(cls, world: World, mode: str) -> Arena:
        """Make the wasteland and have everybody join."""
        poster = world.create("poster", mode)
        world.join("worker", mode, by=poster)
        world.join("eye", mode, by=poster)
        return cls(world, mode)

    @property
    def a(self) -> User:
        return self.world.users["poster"]

    @property
    def b(self) -> User:
        return self.world.users["worker"]

    @cached_property
    def eye(self) -> Node:
        """The node that sees what the others published."""
        node = open_node(UPSTREAM, paths(self.world.users["eye"]))
        node.db.add_remote("fork-worker", f"file://{self.world.hub}/worker-org/commons")
        return node

    def close(self) -> None:
        if "eye" in self.__dict__:
            self.eye.close()
        self.world.stop()

    def upstream(self) -> Database:
        """What upstream's main holds now."""
        self.eye.db.fetch("upstream")
        return self.eye.db.at(self.eye.db.hash_of("upstream/main"))

    def on_fork(self, user: User, branch: str) -> str | None:
        """The head of a user's branch where it was pushed to."""
        remote = "upstream" if user is self.a else "fork-worker"
        self.eye.db.fetch(remote)
        return self.eye.db.find(f"{remote}/{branch}")

    def pull_of(self, branch: str) -> Pull | None:
        """The open pull request from a branch."""
        found = [p for p in self.hub.pulls("acme", "commons") if p.source.name == branch]
        assert len(found) < 2, f"{len(found)} pull requests of {branch}"
        return found[0] if found else None

    @property
    def hub(self) -> Any:
        return self.eye.hub

    def new_item(self) -> Item:
        self.items += 1
        return Item(f"Item {self.items}")

    def level(self, user: User) -> None:
        """Have `user` see what upstream holds; in wild-west mode a verb does not look by itself."""
        with node_of(user) as node:
            levelling.refresh(node)

    def undisturbed(self, who: str, verb: str, item: Item, log: Path) -> tuple[dict[str, float], float]:
        """Type `verb` and let it be; the steps that it passed and when it began."""
        user: User = getattr(self, who)
        self.level(user)
        log.unlink(missing_ok=True)
        user.env["WL_STEP_LOG"] = str(log)
        began = time.monotonic()
        said = json.loads(user.ok(*self.words(verb, item)))
        del user.env["WL_STEP_LOG"]
        self.learn(verb, item, said)
        if item.branch and verb != "merge":
            item.head = str(self.on_fork(user, item.branch))
        return steps(log), began

    # one round

    def words(self, verb: str, item: Item) -> list[str]:
        """What is typed."""
        return {
            "post": ["post", "--title", item.title],
            "merge": ["merge", str(item.pull)],
            "claim": ["claim", item.id],
            "done": ["done", item.id, "--evidence", f"https://example.com/{item.id}"],
            "accept": ["accept", item.id, "--quality", "4", "--message", "good"],
        }[verb] + ["--json"]

    def round(self, who: str, verb: str, item: Item, kill: Kill, log: Path) -> Record:
        """Type `verb`, kill, type it again, and look at everything."""
        user: User = getattr(self, who)
        self.level(user)
        self.heard = ""
        try:
            return self._round(user, verb, item, kill, log)
        except (AssertionError, WastelandError) as error:
            told = f"{self.mode}, {verb} {item}, {kill}, {steps(log)}, {self.heard}"
            raise AssertionError(f"{error}\n  {told}") from error

    def _round(self, user: User, verb: str, item: Item, kill: Kill, log: Path) -> Record:
        log.unlink(missing_ok=True)
        began = time.monotonic()
        said, landed, last = self.killed(user, self.words(verb, item), kill, log)
        if said is not None:
            self.learn(verb, item, said)
            self.promised(user, verb, item)
        left = self.posts(item) if verb == "post" else []
        again = user.wl(*self.words(verb, item))
        self.retried(user, verb, item, again.code, again.out + again.err, said)
        self.consistent(user, item, {*left, item.id})
        return Record(self.mode, verb, kill, landed, last, said is not None, again.code, time.monotonic() - began)

    def killed(self, user: User, words: list[str], kill: Kill, log: Path) -> tuple[Any, str, str]:
        """Run a command with a kill on its way; what it said for sure, and where the kill landed."""
        more = {"WL_STEP_LOG": str(log)} | ({"WL_CRASH_AT": kill.at} if kill.at else {})
        if kill.at is not None:
            done = replace(user, env=user.env | more).wl(*words, timeout=90)
            return self._heard(words, kill, log, None, done)
        began = time.monotonic()
        running = subprocess.Popen(
            user.argv(*words), env=user.environment() | more, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            start_new_session=True,
        )  # fmt: skip
        while kill.after and running.poll() is None and kill.after not in steps(log):
            time.sleep(0.0005)
        now = time.monotonic()
        start = steps(log).get(kill.after, now) if kill.after else began
        time.sleep(max(0.0, start + kill.delay - now))
        at = time.monotonic()
        if kill.what == "client":
            if running.poll() is None:
                os.killpg(running.pid, signal.SIGKILL)
        else:
            kill_server(user, kill.what)
        try:
            out, err = running.communicate(timeout=90)
        except subprocess.TimeoutExpired:
            os.killpg(running.pid, signal.SIGKILL)
            raise AssertionError(f"{words} hangs after the kill of its {kill.what}") from None
        return self._heard(words, kill, log, at, Done(running.returncode, out, err))

    def _heard(self, words: list[str], kill: Kill, log: Path, at: float | None, done: Done) -> tuple[Any, str, str]:
        out, err = done.out, done.err
        self.heard = f"exit {done.code}: {out} {err}"
        assert "Traceback" not in err, err
        assert "internal error" not in out + err, out + err
        if kill.at is not None:
            assert done.code == -signal.SIGKILL, f"{words} never came to {kill.at}: {out}{err}"
        return answer(out), *place(steps(log), at, done.code)

    def learn(self, verb: str, item: Item, said: Any) -> None:
        """Take from an acknowledgement what later rounds need."""
        if verb == "post":
            item.id = said["item"]["id"]
        if said.get("branch"):
            item.branch = said["branch"]
        if said.get("pull"):
            item.pull = said["pull"]["number"] if isinstance(said["pull"], dict) else item.pull

    def promised(self, user: User, verb: str, item: Item) -> None:
        """What was acknowledged is there, for others to see."""
        if verb == "merge":
            assert self.landed(item), "an acknowledged merge is lost"
            self.acknowledged.append(f"{item.id} {item.head}")
            return
        view, where = self.where(user, item)
        assert view is not None, f"acknowledged, but {item.branch} is not on the fork"
        reached(view, item, TARGET[verb], where)
        if self.mode == "pr":
            assert self.pull_of(item.branch) is not None, "acknowledged, but without a pull request"
        self.acknowledged.append(f"{verb} {item.id}")

    def landed(self, item: Item) -> bool:
        """Whether upstream's main holds what is on the item's branch."""
        return self.eye.db.is_ancestor(item.head, self.eye_head())

    def where(self, user: User, item: Item) -> tuple[Database | None, str]:
        """Where others see the work on an item: upstream, or the branch on the fork."""
        if self.mode == "wild-west":
            return self.upstream(), "upstream"
        head = self.on_fork(user, item.branch)
        return (self.eye.db.at(head) if head else None), f"{item.branch} on the fork"

    def posts(self, item: Item) -> list[str]:
        """Items of this title that others can see already."""
        rows = self.upstream().rows("SELECT id FROM wanted WHERE title = :title", title=item.title)
        return [str(row["id"]) for row in rows]

    def retried(self, user: User, verb: str, item: Item, code: int, words: str, said: Any) -> None:
        """The same verb again succeeds, or is refused because it already happened; then it has happened for all."""
        if code == 0:
            assert said is None or verb == "post", f"{verb} was acknowledged and could be done again"
            self.learn(verb, item, json.loads(words[: words.rindex("}") + 1]))
        else:
            assert verb != "post", words
            assert code in REFUSALS, f"the next command failed with {code}: {words}"
        if self.mode == "pr" and verb != "merge":
            item.branch = f"wl/{user.name}/{item.id}"
        if verb == "merge":
            assert self.landed(item), words
            pull = self.hub.pull("acme", "commons", item.pull)
            assert pull.state == MERGED, f"landed, but pull request {item.pull} is {pull.state}: {words}"
            return
        view, where = self.where(user, item)
        assert view is not None, f"after the retry {where} does not exist: {words}"
        reached(view, item, TARGET[verb], where)
        if self.mode == "pr":
            pull = self.pull_of(item.branch)
            assert pull is not None, f"{item.branch} is pushed and has no pull request: {words}"
            item.pull, item.head = pull.number, str(self.on_fork(user, item.branch))

    # what must always be so

    def consistent(self, user: User, item: Item, ids: set[str]) -> None:
        """Nothing is half done, here, upstream or on the forks; and the chains hold."""
        whole(self.upstream(), "upstream")
        heads = {
            f"{remote}/{name}": head
            for remote in ("upstream", "fork-worker")
            for name, head in self.eye.db.remote_branches(remote).items()
            if item.id in name
        }
        for name, head in heads.items():
            view = self.eye.db.at(head)
            whole(view, name)
            for table in ("completions", "stamps"):
                for row in view.rows(f"SELECT id FROM {table} ORDER BY id DESC LIMIT 3"):
                    report = verifying.verify(self.eye, table[:-1], str(row["id"]), view)
                    assert report.verdict is Verdict.VERIFIED, f"{name}: {report}"
        with node_of(user) as node:
            clean(node)
            published = set()
            for view in [self.upstream(), *(self.eye.db.at(head) for head in heads.values())]:
                published |= signatures.digests(view, node.handle)
            journal(node, published)

    def settled(self) -> None:
        """The slow look, by commands: everybody level, every signature holds, both clones as upstream."""
        for user in (self.a, self.b):
            user.ok("sync")
            user.ok("browse", "--json")
            verified(user)
            with node_of(user) as node:
                assert node.db.hash_of("main") == self.eye_head(), f"{user.name}'s main is not upstream's after sync"

    def eye_head(self) -> str:
        self.upstream()
        return self.eye.db.hash_of("upstream/main")


def answer(out: str) -> Any:
    """The command's acknowledgement, if all of it was printed and it is one."""
    try:
        said = json.loads(out)
    except ValueError:
        return None
    return None if "error" in said else said


def steps(log: Path) -> dict[str, float]:
    """The steps that a command has passed, with the time of the first passing."""
    found: dict[str, float] = {}
    if log.exists():
        for line in log.read_text().split("\n")[:-1]:
            name, _, at = line.partition(" ")
            found.setdefault(name, float(at))
    return found


def points(log: Path) -> list[str]:
    """Every place where that command can be made to crash: `pushed`, `pushed:2`, …"""
    counts: Counter[str] = Counter()
    found = []
    for line in log.read_text().split("\n")[:-1]:
        name = line.partition(" ")[0]
        counts[name] += 1
        found.append(name if counts[name] == 1 else f"{name}:{counts[name]}")
    return found


def place(passed: dict[str, float], at: float | None, code: int) -> tuple[str, str]:
    """Between which marks a kill landed, and the last step before it."""
    before = [name for name, when in passed.items() if at is None or when <= at]
    last = max(before, key=lambda name: passed[name], default="start")
    if "acknowledged" in before:
        return AFTER, last
    return (BETWEEN if "begun" in before else BEFORE), last


def kill_server(user: User, what: str) -> None:
    """Kill the database server of a user's clone, or its keeper."""
    for file in user.home.glob(".local/share/wasteland/*/.*.node/server.json"):
        try:
            os.kill(json.loads(file.read_text())[what], signal.SIGKILL)
        except (ProcessLookupError, ValueError, KeyError):
            continue


def reached(view: Database, item: Item, target: str, where: str) -> None:
    """The item has come at least as far as `target`, by the right hands."""
    row = view.row("SELECT * FROM wanted WHERE id = :id", id=item.id)
    assert row is not None, f"{item.id} is not at {where}"
    assert ORDER.index(row["status"]) >= ORDER.index(target), f"{item.id} is {row['status']} at {where}, not {target}"
    assert row["posted_by"] == "poster"
    assert row["claimed_by"] == (None if target == "open" and row["status"] == "open" else "worker")


def whole(view: Database, where: str) -> None:
    """No row without the rows that belong to it, and no gap or fork in any rig's chain."""
    done = {str(r["wanted_id"]): r for r in view.rows("SELECT * FROM completions")}
    assert len(done) == view.value("SELECT COUNT(*) FROM completions"), f"{where}: two completions of one item"
    stamps = {str(r["id"]): r for r in view.rows("SELECT * FROM stamps")}
    signed = view.rows("SELECT * FROM wl_attestations ORDER BY signer, chain_seq")
    digests = {str(r["payload_sha256"]) for r in signed}
    for item in view.rows("SELECT * FROM wanted"):
        completion = done.pop(str(item["id"]), None)
        submitted = item["status"] in ("in_review", "completed")
        assert (completion is not None) == submitted, f"{where}: {item}, {completion}"
        assert (item["claimed_by"] is None) == (item["status"] in ("open", "withdrawn")), f"{where}: {item}"
        if completion is not None:
            stamp = stamps.pop(str(completion["stamp_id"]), None)
            assert (stamp is not None) == (item["status"] == "completed"), f"{where}: {item}, {completion}"
            for row in (completion, stamp):
                assert row is None or row["block_hash"] in digests, f"{where}: the attestation of {row} is missing"
    assert not done, f"{where}: completions without an item: {done}"
    assert not stamps, f"{where}: stamps without a completion: {stamps}"
    chains: dict[str, list[Any]] = defaultdict(list)
    for row in signed:
        chains[row["signer"]].append(row)
    for signer, rows in chains.items():
        assert [r["chain_seq"] for r in rows] == list(range(len(rows))), f"{where}: {signer}'s chain is {rows}"
        for one, following in pairwise(rows):
            assert following["chain_prev"] == one["payload_sha256"], f"{where}: {signer}'s chain breaks at {following}"


def clean(node: Node) -> None:
    """No uncommitted rows on main or on any branch of this rig, and each branch is whole."""
    for branch in ("main", *node.db.branches("wl/")):
        view = node.db.at(branch)
        view.refuse_dirty()
        whole(view, f"{branch} of {node.handle}")


def journal(node: Node, published: set[str]) -> None:
    """The journal is one chain without a gap, and nothing that others can see was taken back in it."""
    urn = standing.wasteland_id(node)
    kept = Journal(node.paths.keys / f"{node.handle}.journal")
    chain = sorted([*kept.entries(urn), *kept.unpublished(urn)], key=lambda entry: entry.seq)
    link = Link(0)
    for entry in chain:
        assert (entry.seq, entry.prev) == (link.seq, link.prev), f"{node.handle}'s journal breaks at {entry.seq}"
        link = Link(entry.seq + 1, entry.payload_sha256)
    lost = published - {entry.payload_sha256 for entry in chain}
    assert not lost, f"published, but not in {node.handle}'s journal: {lost}"


def verified(user: User) -> None:
    """No stamp or completion is invalid or undecided, by `wl verify --all`."""
    found = user.wl("verify", "--all", "--json")
    assert found.code == 0, found.out + found.err
    counts = json.loads(found.out)["counts"]
    bad = {name: counts[name] for name in ("invalid", "undecided", "unsigned") if counts.get(name)}
    assert not bad, found.out


# the sweep, and the random kills


def sweep(arena: Arena, log: Path) -> list[Record]:
    """Each verb is killed once at each of its steps, as a run without a kill shows them."""
    first = arena.new_item()
    records: list[Record] = []
    known: list[list[str]] = []
    for who, verb in WAY[arena.mode]:
        arena.undisturbed(who, verb, first, log)
        known.append(points(log))
    arena.settled()
    for number in range(max(map(len, known))):
        item = arena.new_item()
        for (who, verb), names in zip(WAY[arena.mode], known, strict=True):
            if number < len(names):
                records.append(arena.round(who, verb, item, Kill(at=names[number]), log))
            else:
                arena.undisturbed(who, verb, item, log)
    arena.settled()
    return records


@dataclass
class Aim:
    """Chooses moments: most between first statement and acknowledgement, the rest anywhere."""

    seed: int
    spans: dict[tuple[str, str], list[tuple[float, float]]] = field(default_factory=lambda: defaultdict(list))

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)

    def kill(self, number: int, mode: str, verb: str) -> Kill:
        """A moment for this round; every third round aims at the server, in turn with its keeper."""
        what = ("client", "client", "server", "client", "client", "keeper")[number % 6]
        begun, whole = (median(one) for one in zip(*(self.spans[mode, verb] or [(0.25, 0.5)])[-9:], strict=True))
        if self.random.random() < 0.8:
            return Kill(what, after="begun", delay=self.random.uniform(0, 0.85 * (whole - begun)))
        return Kill(what, delay=self.random.uniform(0, 1.2 * whole))

    def learn(self, mode: str, verb: str, passed: dict[str, float], began: float) -> None:
        """Remember how long a whole command took."""
        if "begun" in passed and "acknowledged" in passed:
            self.spans[mode, verb].append((passed["begun"] - began, passed["acknowledged"] - began))


def batter(
    arena: Arena, aim: Aim, rounds: int, log: Path, done: int = 0, made: list[Record] | None = None
) -> list[Record]:
    """Random kills along the way of item after item; `made` gets the records even when a round fails."""
    records: list[Record] = [] if made is None else made
    item = arena.new_item()
    for who, verb in WAY[arena.mode]:  # undisturbed, to learn how long each verb takes
        aim.learn(arena.mode, verb, *arena.undisturbed(who, verb, item, log))
    while len(records) < rounds:
        item = arena.new_item()
        for who, verb in WAY[arena.mode]:
            if len(records) < rounds:
                kill = aim.kill(done + len(records), arena.mode, verb)
                records.append(arena.round(who, verb, item, kill, log))
    arena.settled()
    return records


def histogram(records: list[Record]) -> str:
    """Where the kills landed, in words and bars."""
    total = len(records) or 1
    targets = Counter(r.kill.what for r in records)
    lines = [f"{len(records)} kills: " + ", ".join(f"{count} of the {what}" for what, count in targets.items())]
    for title, key in (("where", "landed"), ("last step before the kill", "last_step")):
        lines.append(f"{title}:")
        for name, count in Counter(getattr(r, key) for r in records).most_common():
            lines.append(f"  {name:<28} {count:>4}  {100 * count / total:5.1f} %  {'#' * round(60 * count / total)}")
    acknowledged = sum(r.acknowledged for r in records)
    redone = Counter(r.retried for r in records)
    lines.append(f"acknowledged before the kill or in spite of it: {acknowledged}; all of them kept")
    lines.append("the same verb again: " + ", ".join(f"exit {code}: {n}" for code, n in sorted(redone.items())))
    return "\n".join(lines)


# races


@dataclass
class Race:
    """How a race ended: for each item the names of its winners, and every refusal."""

    winners: dict[str, list[str]]
    refusals: list[dict[str, Any]]
    seconds: float

    def fair(self, items: list[str], racers: int) -> None:
        """One winner for each item, and a clear refusal for each of the others."""
        wrong = {item: who for item in items if len(who := self.winners.get(item, [])) != 1}
        assert not wrong, f"not exactly one winner: {wrong}"
        assert len(self.refusals) == len(items) * (racers - 1)
        for refusal in self.refusals:
            assert refusal["code"] in REFUSALS, refusal
            assert "claimed by " in refusal["words"], refusal


def racer(items: str, gate: str, out: str) -> None:
    """One process of a race: claims each item in an order of its own and writes down what came of it."""
    node = open_node(UPSTREAM)
    node.db.hash_of("main")
    names = json.loads(Path(items).read_text())
    random.shuffle(names)
    Path(f"{out}.ready").touch()
    while not Path(gate).exists():
        time.sleep(0.001)
    found = []
    for name in names:
        time.sleep(random.uniform(0, 0.1))  # the lock is not fair: whoever has it could take it again and again
        try:
            board.claim(node, name)
            found.append({"item": name, "who": node.handle, "won": True})
        except WastelandError as error:
            found.append({"item": name, "who": node.handle, "won": False, "code": error.exit_code, "words": str(error)})
    node.close()
    Path(out).write_text(json.dumps(found))


def race(users: list[User], items: list[str], folder: Path) -> Race:
    """Let one process for each of `users` claim all items at once."""
    folder.mkdir(parents=True)
    names, gate = folder / "items.json", folder / "gate"
    names.write_text(json.dumps(items))
    running = []
    for number, user in enumerate(users):
        words = ["-c", "import sys; from tests.stories.chaos import racer; racer(*sys.argv[1:])"]
        argv = [sys.executable, *words, str(names), str(gate), str(folder / f"{number}.json")]
        running.append(subprocess.Popen(argv, env=user.environment(), cwd=ROOT, stderr=subprocess.PIPE, text=True))
    until = time.monotonic() + 120
    while len(list(folder.glob("*.ready"))) < len(users):
        assert time.monotonic() < until, "the racers do not start"
        time.sleep(0.01)
    began = time.monotonic()
    gate.touch()
    for one in running:
        _, err = one.communicate(timeout=600)
        assert one.returncode == 0, err
    seconds = time.monotonic() - began
    winners: dict[str, list[str]] = defaultdict(list)
    refusals = []
    for number, _ in enumerate(users):
        for one in json.loads((folder / f"{number}.json").read_text()):
            if one["won"]:
                winners[one["item"]].append(one["who"])
            else:
                refusals.append(one)
    return Race(winners, refusals, seconds)


def board_of(poster: User, count: int) -> list[str]:
    """`count` open items upstream, posted in wild-west mode."""
    with node_of(poster) as node:
        node.config.mode = "wild-west"
        return [board.post(node, {"title": f"Race {number}"}).item.id for number in range(count)]


def claimed(user: User) -> dict[str, str]:
    """Who holds each claimed item, by upstream's main."""
    with node_of(user) as node:
        view = node.db.at(levelling.refresh(node))
        rows = view.rows("SELECT id, claimed_by FROM wanted WHERE status = 'claimed'")
        whole(view, "upstream")
        clean(node)
    return {str(row["id"]): str(row["claimed_by"]) for row in rows}


def one_rig(world: World, folder: Path, racers: int, count: int) -> Race:
    """One rig claims in many processes on one clone."""
    poster = world.create("poster", "wild-west")
    worker = world.join("worker", "wild-west", by=poster)
    items = board_of(poster, count)
    worker.ok("sync")
    ended = race([worker] * racers, items, folder)
    ended.fair(items, racers)
    assert claimed(poster) == dict.fromkeys(items, "worker")
    return ended


def one_clone(world: World, folder: Path, racers: int, count: int) -> Race:
    """Many rigs share one clone."""
    poster = world.create("poster", "wild-west")
    worker = world.join("worker", "wild-west", by=poster)
    items = board_of(poster, count)
    worker.ok("sync")
    rigs = []
    for number in range(racers):
        rig = world.user(f"rig-{number}")
        for kind in ("wastelands", "node"):
            file = Path(".config/wasteland") / kind / "acme/commons.json"
            (rig.home / file).parent.mkdir(parents=True)
            said = json.loads((worker.home / file).read_text())
            said |= {"rig_handle": rig.name} if kind == "wastelands" else {}
            (rig.home / file).write_text(json.dumps(said))
        rigs.append(rig)
    ended = race(rigs, items, folder)
    ended.fair(items, racers)
    assert claimed(poster) == {item: who[0] for item, who in ended.winners.items()}
    return ended


def many_forks(world: World, folder: Path, racers: int, count: int) -> Race:
    """Every rig claims on a fork of its own; a maintainer lands what comes, and the losers try again."""
    poster = world.create("poster", "pr")
    rigs = [world.join(f"rig-{number}", "pr", by=poster) for number in range(racers)]
    items = board_of(poster, count)
    began = time.monotonic()
    first = race(rigs, items, folder / "first")
    assert not first.refusals, "a claim on a fork is not yet a race"
    landed: dict[str, str] = {}
    with node_of(poster) as node:
        assert node.hub is not None
        pulls = node.hub.pulls("acme", "commons")
        assert len(pulls) == racers * count
        random.shuffle(pulls)
        for pull in pulls:
            _, who, item = pull.source.name.split("/")
            refused = _merge(node, pull.number)
            if refused is None:
                assert item not in landed, f"{item} landed for {landed[item]} and for {who}"
                landed[item] = who
                continue
            assert item in landed, f"{item} is free, yet: {refused}"
            assert refused.exit_code in REFUSALS, refused
            assert "landed first" in str(refused) or landed[item] in str(refused), refused
    assert claimed(poster) == landed
    assert sorted(landed) == sorted(items)
    again = race(rigs, items, folder / "again")
    assert not again.winners, f"claimed upstream, and claimed again: {again.winners}"
    assert len(again.refusals) == racers * count
    for refusal in again.refusals:
        assert refusal["code"] in REFUSALS, refusal
        assert f"claimed by {landed[refusal['item']]}" in refusal["words"], refusal
    return Race({item: [who] for item, who in landed.items()}, again.refusals, time.monotonic() - began)


def _merge(node: Node, number: int) -> WastelandError | None:
    try:
        land.merge(node, str(number))
    except WastelandError as error:
        return error
    return None


def keepers(user: User) -> set[int]:
    """The process ids of the keepers of this user's clones that run now."""
    found: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
            if any(w.endswith(b"keeper.py") for w in words) and any(str(user.home).encode() in w for w in words):
                found[int(entry.name)] = parent
    return {pid for pid, parent in found.items() if parent not in found}  # a keeper's child, before it becomes dolt


def cold_start(user: User, count: int = 20) -> tuple[set[int], list[subprocess.Popen[str]]]:
    """Start `count` commands at once where no server runs; every keeper that was seen, and the ended commands."""
    user.ok("server", "stop")
    until = time.monotonic() + 10
    while keepers(user):
        assert time.monotonic() < until, "the keeper does not end"
        time.sleep(0.01)
    running = [user.start("browse", "--json", "--no-sync") for _ in range(count)]
    seen: set[int] = set()
    while any(one.poll() is None for one in running):
        seen |= keepers(user)
        time.sleep(0.003)
    return seen | keepers(user), running


# the program


def main() -> None:
    """Run the long form and print its figures."""
    parser = argparse.ArgumentParser(description="Kill wl at random, sweep its crash points, race its claims.")
    parser.add_argument("--rounds", type=int, default=0, help="random kills, half of them in each mode")
    parser.add_argument("--sweep", action="store_true", help="kill each verb once at each of its steps")
    parser.add_argument("--races", action="store_true", help="16 processes, 50 items, three ways")
    parser.add_argument("--racers", type=int, default=16)
    parser.add_argument("--items", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=list(WAY), help="random kills in one mode only")
    given = parser.parse_args()
    environment()
    modes = [given.only] if given.only else list(WAY)
    for mode in modes if given.sweep else []:
        print(f"== crash points, {mode}\n{histogram(_timed(mode, sweep))}", flush=True)
    harm = _rounds(given.rounds, modes, Aim(given.seed)) if given.rounds else 0
    for contest in (one_rig, one_clone, many_forks) if given.races else ():
        _contest(contest, given.racers, given.items)
    sys.exit(1 if harm else 0)


def _rounds(count: int, modes: list[str], aim: Aim) -> int:
    """`count` random kills, in wastelands of BATCH rounds; how many did harm."""
    records: list[Record] = []
    harm = batch = 0
    began = time.monotonic()
    while len(records) + harm < count:
        mode, left, done = modes[batch % len(modes)], count - len(records) - harm, len(records)
        made: list[Record] = []
        try:
            _timed(mode, lambda arena, log, n=min(BATCH, left), d=done, m=made: batter(arena, aim, n, log, d, m))
        except AssertionError as error:
            harm += 1
            print(f"   HARM in {mode} after round {done + len(made)}: {error}", flush=True)
        records += made
        batch += 1
        print(f"   {len(records)} rounds, {harm} with harm, {time.monotonic() - began:.0f} s", flush=True)
    print(f"== {len(records) + harm} random kills in {time.monotonic() - began:.0f} s, {harm} with harm")
    print(histogram(records), flush=True)
    return harm


BATCH = 25


def _timed(mode: str, what: Any) -> Any:
    with tempfile.TemporaryDirectory(prefix="wl-chaos-", ignore_cleanup_errors=True) as name:
        arena = Arena.open(World(Path(name)), mode)
        try:
            return what(arena, Path(name) / "steps")
        finally:
            arena.close()


def _contest(contest: Any, racers: int, items: int) -> None:
    with tempfile.TemporaryDirectory(prefix="wl-race-", ignore_cleanup_errors=True) as name:
        world = World(Path(name))
        folder = Path(name) / "race"
        try:
            ended = contest(world, folder, racers, items)
        finally:
            world.stop()
    print(
        f"== {contest.__name__}: {racers} processes, {items} items: one winner each, "
        f"{len(ended.refusals)} refusals, {ended.seconds:.1f} s",
        flush=True,
    )


def environment() -> None:
    """What conftest sets for tests."""
    kept = {name: os.environ[name] for name in PASSED if name in os.environ}
    os.environ.clear()
    os.environ.update({"HOME": "/nonexistent", "WL_KEYSTORE": "file", "TZ": "UTC", "WL_SERVER_IDLE": "20", **kept})


if __name__ == "__main__":
    main()
