"""A hub that serves HTTP, as a process of its own, for tests."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import FORKS
from tests.forkserver import MAIN
from wasteland.hubserver.store import Store

COMMAND = [sys.executable, "-c", MAIN]
GENERATIONS = ("v2", "v1alpha1")  # of the hub's interface
BOARD = """
CREATE TABLE wanted (id VARCHAR(64) PRIMARY KEY, title TEXT NOT NULL, status VARCHAR(32), claimed_by VARCHAR(255));
INSERT INTO wanted VALUES ('w-1', 'One', 'open', NULL), ('w-2', 'Two', 'open', NULL)
"""


@dataclass
class Hub:
    """`wl hub serve` on a folder."""

    folder: Path
    process: subprocess.Popen[str]
    api: str
    remote: str
    tokens: dict[str, str] = field(default_factory=dict)

    @classmethod
    def start(cls, folder: Path, *options: str, listen: str = "127.0.0.1:0") -> Hub:
        """Start the process and wait until it is ready."""
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "hub.log").open("a") as log:
            process = subprocess.Popen(
                [*COMMAND, "hub", "serve", str(folder), "--listen", listen, "--remote-listen", "127.0.0.1:0", "--json",
                 *options],
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, text=True, env=environment(),
                start_new_session=True,
            )  # fmt: skip
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            process.wait(10)
            raise AssertionError(f"the hub did not start: {(folder / 'hub.log').read_text()[-2000:]}")
        found = json.loads(line)
        assert "error" not in found, found
        return cls(folder, process, found["api"], found["remote"])

    def again(self) -> Hub:
        """The same folder served anew, at the same address of the API."""
        made = Hub.start(self.folder, listen=self.api.partition("://")[2])
        made.tokens = self.tokens
        return made

    def wl(self, *words: str) -> dict[str, Any]:
        """A `wl hub` command on the folder."""
        group, command, *rest = words
        done = FORKS.run(["hub", group, command, str(self.folder), *rest, "--json"], environment())
        found: dict[str, Any] = json.loads(done.stdout)
        assert done.returncode == 0, found
        return found

    def add_user(self, name: str, scope: str = "write") -> str:
        """Add a user, as `wl hub user add` and `wl hub token add` do; his token."""
        with contextlib.closing(Store(self.folder / ".hub")) as store:
            store.add_owner(name, "user")
            _, self.tokens[name] = store.add_token(name, scope)
        return self.tokens[name]

    def seed(self, owner: str, name: str, sql: str = BOARD, *, user: str | None = None, private: bool = False) -> Path:
        """Make a database, and push to it what `sql` makes; the clone that pushed it."""
        import httpx2

        user = user or owner
        done = httpx2.post(
            f"{self.api}/api/v2/databases", headers={"authorization": f"Bearer {self.tokens[user]}"},
            json={"owner": owner, "name": name, "visibility": "private" if private else "public"},
        )  # fmt: skip
        assert done.status_code == 201, done.text
        clone = self.folder / "clones" / user / name
        clone.mkdir(parents=True)
        self.dolt(user, clone, "init")
        self.dolt(user, clone, "sql", "-q", f"{sql}; CALL DOLT_COMMIT('-Am', 'first')")
        self.dolt(user, clone, "remote", "add", "origin", f"{self.remote}/{owner}/{name}")
        self.dolt(user, clone, "push", "--user", user, "origin", "main")
        return clone

    def dolt(self, user: str, folder: Path, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """The `dolt` program, unmodified, as a user with a home of his own."""
        home = self.folder / "homes" / user
        (home / ".dolt").mkdir(parents=True, exist_ok=True)
        settings = {"user.name": user, "user.email": f"{user}@example.com", "metrics.disabled": "true"}
        (home / ".dolt" / "config_global.json").write_text(json.dumps(settings))
        done = subprocess.run(
            [os.environ.get("WL_DOLT", "dolt"), *words], cwd=folder, capture_output=True, text=True, timeout=120,
            env=environment() | {"HOME": str(home), "DOLT_ROOT_PATH": str(home), "DOLT_USE_ADAPTIVE_ENCODING": "false",
                                 "DOLT_REMOTE_PASSWORD": self.tokens.get(user, "")},
        )  # fmt: skip
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done

    def faults(self, **switches: Any) -> None:
        """Switch exactly these faults on."""
        made = self.folder / ".hub" / "faults.json.new"
        made.write_text(json.dumps(switches))
        made.replace(self.folder / ".hub" / "faults.json")

    def dolt_processes(self) -> list[int]:
        """The database server and its keeper, as far as they run."""
        config = os.fsencode(self.folder / ".hub" / "server.yaml")
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    words = (entry / "cmdline").read_bytes().split(b"\0")
                    state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
                except OSError:
                    continue
                if config in words and state != "Z":
                    found.append(int(entry.name))
        return found

    def stop(self) -> int:
        """Stop it as a user does; its exit code."""
        if self.process.poll() is None:
            self.process.terminate()
        code = self.process.wait(30)
        if self.process.stdout:
            self.process.stdout.close()
        return code

    def kill(self) -> None:
        """Kill it, and wait until the database server has noticed."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(10)
        if self.process.stdout:
            self.process.stdout.close()
        deadline = time.monotonic() + 15
        while self.dolt_processes() and time.monotonic() < deadline:
            time.sleep(0.02)


def by_turns(cases: Iterable[Any]) -> list[Any]:
    """Pairs of a case and a generation, for `parametrize`: each case in one, in turn, and in the other with -m long."""
    return [
        pytest.param(case, api, marks=() if turn == place % 2 else pytest.mark.long)
        for place, case in enumerate(cases)
        for turn, api in enumerate(GENERATIONS)
    ]


def environment() -> dict[str, str]:
    """What the process sees of ours."""
    kept = ("PATH", "LANG", "WL_DOLT", "VIRTUAL_ENV")
    ours = {"HOME": "/nonexistent", "TZ": "UTC", "DOLT_DISABLE_EVENT_FLUSH": "1"}
    return {name: os.environ[name] for name in kept if name in os.environ} | ours


@pytest.fixture(name="hub")
def one_hub(tmp_path: Path) -> Iterator[Hub]:
    """A hub without users."""
    made = Hub.start(tmp_path / "hub")
    yield made
    made.stop()


@pytest.fixture(name="shared_hub", scope="module")
def one_shared_hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    """One hub for the tests of a module that do not disturb each other."""
    made = Hub.start(tmp_path_factory.mktemp("shared") / "hub")
    yield made
    made.stop()
