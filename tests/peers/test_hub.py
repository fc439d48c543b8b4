"""Programs with DoltHub's names hard-wired, on our hub: our own `wl`, and the Go `wl` (WL_PEER) and `gt` (GT_PEER).

They reach it through HTTPS_PROXY and SSL_CERT_FILE, unchanged.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import User, World
from tests.hubs import Hub
from tests.peers.proxy import Authority, Behind, connect_proxy
from wasteland.dolt import binary
from wasteland.hub.dolthub import DolthubHub, Site

PEER, TOWN = os.environ.get("WL_PEER"), os.environ.get("GT_PEER")
BEADS = os.environ.get("BD_PEER") or shutil.which("bd")
needs_peer = pytest.mark.skipif(not PEER, reason="SKIPPED ALOUD: WL_PEER does not name a Go `wl`")
needs_town = pytest.mark.skipif(
    not (TOWN and BEADS), reason="SKIPPED ALOUD: GT_PEER does not name a Go `gt`, or BD_PEER no `bd`, which it calls"
)
API, REMOTE = "www.dolthub.com", "doltremoteapi.dolthub.com"


@dataclass
class Place:
    """A hub that answers to DoltHub's names, and users who know no other."""

    world: World
    hub: Hub
    env: dict[str, str]

    def user(self, name: str) -> User:
        """A user with a token, and with a key of `dolt creds` that the hub knows."""
        user = self.world.user(name, DOLTHUB_TOKEN=self.hub.add_user(name), DOLTHUB_ORG=name, **self.env)
        said = self.dolt(user, "creds", "new").stdout
        public = next(line.partition(":")[2].strip() for line in said.splitlines() if "pub key" in line)
        self.hub.wl("key", "add", name, public)
        return user

    def dolt(self, user: User, *words: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        """Run the unmodified `dolt` as a user."""
        env = {**user.environment(), "DOLT_ROOT_PATH": str(user.home)}
        done = subprocess.run([str(binary.find()), *words], env=env, cwd=cwd or user.home, capture_output=True,
                              text=True, timeout=120)  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done

    def level(self, user: User) -> None:
        """Bring a fork's main level: a Go node with a token claims on the fork as it is, and never levels it."""
        site = Site(self.hub.api, self.hub.remote, self.hub.api, ("v2",), keys=False)
        with tempfile.TemporaryDirectory() as cache:
            hub = DolthubHub(site, self.hub.tokens[user.name], Path(cache))
            hub.level("acme", "commons", user.name)
            hub.finish()

    def peer(self, program: str | None, user: User, *words: str) -> str:
        """Run a Go program as a user; it finds `dolt`, and `gt` finds `bd`, on PATH."""
        tools = user.home / "bin"
        tools.mkdir(exist_ok=True)
        if not (tools / "dolt").exists():
            (tools / "dolt").symlink_to(str(binary.find()))
        if BEADS and not (tools / "bd").exists():
            (tools / "bd").symlink_to(BEADS)
        env = {**user.environment(), "PATH": f"{tools}:{os.environ['PATH']}"}
        done = subprocess.run([str(program), *words], env=env, cwd=user.home, capture_output=True, text=True,
                              timeout=180)  # fmt: skip
        assert done.returncode == 0, f"peer {words}: {done.stdout}{done.stderr}"
        return done.stdout


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    authority = Authority(tmp_path)
    hub = Hub.start(tmp_path / "hub", "--public-api", f"https://{API}", "--public-remote", f"https://{REMOTE}")
    world = World(tmp_path)

    def port(url: str) -> int:
        return int(url.rpartition(":")[2])

    routes = {API: Behind(port(hub.api), "http/1.1"), REMOTE: Behind(port(hub.remote), "h2")}
    try:
        with connect_proxy(authority, routes) as env:
            yield Place(world, hub, env)
            world.stop()
    finally:
        hub.stop()


def test_our_node_works_with_dolthubs_own_names(place):
    acme, ada = place.user("acme"), place.user("ada")
    acme.ok("create", "acme/commons")
    made = ada.json("join", "acme/commons")
    assert made["fork"] == "ada/commons"
    acme.ok("merge", str(made["pull"]))
    posted = acme.json("post", "--title", "By DoltHub's names")
    assert posted["pull"]["url"].startswith(f"https://{API}/repositories/acme/commons/pulls/")
    acme.ok("merge", str(posted["pull"]["number"]))
    claimed = ada.json("claim", posted["item"]["id"])
    acme.ok("approve", str(claimed["pull"]["number"]))
    assert acme.json("queue")["pulls"][0]["state"] == "landed"
    place.dolt(ada, "clone", "acme/commons", "by-shorthand")
    rows = place.dolt(ada, "sql", "-r", "csv", "-q", "SELECT claimed_by FROM wanted", cwd=ada.home / "by-shorthand")
    assert rows.stdout.split() == ["claimed_by", "ada"]


@needs_peer
def test_a_go_node_and_ours_work_on_one_hub(place):
    acme, guest = place.user("acme"), place.user("guest")
    acme.ok("create", "acme/commons")
    place.peer(PEER, guest, "join", "acme/commons", "--handle", "guest")
    (registration,) = acme.json("inbox")["pulls"]
    assert registration["verbs"] == ["register"]
    acme.ok("merge", str(registration["number"]))
    posted = acme.json("post", "--title", "For a guest")
    acme.ok("merge", str(posted["pull"]["number"]))
    item = posted["item"]["id"]
    ours = place.user("ours")
    acme.ok("merge", str(ours.json("join", "acme/commons")["pull"]))
    assert "For a guest" in place.peer(PEER, guest, "browse")
    ours.ok("sync", "--level")
    place.level(guest)
    place.peer(PEER, guest, "claim", item)
    place.peer(PEER, guest, "done", item, "--evidence", "https://example.com/guest")
    mine = next(p for p in acme.json("inbox")["pulls"] if p["rig"] == "guest")
    assert mine["verbs"] == ["claim", "done"]
    acme.ok("merge", str(mine["number"]))
    accepted = acme.json("accept", item, "--quality", "4")
    acme.ok("merge", str(accepted["pull"]["number"]))
    assert "completed" in place.peer(PEER, guest, "status", item)
    assert "guest" in place.peer(PEER, guest, "me")
    theirs = place.peer(PEER, guest, "post", "--title", "From a guest")
    assert "From a guest" in theirs
    offered = next(p for p in acme.json("inbox")["pulls"] if p["verbs"] == ["post"])
    acme.ok("merge", str(offered["number"]))
    ours.ok("sync")
    new = next(i["id"] for i in ours.json("browse") if i["title"] == "From a guest")
    acme.ok("merge", str(ours.json("claim", new)["pull"]["number"]))
    place.level(guest)
    assert new in place.peer(PEER, guest, "browse")


@needs_town
def test_a_go_town_reads_and_claims_what_ours_posted(place):
    acme, guest = place.user("acme"), place.user("guest")
    acme.ok("create", "acme/commons")
    acme.ok("merge", str(acme.json("post", "--title", "For a town")["pull"]["number"]))
    town = guest.home / "town"
    town.mkdir()
    place.peer(TOWN, guest, "install", str(town))
    place.peer(TOWN, guest, "wl", "join", "acme/commons")
    assert "For a town" in place.peer(TOWN, guest, "wl", "browse")
