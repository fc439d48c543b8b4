"""A Go `wl` (WL_PEER) and a second Dolt (DOLT_PEER) on the same commons as ours, both ways."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.conftest import User
from tests.peers.test_unknown import dolt

# Read at import, before the tests' own environment takes the place of the user's.
PEER, SECOND = os.environ.get("WL_PEER"), os.environ.get("DOLT_PEER")
needs_peer = pytest.mark.skipif(not PEER, reason="SKIPPED ALOUD: WL_PEER does not name a Go `wl`")
needs_dolt = pytest.mark.skipif(not SECOND, reason="SKIPPED ALOUD: DOLT_PEER does not name a second Dolt")


def peer(user: User, *words: str) -> str:
    """Run the Go `wl`, whose `dolt` is found on PATH."""
    tools = user.home / "bin"
    tools.mkdir(exist_ok=True)
    if not (tools / "dolt").exists():
        (tools / "dolt").symlink_to(SECOND or os.environ["WL_DOLT"])
    env = {**user.environment(), "PATH": f"{tools}:{os.environ['PATH']}"}
    done = subprocess.run([str(PEER), *words], env=env, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, f"peer {words}: {done.stdout}{done.stderr}"
    return done.stdout


def push_main(user: User, url: str) -> None:
    """Push to an address: `dolt push` wants the name of a remote, and two remotes may not have one address."""
    known = [line.split()[:2] for line in dolt(user, "remote", "-v").splitlines() if line.strip()]
    name = next((name for name, at in known if at.rstrip("/") == url), None)
    if name is None:
        name = "there"
        dolt(user, "remote", "add", name, url)
    dolt(user, "push", name, "main")


@needs_peer
def test_a_peer_works_on_our_commons_and_we_accept_it(world):
    poster = world.create("poster", mode="wild-west")
    item = poster.json("post", "--title", "For a peer")["item"]["id"]
    guest = world.user("guest")
    peer(guest, "join", "acme/commons", "--remote-base", str(world.hub), "--fork-org", "guest-org", "--handle",
         "guest", "--direct")  # fmt: skip
    peer(guest, "claim", item, "--local-db", "--no-push")
    peer(guest, "done", item, "--evidence", "https://example.com/peer", "--local-db", "--no-push")
    push_main(guest, f"file://{world.hub}/acme/commons")
    poster.ok("sync")
    assert poster.json("status", item)["item"]["claimed_by"] == "guest"
    assert poster.json("accept", item, "--quality", "4")["item"]["status"] == "completed"


@needs_peer
def test_we_work_on_a_commons_that_a_peer_made(world):
    founder = world.user("founder")
    peer(founder, "create", "acme/commons", "--remote-base", str(world.hub), "--handle", "founder")
    peer(founder, "post", "--title", "From a peer", "--local-db", "--no-push")
    push_main(founder, f"file://{world.hub}/acme/commons")
    ours = world.user("ours")
    ours.ok("join", "acme/commons", "--remote-base", str(world.hub), "--fork-org", "ours-org", "--handle", "ours")
    (listed,) = ours.json("browse")
    assert listed["title"] == "From a peer"
    ours.ok("claim", listed["id"], "--no-push")
    ours.ok("done", listed["id"], "--evidence", "https://example.com/1", "--no-push")
    assert "From a peer" in peer(founder, "browse", "--local-db")


@needs_dolt
def test_a_second_dolt_reads_what_we_made(world):
    poster = world.create("poster", mode="wild-west")
    poster.ok("post", "--title", "Read me")
    poster.stop()

    def asked(program: str, sql: str, folder: Path) -> str:
        env = {"PATH": os.environ["PATH"], "HOME": str(poster.home), "TZ": "UTC"}
        done = subprocess.run([program, "sql", "-r", "csv", "-q", sql], cwd=folder, env=env, capture_output=True,
                              text=True, timeout=120)  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    own, clone = os.environ["WL_DOLT"], poster.clone()
    tables = asked(own, "SHOW TABLES", clone).split()[1:]
    for sql in (
        "SHOW TABLES",
        *(f"SELECT * FROM `{t}`" for t in tables),
        *(f"SHOW CREATE TABLE `{t}`" for t in tables),
    ):
        assert asked(str(SECOND), sql, clone) == asked(own, sql, clone), sql
