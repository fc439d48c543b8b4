"""What the verbs of `wl` cost, in units that a busy machine stretches too.

The floor is one `dolt sql -q 'SELECT …'` on a stopped copy of the same clone;
that of starting is `import click`, see `small`.
Every round runs the floor, the verbs and the pushes in turn, so that load from
elsewhere falls on all of them; only ratios are judged, never seconds.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.bench import small
from tests.conftest import PASSED, User, World
from wasteland.dolt import binary

FLOOR, CLICK, PUSH = "dolt sql -q", "import click", "dolt push"
SELECT = "SELECT id, title, status FROM wanted ORDER BY priority, created_at DESC LIMIT 50"
# What is judged: the measurement, how many times what, and what comes on top of that.
TARGETS = (
    ("wl --help", 1.15, CLICK, None),
    ("wl browse", 3.0, FLOOR, None),
    ("wl claim --no-push", 3.0, FLOOR, None),
    ("wl claim (pr)", 3.0, FLOOR, PUSH),
    *((small.PREFIX + name, target, CLICK, None) for name, target in small.TARGETS.items()),
)
WRAPPER = """#!/bin/sh
echo "$*" >>"{log}"
exec "{dolt}" "$@"
"""


@dataclass
class Series:
    """The times of one thing, in seconds, and the Dolt processes that it started."""

    times: list[float] = field(default_factory=list)
    dolts: int = 0

    @property
    def median(self) -> float:
        return statistics.median(self.times)

    @property
    def best(self) -> float:
        return min(self.times)


@dataclass(frozen=True)
class Verdict:
    """A target, and the ratio that was found: of medians, and of the best times."""

    name: str
    target: float
    median: float
    best: float
    over: str

    def met(self, slack: float = 1.0) -> bool:
        """Whether the target was met: by the medians, or with slack by the better of medians and best times."""
        found = self.median if slack == 1 else min(self.median, self.best)
        return found <= self.target * slack


class Bench:
    """A hub with a wild-west rig and a PR-mode rig on `items` items, and what was measured there."""

    def __init__(self, folder: Path, items: int, rounds: int) -> None:
        self.world = World(folder)
        self.items = items
        self.rounds = rounds
        self.series: dict[str, Series] = {}
        self.dolt = str(binary.find())
        self.log = folder / "dolts.log"
        wrapper = folder / "dolt"
        wrapper.write_text(WRAPPER.format(log=self.log, dolt=self.dolt))
        wrapper.chmod(0o755)
        self.log.touch()
        self.wl = str(Path(sys.executable).with_name("wl"))
        self.small = small.Small(folder / "small", self.verb)
        os.environ["WL_DOLT"] = str(wrapper)

    def build(self) -> None:
        """Make the wasteland, load the items in one commit, join the second rig."""
        self.wild = self.world.create("poster", mode="wild-west")
        self.wild.stop()
        clone = self.wild.clone()
        self._dolt(clone, "sql", stdin=self._rows())
        self._dolt(clone, "add", "-A")
        self._dolt(clone, "commit", "-m", f"{self.items} items")
        self._dolt(clone, "push", "origin", "main")
        self.pr = self.world.join("worker")
        self.small.build()
        self.copies = []
        for user in (self.wild, self.pr):
            user.stop()
            copy = self.world.folder / f"stopped-{user.name}"
            shutil.copytree(user.clone(), copy)
            self.copies.append(copy)

    def _rows(self) -> str:
        at = "'2026-01-01 00:00:00'"
        open_items = [
            f"('w-{n:010d}', 'Item number {n}', 'What is wanted, in a line of words', 'bench', 'bug', {n % 5}, "
            f"'poster', 'open', 'small', {at}, {at}, NULL)"
            for n in range(self.items)
        ]
        reviewed = [
            f"('w-r{n:09d}', 'In review {n}', NULL, 'bench', 'bug', 2, 'poster', 'in_review', 'small', "
            f"{at}, {at}, 'ada')"
            for n in range(2 * (self.rounds + 1))
        ]
        done = [
            f"('c-{n:016d}', 'w-r{n:09d}', 'ada', 'https://example.com/{n}', {at})"
            for n in range(2 * (self.rounds + 1))
        ]
        return (
            "INSERT INTO wanted (id, title, description, project, type, priority, posted_by, status, effort_level, "
            f"created_at, updated_at, claimed_by) VALUES {', '.join(open_items + reviewed)};\n"
            f"INSERT INTO completions (id, wanted_id, completed_by, evidence, completed_at) VALUES {', '.join(done)};\n"
        )

    def _environment(self) -> dict[str, str]:
        home = self.world.folder / "dolt-home"
        if not home.exists():
            (home / ".dolt").mkdir(parents=True)
            (home / ".dolt" / "config_global.json").write_text(
                '{"user.name":"bench","user.email":"bench@example.com","metrics.disabled":"true",'
                '"versioncheck.disabled":"true"}'
            )
        kept = {name: os.environ[name] for name in PASSED if name in os.environ}
        return kept | {"HOME": str(home), "DOLT_ROOT_PATH": str(home), "TZ": "UTC",
                       "DOLT_USE_ADAPTIVE_ENCODING": "false", "DOLT_DISABLE_EVENT_FLUSH": "1"}  # fmt: skip

    def _dolt(self, cwd: Path, *words: str, stdin: str | None = None) -> None:
        subprocess.run([self.dolt, *words], cwd=cwd, env=self._environment(), input=stdin, text=True, check=True,
                       capture_output=True)  # fmt: skip

    def _time(self, name: str, argv: Sequence[str], *, env: dict[str, str], cwd: Path | None = None) -> str:
        before = self.log.read_bytes().count(b"\n")
        began = time.perf_counter()
        done = subprocess.run(argv, cwd=cwd, env=env, capture_output=True, text=True, stdin=subprocess.DEVNULL)
        took = time.perf_counter() - began
        if done.returncode:
            raise RuntimeError(f"{name}: exit {done.returncode}: {done.stdout}{done.stderr}")
        series = self.series.setdefault(name, Series())
        series.times.append(took)
        series.dolts = max(series.dolts, self.log.read_bytes().count(b"\n") - before)
        return done.stdout

    def verb(self, user: User, name: str, *words: str) -> str:
        return self._time(name, [self.wl, *words], env=user.environment())

    def floor(self) -> None:
        self._time(FLOOR, [self.dolt, "sql", "-q", SELECT], env=self._environment(), cwd=self.copies[0])

    def push(self, n: int) -> None:
        """Push one claim as a person at the command line would; only the push is timed."""
        copy, item = self.copies[1], f"w-{n:010d}"
        self._dolt(copy, "checkout", "-b", f"bench/{item}", "main")
        self._dolt(copy, "sql", "-q", f"UPDATE wanted SET status = 'claimed', claimed_by = 'cli' WHERE id = '{item}'")
        self._dolt(copy, "commit", "-a", "-m", f"claim {item}")
        self._time(PUSH, [self.dolt, "push", "origin", f"bench/{item}"], env=self._environment(), cwd=copy)

    def judged(self, n: int) -> None:
        """One round of what has a target."""
        env = self.wild.environment()
        self.floor()
        self._time(CLICK, [sys.executable, "-c", "import click"], env=env)
        self.verb(self.wild, "wl --help", "--help")
        self.verb(self.wild, "wl browse", "browse", "--limit", "1000")
        self.verb(self.wild, "wl claim --no-push", "claim", "--no-push", f"w-{n:010d}")
        self.floor()
        self.push(n)
        self.verb(self.pr, "wl claim (pr)", "claim", f"w-{n:010d}")
        self._time(CLICK, [sys.executable, "-c", "import click"], env=env)
        self.small.round(n)

    def others(self, n: int) -> None:
        """One round of the verbs that have no target of their own."""
        wild, item = self.wild, f"w-{n:010d}"
        for words in ("browse --no-sync", "me --no-sync", "sync", "review", "list", "version", "leaderboard"):
            self.verb(wild, f"wl {words}", *words.split())
        self.verb(wild, "wl status", "status", item)
        made = self.verb(wild, "wl post --no-push", "post", "--title", f"Post {n}", "--no-push", "--json")
        posted = json.loads(made)["item"]["id"]
        self.verb(wild, "wl update --no-push", "update", posted, "--title", f"New {n}", "--no-push")
        self.verb(wild, "wl delete --no-push", "delete", posted, "--no-push")
        self.verb(wild, "wl done --no-push", "done", item, "--evidence", "https://example.com/1", "--no-push")
        self.verb(wild, "wl reject --no-push", "reject", item, "--no-push")
        self.verb(wild, "wl unclaim --no-push", "unclaim", item, "--no-push")
        self.verb(wild, "wl accept --no-push", "accept", f"w-r{2 * n:09d}", "--quality", "4", "--no-push")
        self.verb(wild, "wl close --no-push", "close", f"w-r{2 * n + 1:09d}", "--no-push")

    def run(self, *, everything: bool) -> None:
        """Warm up with one round that does not count, then measure."""
        for n in range(self.rounds + 1):
            self.judged(n)
            if everything:
                self.others(n)
            if n == 0:
                self.series.clear()

    def verdicts(self) -> list[Verdict]:
        """The ratios that have a target."""
        found = []
        for name, target, floor, extra in TARGETS:
            one, base = self.series[name], self.series[floor]
            median, best = one.median, one.best
            if extra is not None:
                # What is left of the time without the push may be less than nothing where the push by hand is slower.
                median, best = median - self.series[extra].median, best - self.series[extra].best
            over = f"{floor}{f' + {extra}' if extra else ''}"
            found.append(Verdict(name, target, median / base.median, best / base.best, over))
        return found

    def started(self) -> dict[str, int]:
        """The verbs that started a Dolt process although a server ran, and how many."""
        return {name: s.dolts for name, s in self.series.items() if name.startswith("wl ") and s.dolts}


def measured(folder: Path, items: int, rounds: int, *, everything: bool) -> Bench:
    """A bench that has run; its servers are stopped and WL_DOLT is what it was."""
    before = os.environ.get("WL_DOLT")
    bench = Bench(folder, items, rounds)
    try:
        bench.build()
        bench.run(everything=everything)
    finally:
        bench.world.stop()
        bench.small.world.stop()
        if before is None:
            del os.environ["WL_DOLT"]
        else:
            os.environ["WL_DOLT"] = before
    return bench


def _report(bench: Bench) -> list[str]:
    floor = bench.series[FLOOR]
    lines = [f"{'':24} {'median ms':>10} {'min ms':>8} {'x floor':>8} {'dolts':>6}"]
    for name, one in bench.series.items():
        ratio = one.median / floor.median
        lines.append(f"{name:24} {one.median * 1000:10.0f} {one.best * 1000:8.0f} {ratio:8.2f} {one.dolts:6}")
    lines.append("")
    for v in bench.verdicts():
        said = "met" if v.met() else "MISSED"
        lines.append(f"{v.name:24} {v.median:5.2f} (best {v.best:.2f}) of at most {v.target} x {v.over}: {said}")
    started = bench.started()
    lines.append(f"Dolt processes started with a warm server: {started or 0}")
    return lines


def _json(bench: Bench) -> dict[str, Any]:
    return {
        "schema_version": 1,
        "load": os.getloadavg(),
        "items": bench.items,
        "series": {
            name: {"median": s.median, "min": s.best, "times": s.times, "dolts": s.dolts}
            for name, s in bench.series.items()
        },
        "targets": [{**vars(v), "met": v.met()} for v in bench.verdicts()],
    }


def main() -> int:
    """Measure and print; 1 where a target is missed."""
    parser = argparse.ArgumentParser(prog="scripts/bench", description="The verbs of wl against the floor.")
    parser.add_argument("--items", type=int, default=1000)
    parser.add_argument("--runs", type=int, default=9, help="at least 7")
    parser.add_argument("--targets-only", action="store_true", help="only what has a target")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    if args.runs < 7:
        parser.error("fewer than 7 runs say nothing")
    os.environ.update({"WL_SERVER_IDLE": "120", "TZ": "UTC"})
    load = os.getloadavg()
    with tempfile.TemporaryDirectory(prefix="wl-bench-") as folder:
        bench = measured(Path(folder), args.items, args.runs, everything=not args.targets_only)
    if args.json:
        print(json.dumps(_json(bench)))
    else:
        print(f"{args.items} items, {args.runs} runs, load {load[0]:.2f} before, {os.getloadavg()[0]:.2f} after\n")
        print("\n".join(_report(bench)))
    return 0 if all(v.met() for v in bench.verdicts()) and not bench.started() else 1


if __name__ == "__main__":
    sys.exit(main())
