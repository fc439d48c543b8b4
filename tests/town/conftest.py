"""A town, a bare repository and a scripted agent in a folder of their own, with no HOME and no git identity."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from gastown import sandbox
from gastown import town as towns
from gastown.models import Rig
from gastown.supervisor import Supervisor

FAKE = Path(__file__).with_name("fake_agent.py")
CALC = "def add(a, b):\n    return a + b\n"
TEST = (
    "import unittest\nimport calc\n\nclass T(unittest.TestCase):\n"
    "    def test(self):\n        self.assertEqual(calc.add(1, 2), 3)\n"
)
GATE = ["/usr/bin/python3", "-m", "unittest"]


@pytest.fixture(autouse=True)
def alone(monkeypatch, place):
    """No HOME, no identity, no town and no node of the person who runs the tests."""
    for name in list(os.environ):
        if name.startswith(("GIT_", "GT_")) or name in ("WL", "XDG_CONFIG_HOME"):
            monkeypatch.delenv(name)
    (place / "home").mkdir()
    monkeypatch.setenv("HOME", str(place / "home"))
    monkeypatch.setenv("WL", "/bin/false")


@pytest.fixture
def place():
    """A folder that every user may pass through, as a box's user must."""
    made = Path(tempfile.mkdtemp(prefix="gt-test-", dir="/var/tmp"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made, ignore_errors=True)


@pytest.fixture(scope="session")
def boxed():
    """Skip aloud where no box can be had."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        Path(name).chmod(0o755)
        box = sandbox.open_box(Path(name))
    if box.level != "L2":
        pytest.skip(f"no L2 box on this machine: {'; '.join(box.reasons)}")


def git(where, *argv):
    """Run git for the test itself."""
    env = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "GIT_CONFIG_GLOBAL": "/dev/null"}
    for who in ("AUTHOR", "COMMITTER"):
        env |= {f"GIT_{who}_NAME": "ada", f"GIT_{who}_EMAIL": "ada@example.org"}
    done = subprocess.run(["git", *argv], cwd=where, env=env, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def sleepers(here):
    """Processes of this test's boxes: their command lines name the folder."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/cmdline", "rb") as line:
                    words = line.read()
            except OSError:
                continue
            if str(here.folder).encode() in words:
                found.append(int(entry))
    return found


def ended(here, seconds=10):
    """Whether none of them is left, soon: the kernel ends a killed box's processes when it gets to them."""
    until = time.monotonic() + seconds
    while sleepers(here) and time.monotonic() < until:
        time.sleep(0.05)
    return not sleepers(here)


class Place:
    """A town with one rig, `acme`, and what a test does with it."""

    def __init__(self, folder, **changes):
        self.folder = folder
        self.origin = folder / "acme.git"
        self.source = folder / "source"
        self.source.mkdir()
        git(self.source, "init", "-q", "-b", "main")
        self.push({"calc.py": CALC, "test_calc.py": TEST}, first=True)
        (folder / "tools").mkdir(mode=0o755)
        shutil.copy(FAKE, folder / "tools" / "agent.py")
        self.root = towns.install(folder / "town")
        with self.town() as town:
            town.ledger.add_rig(self.rig(town, **changes))

    def rig(self, town, **changes):
        row = {
            "name": "acme",
            "origin": str(self.origin),
            "public": "https://example.org/acme.git",
            "branch": "main",
            "agent": ["/usr/bin/python3", str(self.folder / "tools" / "agent.py")],
            "gates": [GATE],
            "binds": [str(self.folder / "tools")],
            "allow": [],
            "budget_seconds": 30,
            "max_attempts": 2,
            "added_at": town.ledger.now(),
        }
        return Rig(**{**row, **changes})

    def town(self):
        return towns.Town(self.root)

    def push(self, files, first=False):
        """Commit files to main, as somebody else would."""
        if not first:
            git(self.source, "pull", "-q", str(self.origin), "main")
        for name, text in files.items():
            (self.source / name).write_text(text)
        git(self.source, "add", "-A")
        git(self.source, "commit", "-q", "-m", "somebody's")
        if first:
            git(self.folder, "clone", "-q", "--bare", str(self.source), str(self.origin))
        else:
            git(self.source, "push", "-q", str(self.origin), "main")

    def ask(self, mode, bead="gt-1", **changes):
        """Leave the request that `gt sling --title` leaves; keys of the task's text may be given too."""
        lines = [f"mode: {mode}"] + [
            f"{key}: {changes.pop(key)}" for key in ("name", "canary", "port") if key in changes
        ]
        text = "\n".join(lines)
        with self.town() as town:
            args = {"bead": bead, "rig": "acme", "title": mode, "description": text, "budget_seconds": 30}
            town.ledger.ask("sling", "test", args | changes)
        return bead

    def request(self, verb, **args):
        with self.town() as town:
            return town.ledger.ask(verb, "test", args)

    def up(self):
        """`gt up --once` in this process; what it said."""
        said = []
        with self.town() as town:
            Supervisor(town, say=said.append).up(once=True)
        return said

    def bead(self, bead="gt-1"):
        with self.town() as town:
            return town.ledger.load_bead(bead)

    def merge(self, bead="gt-1"):
        with self.town() as town:
            return town.ledger.load_merge(bead)

    def runs(self, bead="gt-1"):
        with self.town() as town:
            return town.ledger.runs(bead)

    def main(self):
        return git(self.origin, "rev-parse", "main")

    def files(self):
        return git(self.origin, "ls-tree", "-r", "--name-only", "main").split()

    def gt(self, *argv, check=True, **env):
        """The program itself."""
        line = [sys.executable, "-c", "from gastown.cli import main; main()", "--town", str(self.root), *argv]
        done = subprocess.run(line, capture_output=True, text=True, env=os.environ | env, cwd=Path(__file__).parents[2])
        assert not check or done.returncode == 0, done.stderr
        assert "Traceback" not in done.stderr
        return done


@pytest.fixture
def home_town(place, boxed):
    return Place(place)
