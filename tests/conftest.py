"""What all tests share: a machine of their own, builders, and a hub with rigs on it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.forkserver import MAIN, ForkServer

PASSED = ("PATH", "LANG", "WL_DOLT", "VIRTUAL_ENV")
USER_DATA = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
OPEN = "from wasteland.node.node import open_node; n = open_node(None); d = n.db\n"
FORKS = ForkServer()


def long(*cases: Any) -> list[Any]:
    """These values of `parametrize` only with -m long."""
    return [pytest.param(case, marks=pytest.mark.long) for case in cases]


@pytest.fixture(autouse=True, scope="session")
def _own_environment() -> Iterator[None]:
    """No test sees the user's HOME, identity, tokens or Dolt settings."""
    kept = dict(os.environ)
    built = USER_DATA / "wasteland" / "bin" / "dolt"
    if "WL_DOLT" not in kept and shutil.which("dolt") is None and built.exists():
        kept["WL_DOLT"] = str(built)
    os.environ.clear()
    os.environ.update({name: kept[name] for name in PASSED if name in kept})
    os.environ.update({"HOME": "/nonexistent", "WL_KEYSTORE": "file", "TZ": "UTC", "WL_SERVER_IDLE": "20"})
    yield
    FORKS.stop()
    os.environ.clear()
    os.environ.update(kept)


@dataclass
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str

    def ok(self) -> Done:
        """Fail the test unless it succeeded."""
        assert self.code == 0, f"exit {self.code}\n{self.out}\n{self.err}"
        return self


@dataclass
class User:
    """A rig with a home of its own, who types commands."""

    name: str
    home: Path
    env: dict[str, str] = field(default_factory=dict)

    def environment(self) -> dict[str, str]:
        return {**{k: os.environ[k] for k in (*PASSED, "WL_SERVER_IDLE") if k in os.environ}, "HOME": str(self.home),
                "WL_KEYSTORE": "file", "TZ": "UTC", "TMPDIR": "/tmp", "DOLT_DISABLE_EVENT_FLUSH": "1",
                **self.env}  # fmt: skip

    def argv(self, *words: str) -> list[str]:
        return [sys.executable, "-c", MAIN, *words]

    def wl(self, *words: str, stdin: str | None = None, timeout: float = 120) -> Done:
        done = FORKS.run(words, self.environment(), stdin, timeout)
        return Done(done.returncode, done.stdout, done.stderr)

    def ok(self, *words: str) -> str:
        return self.wl(*words).ok().out

    def json(self, *words: str) -> Any:
        import json

        return json.loads(self.ok(*words, "--json"))

    def python(self, code: str) -> str:
        """Run code as a rig, with its node as `n` and the clone's database as `d`; what it prints.

        It is what somebody with a clone and Dolt can do, whatever our commands allow.
        """
        done = FORKS.run([], self.environment(), code=OPEN + code)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def start(self, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self.argv(*words), env=self.environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            start_new_session=True,
        )  # fmt: skip

    def clone(self, upstream: str = "acme/commons") -> Path:
        return self.home / ".local" / "share" / "wasteland" / upstream

    def stop(self) -> None:
        """Stop this user's servers."""
        for file in self.home.glob(".local/share/wasteland/*/.*.node/server.json"):
            import json
            import signal
            import time

            state = json.loads(file.read_text())
            for name in ("keeper", "server"):
                try:
                    os.kill(state[name], signal.SIGTERM)
                except ProcessLookupError:
                    continue
            deadline = time.monotonic() + 10
            while Path(f"/proc/{state['server']}").exists() and time.monotonic() < deadline:
                time.sleep(0.02)


@dataclass
class World:
    """A hub in a folder and the rigs on it."""

    folder: Path
    users: dict[str, User] = field(default_factory=dict)

    @property
    def hub(self) -> Path:
        return self.folder / "hub"

    def user(self, name: str, **env: str) -> User:
        home = self.folder / name
        (home / ".dolt").mkdir(parents=True, exist_ok=True)
        (home / ".dolt" / "config_global.json").write_text(
            f'{{"user.name":"{name}","user.email":"{name}@example.com"}}'
        )
        self.users[name] = User(name, home, env)
        return self.users[name]

    def create(self, name: str = "poster", mode: str = "pr") -> User:
        user = self.user(name)
        user.ok("create", "acme/commons", "--remote-base", str(self.hub), "--handle", name)
        if mode != "pr":
            user.ok("config", "set", "mode", mode)
        return user

    def join(self, name: str, mode: str = "pr", *, by: User | None = None) -> User:
        """Join, and have `by` land the registration."""
        user = self.user(name)
        made = user.json(
            "join", "acme/commons", "--remote-base", str(self.hub), "--fork-org", f"{name}-org", "--handle", name
        )
        if mode != "pr":
            user.ok("config", "set", "mode", mode)
        if by is not None:
            by.ok("merge", str(made["pull"]))
            user.ok("sync")
        return user

    def post(self, poster: User, title: str) -> str:
        """Post an item and land it; its id."""
        made = poster.json("post", "--title", title)
        poster.ok("merge", str(made["pull"]["number"]))
        return str(made["item"]["id"])

    def stop(self) -> None:
        for user in self.users.values():
            user.stop()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.stop()


@pytest.fixture(scope="module")
def shared_world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """One world for the tests of a module that do not disturb each other."""
    made = World(tmp_path_factory.mktemp("world"))
    yield made
    made.stop()


MOMENT = datetime(2026, 1, 1)  # without a zone, as the database gives it
Builder = Callable[..., dict[str, Any]]


@pytest.fixture
def a_wanted() -> Builder:
    """A row of `wanted` with sensible values, changed as told."""

    def build(**changes: Any) -> dict[str, Any]:
        row: dict[str, Any] = {
            "id": "w-1", "title": "Fix it", "description": None, "project": None, "type": None, "priority": 2,
            "tags": None, "posted_by": "poster", "claimed_by": None, "status": "open", "effort_level": "medium",
            "evidence_url": None, "sandbox_required": 0, "sandbox_scope": None, "sandbox_min_tier": None,
            "created_at": MOMENT, "updated_at": MOMENT,
        }  # fmt: skip
        return row | changes

    return build
