"""What working through a hub costs: requests, and time as a multiple of what those requests alone would take.

One hub over HTTP with some forks and many open pull requests.  Each verb is a
process of its own; how many requests it made is counted inside it.  Two more
ratios are taken in one process: a board of many items against its SQL alone,
and a sync of one change against the bare fetch of it.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.conftest import User, World
from tests.hubs import Hub
from wasteland.commons import wanted
from wasteland.local.config import Paths
from wasteland.market import board, browse
from wasteland.node import sync
from wasteland.node.node import Node, open_node
from wasteland.review import land

MOST = 5  # requests of a verb
BOARD, SYNC = 2.0, 3.0  # times the SQL alone; times a bare fetch
COUNTED = """
import sys
from wasteland import cli
from wasteland.hub.rest import client as rest
made = []
begin = rest.Wire.__init__
def counted(self, *words, **named):
    begin(self, *words, **named)
    made.append(self)
rest.Wire.__init__ = counted
code = cli.run(sys.argv[2:])
open(sys.argv[1], "w").write(str(sum(wire.calls for wire in made)))
sys.exit(code)
"""


@dataclass
class Series:
    """The requests and seconds of one verb, by run."""

    calls: list[int] = field(default_factory=list)
    times: list[float] = field(default_factory=list)


class Federation:
    """A hub, a maintainer `acme`, and `forks` rigs that have `pulls` pull requests open between them."""

    def __init__(self, folder: Path, *, pulls: int, forks: int, api: str = "v2") -> None:
        self.world = World(folder)
        self.hub = Hub.start(folder / "served")
        self.series: dict[str, Series] = {}
        self.pulls = pulls
        self.api = api
        self.acme = self._user("acme")
        self.acme.ok("create", "acme/commons", "--hub", self.hub.api)
        self.rigs = [self._user(f"rig{number}") for number in range(forks)]
        for rig in self.rigs:
            made = rig.json("join", "acme/commons", "--hub", self.hub.api)
            self.acme.ok("merge", str(made["pull"]))

    def _user(self, name: str) -> User:
        user = self.world.user(name, WL_HUB_API=self.api)
        token = self.hub.add_user(name)
        user.wl("login", "--hub", self.hub.api, stdin=token + "\n").ok()
        return user

    def node(self, user: User) -> Node:
        """A user's node in this process."""
        return open_node("acme/commons", Paths(user.home, user.home / ".config", user.home / ".local" / "share"))

    def fill(self) -> None:
        """Open the pull requests, a post each, and land one item of the maintainer's that is worked on later."""
        nodes = [self.node(rig) for rig in self.rigs]
        for number in range(self.pulls):
            board.post(nodes[number % len(nodes)], {"title": f"Item {number}"})
        for node in nodes:
            node.close()

    def item(self, title: str) -> str:
        """An item of the maintainer's that is on main."""
        made = self.acme.json("post", "--title", title)
        self.acme.ok("merge", str(made["pull"]["number"]))
        return str(made["item"]["id"])

    def verb(self, user: User, *words: str) -> Any:
        """Run one command, and count its requests; what it printed as JSON."""
        count = self.world.folder / "count"
        began = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-c", COUNTED, str(count), *words, "--json"], env=user.environment(),
            capture_output=True, text=True, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        took = time.perf_counter() - began
        if done.returncode:
            raise RuntimeError(f"wl {' '.join(words)}: exit {done.returncode}: {done.stdout}{done.stderr}")
        series = self.series.setdefault(words[0], Series())
        series.calls.append(int(count.read_text()))
        series.times.append(took)
        return json.loads(done.stdout)

    def measure(self, runs: int) -> None:
        """Each verb in PR mode, `runs` times; the first inbox and the first claim meet pull requests that are new."""
        worker = self.rigs[0]
        self.verb(self.acme, "inbox")
        self.first_inbox = self.series.pop("inbox").calls[0]
        worker.ok("inbox")
        for number in range(runs):
            item = self.item(f"Worked on {number}")
            self.verb(worker, "browse")
            made = self.verb(worker, "claim", item)
            self.verb(worker, "done", item, "--evidence", "https://example.com/1")
            self.acme.ok("merge", str(made["pull"]["number"]))
            self.verb(self.acme, "accept", item, "--quality", "4")
            self.verb(worker, "status", item)
            self.verb(self.acme, "inbox")

    def latency(self) -> float:
        """The hub's own time for one request, in seconds: the median of some reads."""
        node = self.node(self.acme)
        hub = node.hub
        assert hub is not None
        times = [_timed(lambda: hub.read("acme", "commons", "main", "SELECT 1")) for _ in range(20)]
        node.close()
        return statistics.median(times)

    def one_change(self, runs: int) -> float:
        """How many times a bare fetch of one change upstream a whole sync of one change takes."""
        node, other = self.node(self.rigs[0]), self.node(self.acme)
        sync.sync(node)
        bare, whole = [], []
        for number in range(runs + 1):
            for times, act in ((bare, lambda: node.db.fetch("upstream")), (whole, lambda: sync.sync(node))):
                made = board.post(other, {"title": f"Change {number}"})
                land.merge(other, str(made.pull.number if made.pull else ""))
                took = _timed(act)
                if number:
                    times.append(took)
                sync.sync(node)
        node.close()
        other.close()
        return statistics.median(whole) / statistics.median(bare)

    def stop(self) -> None:
        self.world.stop()
        self.hub.stop()


def large_board(folder: Path, items: int, runs: int) -> float:
    """How many times its SQL alone the board of `items` items takes, both in one session."""
    world = World(folder)
    user = world.create("poster")
    node = open_node("acme/commons", Paths(user.home, user.home / ".config", user.home / ".local" / "share"))
    try:
        batch = 2000
        for start in range(0, items, batch):
            rows = ", ".join(
                f"('w-{n:010d}', 'Item {n}', 'A line of words that says what is wanted', 'bench', 'bug', {n % 5},"
                f" 'poster', 'open', 'small', '2026-01-01', '2026-01-01')"
                for n in range(start, min(items, start + batch))
            )
            with node.db.change(f"{batch} items"):
                node.db.run(
                    "INSERT INTO wanted (id, title, description, project, type, priority, posted_by, status,"
                    f" effort_level, created_at, updated_at) VALUES {rows}"
                )
        alone, whole = [], []
        for number in range(runs + 1):
            one = _timed(lambda: wanted.listing(node.db.at("main"), {}, 50, long=False))
            all_of_it = _timed(lambda: browse.browse(node, {}, limit=50))
            if number:
                alone.append(one)
                whole.append(all_of_it)
        return statistics.median(whole) / statistics.median(alone)
    finally:
        node.close()
        world.stop()


def _timed(act: Callable[[], object]) -> float:
    began = time.perf_counter()
    act()
    return time.perf_counter() - began


def _report(found: Federation, latency: float) -> list[str]:
    lines = [f"{'':10} {'requests':>8} {'at most':>8} {'median ms':>10} {'x requests alone':>17}"]
    for name, one in found.series.items():
        took = statistics.median(one.times)
        alone = latency * max(1, max(one.calls))
        lines.append(f"{name:10} {max(one.calls):8} {MOST:8} {took * 1000:10.0f} {took / alone:17.1f}")
    lines.append(f"{'inbox, 1st':10} {found.first_inbox:8} {found.pulls + 1:8}")
    return [*lines, "", f"one request takes the hub {latency * 1000:.1f} ms"]


def main() -> int:
    """Measure and print; 1 where a target is missed."""
    parser = argparse.ArgumentParser(prog="scripts/bench --hub", description="The verbs of wl through a hub.")
    parser.add_argument("--pulls", type=int, default=100)
    parser.add_argument("--forks", type=int, default=5)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--runs", type=int, default=5)
    args = parser.parse_args()
    os.environ.update({"WL_SERVER_IDLE": "120", "TZ": "UTC", "WL_KEYSTORE": "file"})
    with tempfile.TemporaryDirectory(prefix="wl-bench-") as folder:
        found = Federation(Path(folder) / "hub", pulls=args.pulls, forks=args.forks)
        try:
            found.fill()
            found.measure(args.runs)
            latency, synced = found.latency(), found.one_change(args.runs)
        finally:
            found.stop()
        browsed = large_board(Path(folder) / "board", args.items, args.runs)
    print(f"{args.pulls} open pull requests of {args.forks} forks, load {os.getloadavg()[0]:.1f}\n")
    print("\n".join(_report(found, latency)))
    print(f"browse of {args.items} items: {browsed:.2f} of at most {BOARD} x the SQL alone")
    print(f"sync of one change: {synced:.2f} of at most {SYNC} x a bare fetch")
    calls = max(max(one.calls) for one in found.series.values())
    met = calls <= MOST and found.first_inbox <= args.pulls + 2 and browsed <= BOARD and synced <= SYNC
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
