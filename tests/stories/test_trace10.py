"""Golden trace 10, the Go program against a hub's REST API: its requests byte for byte, then the same story with ours.

What the Go program sent stands in tests/traces/10-requests.json, an event to a
line: a command, its requests with what it was answered there, and what people
did on the web site between commands.
"""

from __future__ import annotations

import gzip
import http.client
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus, urlsplit

import pytest

from tests.conftest import User, World
from tests.hubs import Hub
from wasteland.dolt import binary

EVENTS = [
    json.loads(line) for line in (Path(__file__).parent.parent / "traces" / "10-requests.json").read_text().splitlines()
]
TIMES = ("created_at", "updated_at", "completed_at", "validated_at", "commit_date")
ITEM = "w-9e6fa2f307"
PATIENCE = 60.0
RIGS = ("poster", "worker")


@pytest.fixture
def place(tmp_path: Path) -> Iterator[tuple[World, Hub]]:
    """A hub with hub/commons, and poster and worker with an organisation each."""
    hub, world = Hub.start(tmp_path / "hubdir"), World(tmp_path)
    try:
        for name in ("hub", *RIGS):
            world.user(name, WL_HUB=hub.api, WL_HUB_TOKEN=hub.add_user(name))
        for name in RIGS:
            hub.wl("org", "add", f"{name}-org")
            hub.wl("org", "member", f"{name}-org", name, "--role", "admin")
        world.users["hub"].ok("create", "hub/commons", "--handle", "hub")
        yield world, hub
    finally:
        world.stop()
        hub.stop()


class Go:
    """Sends what the Go program's HTTP client sends: its escapes, header names and order."""

    def __init__(self, hub: Hub, home: Path = Path()) -> None:
        self.hub = hub
        self.home = home
        self.host = urlsplit(hub.api).netloc

    def send(self, who: str, method: str, target: str, body: str | None = None) -> tuple[int, dict[str, Any]]:
        wire = http.client.HTTPConnection(self.host, timeout=PATIENCE)
        sent = None if body is None else body.encode()
        wire.putrequest(method, f"/api/v1alpha1{target}", skip_host=True, skip_accept_encoding=True)
        wire.putheader("Host", self.host)
        wire.putheader("User-Agent", "Go-http-client/1.1")
        if method != "GET":
            wire.putheader("Content-Length", str(len(sent or b"")))
        wire.putheader("Authorization", f"token {self.hub.tokens[who]}")
        if sent is not None:
            wire.putheader("Content-Type", "application/json")
        wire.putheader("Accept-Encoding", "gzip")
        wire.endheaders(sent)
        answer = wire.getresponse()
        read = answer.read()
        wire.close()
        if answer.headers.get("Content-Encoding") == "gzip":
            read = gzip.decompress(read)
        return answer.status, json.loads(read)

    def job(self, who: str, target: str) -> tuple[int, dict[str, Any]]:
        """Poll as it does, until the operation has ended."""
        until = time.monotonic() + PATIENCE
        while True:
            status, answer = self.send(who, "GET", target)
            if status != 200 or answer.get("done") or answer.get("job_status") == "Completed":
                return status, answer
            assert time.monotonic() < until, answer
            time.sleep(0.05)

    def merge(self, source: str) -> None:
        """The maintainer merges the open pull request of a branch on the web site."""
        _, listed = self.send("hub", "GET", "/hub/commons/pulls")
        for one in listed["pulls"]:
            _, pull = self.send("hub", "GET", f"/hub/commons/pulls/{one['pull_id']}")
            if f"{pull['from_branch_owner']}:{pull['from_branch']}" == source and pull["state"] == "Open":
                _, made = self.send("hub", "POST", f"/hub/commons/pulls/{one['pull_id']}/merge", "{}")
                name = quote_plus(made["operation_name"])
                self.job("hub", f"/hub/commons/pulls/{one['pull_id']}/merge?operationName={name}")
                return
        raise AssertionError(f"{source} has no open pull request")

    def level(self, org: str) -> None:
        """Somebody brings a fork's main level on the web site, and deletes the branch that held the item."""
        who = org.removesuffix("-org")
        sent = {"title": "level", "description": "", "fromBranchOwnerName": "hub", "fromBranchRepoName": "commons",
                "fromBranchName": "main", "toBranchOwnerName": org, "toBranchRepoName": "commons",
                "toBranchName": "main"}  # fmt: skip
        _, pull = self.send(who, "POST", f"/{org}/commons/pulls", json.dumps(sent))
        _, made = self.send(who, "POST", f"/{org}/commons/pulls/{pull['pull_id']}/merge", "{}")
        name = quote_plus(made["operation_name"])
        self.job(who, f"/{org}/commons/pulls/{pull['pull_id']}/merge?operationName={name}")
        dolt = binary.environment(self.home / ".local/share/wasteland/dolt-home")
        clone = self.home / org
        binary.run(["clone", f"{self.hub.remote}/{org}/commons", org], cwd=self.home, env=dolt)
        binary.run(["push", "origin", f":wl/{who}/{ITEM}"], cwd=clone, env=dolt)


def target(event: dict[str, Any], operations: dict[str, str]) -> str:
    """The path and query as the program writes them: a ref is one segment, an operation's name is not escaped."""
    parts = event["path"].split("/")
    if parts[3:4] == ["write"] and len(parts) > 4:
        words = "/".join(parts[4:])
        base = "main" if words.startswith("main/") else words[: len(words) // 2]
        parts = [*parts[:4], quote(base, safe=""), quote(words[len(base) + 1 :], safe="")]
    elif len(parts) > 3 and parts[3] not in ("write", "pulls"):
        parts = [*parts[:3], quote("/".join(parts[3:]), safe="")]
    name, value = event.get("query", (None, ""))
    if name == "operationName":
        return f"{'/'.join(parts)}?operationName={operations[value]}"
    return "/".join(parts) + (f"?q={quote_plus(value)}" if name else "")


# Where our hub answers otherwise, by the number of the event; the program goes on alike.
DIFFERENT = {
    176: "the stand-in showed the pull request as closed before it was asked to close it",
    179: "CALL DOLT_BRANCH: the service refuses procedures here; the program clears its branch another way",
    204: "CALL DOLT_MERGE: as before; what it asks for is a merge into its own fork's main, past every review",
    206: "CALL DOLT_BRANCH: as before",
}


def plain(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows without times, and NULL as the program takes it."""
    return [{k: v or "" for k, v in row.items() if not k.endswith(TIMES)} for row in rows]


def reads(event: dict[str, Any], status: int, answer: dict[str, Any]) -> str | None:
    """What of the fields that the program reads is not as it was answered there; None where all is."""
    was = event.get("answer")
    path, method = event["path"], event["method"]
    if path == "/fork":
        good = status == 200 and answer["status"] == "Success" and answer.get("operation_name")
    elif path.endswith("/pulls") and method == "POST":
        good = (status, answer["status"], answer["pull_id"]) == (200, "Success", was["_id"])
    elif path.endswith("/pulls"):
        shown = [(one["pull_id"], one["state"].lower(), one["title"]) for one in answer["pulls"]]
        good = was is None or shown == [(one["pull_id"], one["state"], one["title"]) for one in was["pulls"]]
        good = good and answer["next_page_token"] == ""
    elif "/pulls/" in path and method == "GET":
        good = {**answer, "state": answer["state"].lower()} | was == {**answer, "state": answer["state"].lower()}
    elif "/pulls/" in path:
        good = status == 200 and answer["status"] == "Success"
    elif method == "POST":
        good = status == 200 and answer["query_execution_status"] == "Success" and answer["operation_name"]
    elif event["query"][0] == "operationName":
        unchanged = "SqlWrite.toCommitId" in json.dumps(was)
        said = "SqlWrite.toCommitId" in json.dumps(answer) if status == 400 else False
        good = said == unchanged and (said or answer["res_details"]["query_execution_status"] ==
                                      was["res_details"]["query_execution_status"])  # fmt: skip
    elif was and was["query_execution_status"] == "Error":
        good = answer["query_execution_status"] == "Error" and answer["query_execution_message"]
    else:
        good = answer["query_execution_status"] == "Success" and answer["schema_fragment"]
        good = good and (was is None or plain(answer["rows"]) == plain(was["rows"]))
    return None if good else f"{method} {path}\n  there {status} {was}\n  here {json.dumps(answer)[:600]}"


def test_what_the_go_program_sends_is_answered_as_it_reads_it(place):
    world, hub = place
    for name in RIGS:
        hub.wl("org", "member", f"{name}-org", "hub", "--role", "writer")
    go, operations, found = Go(hub, world.users["hub"].home), {}, {}
    for number, event in enumerate(EVENTS):
        if "merge" in event:
            go.merge(event["merge"])
        elif "level" in event:
            go.level(event["level"])
        elif "method" in event:
            where = target(event, operations)
            if "operationName" in where:
                status, answer = go.job(event["who"], where)
            else:
                status, answer = go.send(event["who"], event["method"], where, event.get("body"))
            if was := event.get("answer", {}).get("operation_name"):
                operations[was] = str(answer.get("operation_name"))
            if why := reads(event, status, answer):
                found[number] = why
    assert set(found) == set(DIFFERENT), "\n".join(f"{n}: {why}" for n, why in found.items() if n not in DIFFERENT)


@pytest.fixture
def joined(place: tuple[World, Hub]) -> tuple[World, Hub]:
    """Section 1: both join, each with a pull request, which the maintainer lands."""
    world, hub = place
    for number, name in enumerate(RIGS, start=1):
        made = world.users[name].json(
            "join", "hub/commons", "--fork-org", f"{name}-org", "--handle", name, "--display-name", name.title(),
            "--email", f"{name}@example.com",
        )  # fmt: skip
        assert (made["pull"], made["fork"]) == (number, f"{name}-org/commons")
    for number in (1, 2):
        world.users["hub"].ok("merge", str(number))
    return world, hub


def rows(hub: Hub, who: str, db: str, ref: str, item: str) -> list[tuple[str, str | None]]:
    """Status and claimer of an item, as the hub has it at a branch."""
    sql = f"SELECT status, claimed_by FROM wanted WHERE id = '{item}'"
    _, answer = Go(hub).send(who, "GET", f"/{db}/commons/{quote(ref, safe='')}?q={quote_plus(sql)}")
    return [(row["status"], row["claimed_by"]) for row in answer.get("rows", [])]


def posted(user: User, *words: str) -> tuple[str, int]:
    made = user.json("post", *words)
    return made["item"]["id"], made["pull"]["number"]


def test_a_claim_does_not_need_the_item_on_the_forks_main(joined):
    world, hub = joined
    maintainer, poster, worker = (world.users[name] for name in ("hub", *RIGS))
    item, number = posted(poster, "--title", "Remote item", "--type", "docs", "--tags", "go")
    assert number == 3
    assert [one["branch"] for one in poster.json("browse")] == [f"wl/poster/{item}"]
    card = poster.json("status", item)
    assert (card["item"]["status"], card["pull"]["number"], card.get("main_status")) == ("open", 3, None)
    assert f"wl/poster/{item}" in poster.ok("review")
    assert "Remote item" in poster.ok("review", f"wl/poster/{item}")
    maintainer.ok("merge", "3")

    assert rows(hub, "worker", "worker-org", "main", item) == [], "the fork's main has never seen the item"
    made = worker.json("claim", item)
    assert (made["item"]["status"], made["item"]["claimed_by"]) == ("claimed", "worker")
    assert rows(hub, "worker", "worker-org", f"wl/worker/{item}", item) == [("claimed", "worker")]
    assert [t["name"] for t in maintainer.json("review", str(made["pull"]["number"]))["tables"]][-1:] == ["wl_leases"]
    assert worker.wl("claim", item).code == 6

    done = worker.json("done", item, "--evidence", "https://example.com/pr/9")
    assert done["pull"] == made["pull"], "one pull request for claim and completion"
    poster.ok("inbox")
    (listed,) = poster.json("browse")
    assert listed["status"] == "open"
    assert [(one["rig"], one["verbs"]) for one in listed["pending"]] == [("worker", ["claim", "done"])]
    assert [one["pull"] for one in poster.json("status", item)["pending"]] == [made["pull"]["number"]]
    assert maintainer.wl("merge", str(made["pull"]["number"])).code == 5, "it has moved since it was looked at"
    maintainer.ok("review", str(made["pull"]["number"]))
    maintainer.ok("merge", str(made["pull"]["number"]))

    assert [one["id"] for one in poster.json("me")["to_review"]] == [] or poster.ok("sync")
    poster.ok("sync")
    assert [one["id"] for one in poster.json("me")["to_review"]] == [item]
    said = poster.json("accept", item, "--quality", "4", "--skills", "go")
    assert (said["stamp"]["subject"], said["item"]["status"]) == ("worker", "completed")
    refused = poster.wl("reject", item, "--reason", "zzz", "--json")
    assert refused.code == 6, "what is accepted on the branch is not torn apart there"
    maintainer.ok("merge", str(said["pull"]["number"]))
    assert rows(hub, "hub", "hub", "main", item) == [("completed", "worker")]
    worker.ok("sync")
    assert worker.json("verify", "--all")["counts"].get("verified") == 2
    assert [(one["handle"], one["completions"]) for one in worker.json("leaderboard")["rigs"]] == [("worker", 1)]


def test_a_post_taken_back_leaves_nothing_and_nobody_merges_into_his_own_fork(joined):
    world, hub = joined
    poster = world.users["poster"]
    second, number = posted(poster, "--title", "Second")
    gone = poster.json("delete", second)
    assert gone["reverted"]
    assert rows(hub, "poster", "poster-org", f"wl/poster/{second}", second) == []
    assert Go(hub).send("poster", "GET", f"/hub/commons/pulls/{number}")[1]["state"] == "Closed"
    assert poster.json("leaderboard")["rigs"] == []

    third, _ = posted(poster, "--title", "Third")
    refused = poster.wl("merge", f"wl/poster/{third}")
    assert refused.code == 6
    assert "only a maintainer may merge" in refused.err
    assert rows(hub, "poster", "poster-org", "main", third) == [], "the fork's main follows upstream"
