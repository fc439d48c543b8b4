"""A scripted agent: the line `mode: NAME` of its task file says what it does."""

import json
import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

TASK = Path(os.environ["GT_TASK"]).read_text()
ASKED = dict(re.findall(r"^(mode|name|canary|port): (.*)$", TASK, re.M))
CALC = "def add(a, b):\n    return a + b\n"


def git(*argv):
    subprocess.run(["git", *argv], check=True, stdout=subprocess.DEVNULL)


def write(path, text):
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(text)


def commit(path, text):
    write(path, text)
    git("add", "-A", "-f")
    git("commit", "-q", "-m", "work")


def ok():
    commit(f"{ASKED.get('name', 'new')}.txt", "made\n")


def again():
    """Breaks the tests until it is told why its work came back."""
    if "Why the last attempt came back" in TASK:
        ok()
    else:
        break_tests()


def slow():
    time.sleep(1.5)
    ok()


def edit():
    commit("calc.py", CALC + f"\n# {ASKED['name']}\n")


def rename():
    """Green alone: renames add to plus, in the code and its test."""
    for name in ("calc.py", "test_calc.py"):
        write(name, Path(name).read_text().replace("add", "plus"))
    git("commit", "-q", "-a", "-m", "rename")


def use():
    """Green alone: a new user of add."""
    commit(
        "test_use.py",
        "import unittest\nimport calc\n\nclass U(unittest.TestCase):\n"
        "    def test(self):\n        self.assertEqual(calc.add(2, 2), 4)\n",
    )


def break_tests():
    commit("calc.py", "def add(a, b):\n    return 0\n")


def crash():
    print("the agent \x1b[31mfell over")
    sys.exit(3)


def hang():
    subprocess.Popen(["/bin/sleep", "600"])
    time.sleep(600)


def nothing():
    print("all done!")


def lie():
    ok()
    write("left.txt", "not committed\n")


def surprise():
    commit(".github/workflows/x.yml", "on: push\n")


def link():
    os.symlink("/etc/passwd", "passwd")
    git("add", "-A")
    git("commit", "-q", "-m", "link")


def meddle():
    """A test that edits what it tests."""
    commit(
        "test_meddle.py",
        "import pathlib, unittest\n\nclass M(unittest.TestCase):\n"
        "    def test(self):\n        pathlib.Path('calc.py').write_text('x = 1')\n",
    )


def plant():
    """Everything in a repository that could make git run a program."""
    canary = ASKED["canary"]
    evil = f"sh -c 'echo ran >> {canary}; echo ran >> /tmp/ran'"
    ok()
    write("/work/.git/evil", f"#!/bin/sh\n{evil}\nexit 1\n")
    os.chmod("/work/.git/evil", 0o755)
    for key in (
        "core.fsmonitor",
        "core.pager",
        "core.editor",
        "core.sshCommand",
        "core.askPass",
        "diff.external",
        "filter.x.clean",
        "filter.x.smudge",
        "merge.x.driver",
        "uploadpack.packObjectsHook",
        "credential.helper",
        "gpg.program",
        "alias.status",
        "sequence.editor",
    ):
        git("config", key, "/work/.git/evil")
    git("config", "core.hooksPath", ".git/hooks")
    write(".git/info/attributes", "* filter=x diff=x merge=x\n")
    for hook in ("pre-commit", "post-checkout", "pre-push", "post-merge", "reference-transaction", "post-index-change"):
        write(f".git/hooks/{hook}", f"#!/bin/sh\n{evil}\n")
        os.chmod(f".git/hooks/{hook}", 0o755)


def tries(what):
    try:
        return bool(what())
    except OSError:
        return False


def escape():
    """Report, as its work, what it could reach from the box."""
    home = os.path.dirname(ASKED["canary"])
    could = {
        "canary": tries(lambda: Path(ASKED["canary"]).read_text()),
        "home": tries(lambda: os.listdir(home)),
        "env": "GT_TEST_SECRET" in os.environ,
        "tcp": tries(lambda: socket.create_connection(("127.0.0.1", int(ASKED["port"])), 1)),
        "core_pattern": tries(lambda: os.open("/proc/sys/kernel/core_pattern", os.O_WRONLY)),
        "usr": tries(lambda: Path("/usr/canary").write_text("x")),
        "town": tries(lambda: os.listdir(os.path.join(os.path.dirname(home), "town"))),
    }
    commit("could.json", json.dumps([name for name, done in could.items() if done]))


{
    "ok": ok,
    "again": again,
    "slow": slow,
    "edit": edit,
    "rename": rename,
    "use": use,
    "break": break_tests,
    "crash": crash,
    "hang": hang,
    "nothing": nothing,
    "lie": lie,
    "surprise": surprise,
    "link": link,
    "meddle": meddle,
    "plant": plant,
    "escape": escape,
}[ASKED["mode"]]()
