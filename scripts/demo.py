"""The story that `scripts/demo` tells; every line of it is a command that ran."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
UPSTREAM = "acme/commons"
MODULE = '''"""Middle values."""


def median(values):
    """The median of a list of numbers."""
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle]
'''
TEST = """import unittest

from median import median


class TestMedian(unittest.TestCase):
    def test_odd(self):
        self.assertEqual(median([3, 1, 2]), 2)

    def test_even(self):
        self.assertEqual(median([4, 1, 3, 2]), 2.5)
"""


class Failed(Exception):
    """The demo did not go as it must."""


class Demo:
    """One run of the story in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.started = time.monotonic()
        self.hub = folder / "hub"
        self.town = folder / "town"
        self.repository = folder / "median.git"

    def step(self, text: str) -> None:
        print(f"\n[{time.monotonic() - self.started:5.1f} s] {text}", flush=True)

    def show(self, text: str, only: tuple[str, ...] = ()) -> None:
        for line in text.rstrip().splitlines():
            if line.strip() and (not only or any(word in line for word in only)):
                print(f"    {line.rstrip()}", flush=True)

    def env(self, user: str) -> dict[str, str]:
        home = self.folder / user
        home.mkdir(exist_ok=True)
        kept = {name: os.environ[name] for name in ("LANG", "WL_DOLT") if name in os.environ}
        built = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local/share") / "wasteland" / "bin"
        path = f"{BIN}:{os.environ['PATH']}:{built}"
        return {**kept, "PATH": path, "HOME": str(home), "WL_KEYSTORE": "file", "WL_SERVER_IDLE": "20",
                "WL": str(BIN / "wl"), "DOLTHUB_TOKEN": "dhat.v1.not-for-the-agent"}  # fmt: skip

    def run(self, user: str, *argv: str, expect: int = 0) -> str:
        command = [str(BIN / argv[0]), *argv[1:]]
        done = subprocess.run(command, env=self.env(user), capture_output=True, text=True, cwd=self.folder, timeout=300)
        if done.returncode != expect:
            raise Failed(f"{user}$ {' '.join(argv)}\nexit {done.returncode}, not {expect}\n{done.stdout}{done.stderr}")
        return done.stdout if expect == 0 else done.stdout + done.stderr

    def wl(self, user: str, *argv: str) -> str:
        return self.run(user, "wl", *argv)

    def json(self, user: str, *argv: str) -> Any:
        return json.loads(self.run(user, *argv, "--json"))

    def git(self, *argv: str, cwd: Path) -> str:
        env = {"PATH": os.environ["PATH"], "HOME": str(self.folder), "GIT_CONFIG_NOSYSTEM": "1",
               "GIT_AUTHOR_NAME": "poster", "GIT_AUTHOR_EMAIL": "poster@example.invalid",
               "GIT_COMMITTER_NAME": "poster", "GIT_COMMITTER_EMAIL": "poster@example.invalid"}  # fmt: skip
        done = subprocess.run(["git", *argv], cwd=cwd, env=env, capture_output=True, text=True, check=False)
        if done.returncode:
            raise Failed(f"git {' '.join(argv)}: {done.stderr}")
        return done.stdout.strip()

    def make_repository(self) -> None:
        work = self.folder / "median"
        work.mkdir()
        self.git("init", "-q", "-b", "main", cwd=work)
        (work / "median.py").write_text(MODULE)
        (work / "test_median.py").write_text(TEST)
        self.git("add", ".", cwd=work)
        self.git("commit", "-q", "-m", "median, with a test that fails", cwd=work)
        self.git("clone", "-q", "--bare", str(work), str(self.repository), cwd=self.folder)

    def tell(self) -> None:
        item = self.federate()
        self.work(item)
        self.judge(item)
        self.refuse()

    def federate(self) -> str:
        """A hub, three rigs with homes and keys of their own, and a posted item that one of them claims."""
        self.step("A hub in a folder; the poster creates the wasteland and is its root")
        self.show(self.wl("poster", "create", UPSTREAM, "--remote-base", str(self.hub), "--handle", "poster"))
        for rig in ("worker", "validator"):
            self.step(f"The {rig} joins: fork, clone, key, registration by pull request; the poster lands it")
            made = self.json(rig, "wl", "join", UPSTREAM, "--remote-base", str(self.hub), "--fork-org", f"{rig}-org",
                             "--handle", rig)  # fmt: skip
            self.show(self.wl("poster", "merge", str(made["pull"])), ("Merged", "registers", "publishes"))
        self.show(self.wl("poster", "role", "add", "validator", "validator"))
        self.step("A real repository with a failing test; the poster puts it on the Wanted Board")
        self.make_repository()
        posted = self.json("poster", "wl", "post", "--title", "median() is wrong for an even number of values",
                           "-d", "test_median.py fails: the median of [4, 1, 3, 2] must be 2.5.",
                           "--project", "median", "--type", "bug", "--priority", "1", "--tags", "python")  # fmt: skip
        item = str(posted["item"]["id"])
        self.show(self.wl("poster", "merge", str(posted["pull"]["number"])), ("Merged", "post"))
        self.step("The worker claims it: a branch on the fork and a pull request")
        self.show(self.wl("worker", "claim", item))
        return item

    def work(self, item: str) -> None:
        """A town does the item: an agent in a box, gates on the merged result, a person's approval."""
        self.step("A town for the worker: the repository as a rig, its tests as the gate, a budget")
        python = "/usr/bin/python3" if Path("/usr/bin/python3").exists() else str(Path(sys.executable).resolve())
        binds = [] if python.startswith("/usr/") else ["--bind", sys.base_prefix]
        tools = self.folder / "tools"
        tools.mkdir()
        tools.chmod(0o755)
        shutil.copy(ROOT / "scripts" / "demo_agent.py", tools)
        canary = self.folder / "worker" / "canary"
        canary.write_text("only the worker may read this\n")
        self.run("worker", "gt", "install", str(self.town))
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
            agent = f"{python} {tools}/demo_agent.py {{task}} {canary} {self.folder}/median/.git/config {port}"
            self.show(
                self.gt(
                    "rig",
                    "add",
                    "median",
                    str(self.repository),
                    "--agent",
                    agent,
                    "--gate",
                    f"{python} -m unittest -q",
                    "--budget",
                    "60s",
                    "--bind",
                    str(tools),
                    *binds,
                )
            )
            self.show(self.gt("sling", item, "--rig", "median", "--budget", "60s"))
            self.step("gt up: the agent works in the sandbox and tries to get out; the merged result is tested")
            self.show(self.gt("up", "--once"))
        found = self.json("worker", "gt", "--town", str(self.town), "status")
        if found["sandbox"]["level"] not in ("L2", "L3"):
            raise Failed(f"the sandbox is {found['sandbox']['level']}: {found['sandbox']['reasons']}")
        print(f"    sandbox {found['sandbox']['level']}, found by trying to get out of it")
        self.agent_said(Path(found["sandbox"]["runs"]))
        bead = found["beads"][0]
        if bead["phase"] != "held":
            raise Failed(f"the bead is {bead['phase']}: {bead['reason']}")
        self.step("Work from the board waits for a person: look at it, then approve exactly that commit")
        self.show(self.gt("status", bead["id"], "--diff"))
        self.show(self.gt("approve", bead["id"], "--head", bead["merge"]["head"]))
        self.step("gt up: the refinery tests the merged tree again, moves main, and hands in the evidence")
        self.show(self.gt("up", "--once"))
        landed = self.json("worker", "gt", "--town", str(self.town), "status")["beads"][0]
        if landed["phase"] != "landed" or not landed["reported_at"]:
            raise Failed(f"the bead is {landed['phase']}, reported {landed['reported_at']}: {landed['reason']}")
        self.show(self.gt("log", "--verify"), ("ok", "whole", "line", "event"))

    def gt(self, *argv: str) -> str:
        return self.run("worker", "gt", "--town", str(self.town), *argv)

    def agent_said(self, runs: Path) -> None:
        logs = [log.read_text() for log in runs.glob("*/log")]
        said = "".join(logs)
        self.show(said)
        if "ESCAPED" in said or said.count("REFUSED") != 4 or "tests after: pass" not in said:
            raise Failed("the agent's log does not show four refusals and a fix")

    def judge(self, item: str) -> None:
        """Review the row diff, accept with three scores, and check what is signed."""
        self.step("The poster reviews the pull request's rows and lands them")
        listed = self.json("poster", "wl", "review")
        number = next(str(row["pull"]) for row in listed if "pull" in row and item in row["branch"])
        self.show(self.wl("poster", "review", number))
        head = self.json("poster", "wl", "review", number)["head"]
        self.show(self.wl("poster", "merge", number, "--head", head), ("Merged", "Main", "Pushed"))
        self.step("The validator accepts: three scores, each with its own confidence, in one signed stamp")
        words = ("accept", item, "--quality", "4", "--quality-confidence", "0.9", "--reliability", "5",
                 "--reliability-confidence", "0.6", "--creativity", "3", "--creativity-confidence", "0.4",
                 "--skills", "python", "--message", "Right, small, and tested.")  # fmt: skip
        made = self.json("validator", "wl", *words)
        self.show(self.wl("poster", "merge", str(made["pull"]["number"])), ("Merged", "stamps", "signed"))
        self.step("Everyone syncs and verifies")
        for rig in ("poster", "worker", "validator"):
            self.wl(rig, "sync")
            print(f"    {rig}: " + " ".join(self.wl(rig, "verify", "--all").split()))
        self.show(self.wl("worker", "browse"))
        self.show(self.wl("worker", "verify", "stamp", made["stamp"]["id"]))
        self.trace(made)
        self.show(self.wl("worker", "me"), ("Standing", "quality"))

    def trace(self, made: Any) -> None:
        """From the stamp to the commits and how they differ, listed by git once more."""
        from wasteland.orders import CHANGES, changes_sha256

        evidence = self.json("worker", "wl", "status", made["item"]["id"])["evidence"]
        listed = subprocess.run(
            ["git", *CHANGES, evidence["base"], evidence["head"]], cwd=self.repository, capture_output=True
        )
        digest = changes_sha256(listed.stdout)
        on_main = self.git("merge-base", "--is-ancestor", evidence["head"], "main", cwd=self.repository) == ""
        print(
            f"    stamp {made['stamp']['id']} → completion {made['completion']['id']} → commit {evidence['head'][:12]}"
        )
        print(
            f"    changes {digest[:16]}… {'=' if digest == evidence['changes_sha256'] else '≠'} what the worker signed"
        )
        if digest != evidence["changes_sha256"] or not on_main:
            raise Failed("the changes on main are not those that were signed")

    def refuse(self) -> None:
        """What nobody may do."""
        self.step("Three refusals: a self-stamp, an accept by a stranger, an edited stamp")
        posted = self.json("poster", "wl", "post", "--title", "Describe median() in the README")
        item = posted["item"]["id"]
        self.wl("poster", "merge", str(posted["pull"]["number"]))
        self.wl("worker", "claim", item)
        done = self.json("worker", "wl", "done", item, "--evidence", "https://example.com/readme")
        self.wl("poster", "merge", str(done["pull"]["number"]))
        self.json("stranger", "wl", "join", UPSTREAM, "--remote-base", str(self.hub), "--fork-org", "stranger-org",
                  "--handle", "stranger")  # fmt: skip
        for rig in ("worker", "stranger"):
            print(f"    {rig}$ wl accept {item} --quality 5")
            self.show(self.run(rig, "wl", "accept", item, "--quality", "5", expect=6))
        self.edited()

    def edited(self) -> None:
        stamp = self.json("worker", "wl", "verify", "--all")
        if stamp["counts"]["invalid"]:
            raise Failed("a stamp is invalid before anybody edited it")
        print("    somebody edits a score in the worker's clone, with plain SQL")
        code = (
            "from wasteland.node.node import open_node; n = open_node(None); d = n.db\n"
            "with d.change('edit'): d.run(\"UPDATE stamps SET valence = JSON_SET(valence, '$.quality', 5)\")\n"
            "print(d.value('SELECT id FROM stamps'))"
        )
        made = self.run("worker", "python", "-c", code).strip()
        print(f"    worker$ wl verify stamp {made}")
        self.show(self.run("worker", "wl", "verify", "stamp", made, expect=1), ("INVALID", "row", "exit"))

    def stop(self) -> None:
        """Stop the servers that the commands started."""
        for state in self.folder.glob("*/.local/share/wasteland/*/.*.node/server.json"):
            try:
                os.kill(json.loads(state.read_text())["keeper"], signal.SIGTERM)
            except (OSError, ValueError, KeyError):
                continue


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keep", action="store_true", help="leave the folders for a look")
    keep = parser.parse_args().keep
    folder = Path(tempfile.mkdtemp(prefix="wasteland-demo-"))
    folder.chmod(0o755)
    demo = Demo(folder)
    try:
        demo.tell()
    except Failed as error:
        print(f"\nThe demo failed: {error}", file=sys.stderr)
        return 1
    finally:
        demo.stop()
        if keep:
            print(f"\nKept: {folder}")
        else:
            time.sleep(0.5)
            shutil.rmtree(folder, ignore_errors=True)
    took = time.monotonic() - demo.started
    print(f"\nDone in {took:.1f} s: posted, claimed, worked, landed, reviewed, stamped, verified.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
