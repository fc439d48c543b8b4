"""Five nodes on one hub over HTTP: rigs that are processes of their own, and what the story types on them.

A rig's process carries out command lines one after the other, each as `wl`
would in a process of its own: another home, key, token and fork than its
neighbours'.  It counts the hub's calls, and it can be killed.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from tests.conftest import Done, User, World
from tests.hubs import Hub

ROOT = Path(__file__).parents[2]
UPSTREAM = "acme/commons"
WORKERS = ("ada", "bob", "cyd", "dan")
NODES = ("acme", *WORKERS)
UNREACHABLE = 8
ALREADY = (5, 6)
KILLED = -signal.SIGKILL
TRIES = 8
ROWS = ("wanted", "completions", "stamps")


@dataclass
class Rig:
    """One user's process; `between` is called while a merge waits between its judgement and its push."""

    user: User
    figures: dict[str, list[tuple[float, int]]]
    between: Callable[[], None] = lambda: None
    process: subprocess.Popen[str] | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def name(self) -> str:
        return self.user.name

    def wl(self, *words: str, kill: float | None = None, paused: bool = False) -> Done:
        """Type a command; with `kill`, kill the process that many seconds later."""
        with self.lock:
            found = self._ask({"words": [*words, "--json"], "paused": paused}, kill)
        if found is None:
            return Done(KILLED, "", "")
        self.figures[words[0]].append((found["seconds"], found["calls"]))
        assert "Traceback" not in found["err"] + found["out"], found
        assert found["code"] != 70, f"{self.name}$ wl {' '.join(words)}: {found['out']}"
        return Done(found["code"], found["out"], found["err"])

    def ok(self, *words: str, paused: bool = False) -> Any:
        """Type a command that must succeed; its answer."""
        done = self.wl(*words, paused=paused)
        assert done.code == 0, f"{self.name}$ wl {' '.join(words)}: exit {done.code} {done.out} {done.err}"
        return json.loads(done.out)

    def call(self, name: str, **given: Any) -> Any:
        """Have the process call a function of `tests.stories.audit` with its node."""
        with self.lock:
            found = self._ask({"call": name, "given": given}, None)
        assert found is not None
        assert "error" not in found, f"{self.name}: {found['error']}"
        return found["value"]

    def _ask(self, order: dict[str, Any], kill: float | None) -> Any:
        if self.process is None or self.process.poll() is not None:
            self._start()
        process = self.process
        assert process is not None
        assert process.stdin is not None
        assert process.stdout is not None
        timer = threading.Timer(kill, process.kill) if kill is not None else None
        if timer:
            timer.start()
        try:
            with contextlib.suppress(BrokenPipeError):
                process.stdin.write(json.dumps(order) + "\n")
                process.stdin.flush()
            while (line := process.stdout.readline()) and json.loads(line).get("at"):
                self.between()
                process.stdin.write("\n")
                process.stdin.flush()
        finally:
            if timer:
                timer.cancel()
                timer.join()
        if not line:
            code = process.wait(20)
            assert code == KILLED, f"{self.name}'s process ended with {code}: {self._log()}"
            return None
        return json.loads(line)

    def _log(self) -> str:
        return (self.user.home / "rig.log").read_text()[-2000:]

    def _start(self) -> None:
        self.end()
        with (self.user.home / "rig.log").open("a") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", "from tests.stories.rig import serve; serve()"],
                env=self.user.environment(), cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log,
                text=True, start_new_session=True,
            )  # fmt: skip

    def end(self) -> None:
        """End the process."""
        if self.process is not None:
            for pipe in (self.process.stdin, self.process.stdout):
                with contextlib.suppress(OSError):
                    pipe.close()  # type: ignore[union-attr]
            self.process.wait(20)
            self.process = None


@dataclass
class Five:
    """The hub, an owner with two machines, four workers, and what was promised to whom."""

    world: World
    hub: Hub
    rigs: dict[str, Rig] = field(default_factory=dict)
    figures: dict[str, list[tuple[float, int]]] = field(default_factory=lambda: defaultdict(list))
    promised: list[tuple[str, str, str]] = field(default_factory=list)
    kills: int = 0
    disturbed: int = 0
    moved: int = 0
    moving: str = ""
    random: random.Random = field(default_factory=lambda: random.Random(5))

    @classmethod
    def open(cls, folder: Path) -> Five:
        """Start the hub; have acme make the wasteland, its second machine and the others join."""
        made = cls(World(folder), Hub.start(folder / "hub"))
        try:
            made._people()
        except BaseException:
            made.close()
            raise
        return made

    def _people(self) -> None:
        for name in NODES:
            self.add(name, self.hub.add_user(name))
        self["acme"].ok("create", UPSTREAM)
        pulls = self.all(lambda rig: rig.ok("join", UPSTREAM)["pull"], WORKERS)
        for number in pulls:
            self["acme"].ok("approve", str(number))
        landed = self["acme"].ok("queue")["pulls"]
        assert [one["state"] for one in landed] == ["landed"] * len(WORKERS), landed
        self._laptop()
        self.sync()

    def _laptop(self) -> None:
        """Acme's second machine, which pushes straight to main: the same rig, with the same key."""
        laptop = self.add("laptop", self.hub.tokens["acme"])
        own = self["acme"].user.home
        shutil.copytree(own / ".config" / "wasteland" / "keys", laptop.user.home / ".config" / "wasteland" / "keys")
        shutil.copy(own / ".dolt" / "config_global.json", laptop.user.home / ".dolt" / "config_global.json")
        laptop.ok("join", UPSTREAM, "--direct", "--handle", "acme")
        laptop.ok("config", "set", "mode", "wild-west")
        self.moving = laptop.ok("post", "--title", "Moves all the time")["item"]["id"]

    def add(self, name: str, token: str) -> Rig:
        user = self.world.user(name, WL_HUB=self.hub.api, WL_HUB_TOKEN=token)
        self.rigs[name] = Rig(user, self.figures, between=self.move)
        return self.rigs[name]

    def __getitem__(self, name: str) -> Rig:
        return self.rigs[name]

    def move(self) -> None:
        """Upstream moves: the laptop lands something else."""
        self.moved += 1
        self["laptop"].ok("update", self.moving, "--title", f"Moved {self.moved} times")

    def all(self, what: Callable[[Rig], Any], names: tuple[str, ...] | list[str] = NODES) -> list[Any]:
        """Do the same on several rigs at once."""
        return together([lambda rig=self[name]: what(rig) for name in names])

    def sync(self) -> None:
        self.all(lambda rig: rig.ok("sync"))

    # what is typed, and typed again

    def do(self, rig: Rig, verb: str, item: str, *words: str, kill: float | None = None) -> Any:
        """A verb that must succeed in the end, whatever fails or is killed on its way; the answer, if one came.

        Typed again after a disturbance it may be refused, because it happened.
        """
        disturbed = False
        for attempt in range(TRIES):
            done = rig.wl(verb, item, *words, kill=None if attempt else kill)
            if done.code == 0:
                made = json.loads(done.out)
                if "pull" in made or made.get("reverted") or rig.name == "laptop":
                    self.promised.append((rig.user.name.replace("laptop", "acme"), verb, made["item"]["id"]))
                    return made
                disturbed = True  # pushed, and nobody asked to take it: typed again, it is offered
            elif done.code == KILLED or done.code == UNREACHABLE:
                disturbed = True
            else:
                assert disturbed, f"{rig.name}$ wl {verb} {item}: exit {done.code} {done.out} {done.err}"
                assert done.code in ALREADY, f"{rig.name}$ wl {verb} {item}: exit {done.code} {done.out} {done.err}"
                if self._happened(rig, verb, item):
                    self.promised.append((rig.name, verb, item))
                    return None
            self.kills += done.code == KILLED
            self.disturbed += done.code == UNREACHABLE
            if done.code != KILLED:
                time.sleep(0.3 * attempt)
        raise AssertionError(f"{rig.name}$ wl {verb} {item}: {TRIES} times in vain; {done.out} {done.err}")

    def _happened(self, rig: Rig, verb: str, item: str) -> bool:
        """Whether a verb that is refused now has been done by this rig, and is offered."""
        card = rig.ok("status", item)
        done = any((one["by"], one["what"].split(":")[0]) == (rig.name, f"wl {verb}") for one in card["history"])
        if verb == "unclaim" and "branch" not in card:
            return card["item"]["status"] == "open"
        return done and ("branch" not in card or "pull" in card)

    def queue(self, *words: str, paused: bool = True) -> dict[int, dict[str, Any]]:
        """Run the queue on acme's machine, while upstream moves under each landing; by pull request."""
        for attempt in range(TRIES):
            done = self["acme"].wl("queue", *words, paused=paused)
            if done.code in (0, 5) and "pulls" in done.out:
                return {one["pull"]: one for one in json.loads(done.out)["pulls"]}
            assert done.code == UNREACHABLE, done
            self.disturbed += 1
            time.sleep(0.3 * attempt)
        raise AssertionError(f"the queue does not run: {done}")

    def land(self) -> dict[int, dict[str, Any]]:
        """Land what may land; what the rules leave to a person is approved.  Every outcome, by pull request."""
        found = self.queue("--auto")
        open_ = [number for number, one in found.items() if one["state"] == "waiting"]
        for number in open_:
            self["acme"].ok("approve", str(number))
        return found | self.queue() if open_ else found

    def table(self) -> str:
        """Seconds and HTTP calls of each command."""
        lines = [f"{'command':<10} {'times':>5} {'median s':>9} {'max s':>7} {'calls':>6} {'most':>5}"]
        for verb, found in sorted(self.figures.items()):
            seconds, calls = zip(*found, strict=True)
            lines.append(
                f"{verb:<10} {len(found):>5} {median(seconds):>9.2f} {max(seconds):>7.2f} {median(calls):>6.0f} "
                f"{max(calls):>5}"
            )
        total = sum(calls for found in self.figures.values() for _, calls in found)
        return "\n".join([*lines, f"{total} HTTP calls in all; {self.kills} kills, {self.disturbed} times unreachable, "
                          f"upstream moved under {self.moved} landings"])  # fmt: skip

    def again(self) -> None:
        """Kill the hub, and serve its folder at the same addresses."""
        self.hub.kill()
        tokens = self.hub.tokens
        places = [address.partition("://")[2] for address in (self.hub.remote, self.hub.api)]
        self.hub = Hub.start(self.hub.folder, "--remote-listen", places[0], listen=places[1])
        self.hub.tokens = tokens

    def stored(self, query: str) -> list[tuple[Any, ...]]:
        """Rows of the hub's own memory."""
        with contextlib.closing(sqlite3.connect(self.hub.folder / ".hub" / "hub.sqlite")) as store:
            return store.execute(query).fetchall()

    def close(self) -> None:
        for rig in self.rigs.values():
            rig.end()
        self.world.stop()
        self.hub.stop()

    def left_over(self) -> list[str]:
        """Processes that still work in our folder."""
        found = []
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                if entry.name.isdigit() and int(entry.name) != os.getpid():
                    words = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                    if str(self.world.folder) in words + os.readlink(entry / "cwd"):
                        found.append(words)
        return found


def together(tasks: list[Callable[[], Any]]) -> list[Any]:
    """Run each in a thread of its own; the answers in order, or the first error."""
    answers: list[Any] = [None] * len(tasks)
    errors: list[BaseException] = []

    def run(number: int) -> None:
        try:
            answers[number] = tasks[number]()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(len(tasks))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return answers


@contextlib.contextmanager
def caught() -> Iterator[tuple[io.StringIO, io.StringIO]]:
    """What is printed meanwhile."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        yield out, err
