"""Open pull requests from the command line: the inbox, verdicts, and the queue that lands what was approved."""

from __future__ import annotations

import json

import pytest

from tests.conftest import User, World
from tests.stories.test_pr_mode import posted


@pytest.fixture(scope="module")
def town(shared_world: World) -> World:
    poster = shared_world.create("poster")
    for name in ("worker", "rival"):
        shared_world.join(name, by=poster)
    for user in shared_world.users.values():
        user.ok("sync")
    return shared_world


def numbers(user: User) -> dict[int, dict]:
    return {one["number"]: one for one in user.json("inbox")["pulls"]}


def queued(user: User, *words: str) -> list[dict]:
    """What the queue made of each; its exit code says whether something conflicts, which others' may."""
    done = user.wl("queue", *words, "--json")
    assert done.code in (0, 5), done.err
    return json.loads(done.out)["pulls"]


def test_the_inbox_says_what_each_pull_request_does_and_whether_it_merges(town):
    poster, worker, rival = (town.users[name] for name in ("poster", "worker", "rival"))
    item = posted(town, "Seen in the inbox")
    first = worker.json("claim", item)["pull"]["number"]
    second = rival.json("claim", item)["pull"]["number"]
    mine = rival.json("post", "--title", "A new one")["pull"]["number"]
    found = numbers(poster)
    assert (found[first]["rig"], found[first]["verbs"], found[first]["state"]) == ("worker", ["claim"], "ready")
    assert (found[second]["rig"], found[mine]["verbs"]) == ("rival", ["post"])
    poster.ok("merge", str(first))
    found = numbers(poster)
    assert first not in found
    assert found[second]["state"] == "conflicts"
    assert item in found[second]["detail"]
    assert "claimed_by" in found[second]["detail"]
    assert f"#{second}" in poster.ok("inbox")
    assert poster.ok("inbox", "--md").startswith("| # |")
    assert town.users["rival"].wl("inbox", "--md", "--json").code == 64


def test_a_claim_says_who_is_ahead_before_it_claims(town):
    worker, rival = town.users["worker"], town.users["rival"]
    item = posted(town, "Wanted twice")
    number = worker.json("claim", item)["pull"]["number"]
    second = rival.wl("claim", item).ok()
    assert f"#{number}" in second.err
    assert "worker" in second.err


def test_others_open_claims_show_on_the_board_as_pending(town):
    worker, rival = town.users["worker"], town.users["rival"]
    item = posted(town, "Pending for others")
    rival.ok("sync")
    number = worker.json("claim", item)["pull"]["number"]
    listed = next(one for one in rival.json("browse") if one["id"] == item)
    assert [(p["pull"], p["rig"], p["verbs"]) for p in listed["pending"]] == [(number, "worker", ["claim"])]
    assert listed["status"] == "open", "main decides what it is; a pull request only waits"
    assert f"#{number}" in rival.ok("browse")
    assert f"#{number}" in rival.ok("status", item)


def test_a_verdict_is_written_under_the_pull_request_and_holds_for_one_commit(town):
    poster, worker = town.users["poster"], town.users["worker"]
    item = posted(town, "Approved too early")
    number = worker.json("claim", item)["pull"]["number"]
    assert worker.wl("approve", str(number)).code == 6
    said = poster.json("approve", str(number), "-m", "fine")
    assert said["verdict"]["kind"] == "approve"
    assert said["verdict"]["head"] in said["said"]
    worker.ok("done", item, "--evidence", "more than was approved")
    left = {one["pull"]: one for one in queued(poster)}
    assert left[number]["state"] == "moved"
    poster.ok("approve", f"#{number}")
    landed = {one["pull"]: one for one in queued(poster)}
    assert landed[number]["state"] == "landed"
    assert number not in numbers(poster)


def test_who_asks_for_changes_must_say_which_and_the_queue_waits(town):
    poster, worker = town.users["poster"], town.users["worker"]
    item = posted(town, "Not yet")
    number = worker.json("claim", item)["pull"]["number"]
    assert poster.wl("request-changes", str(number)).code == 64
    poster.ok("request-changes", str(number), "-m", "say when")
    waiting = {one["pull"]: one for one in queued(poster)}
    assert (waiting[number]["state"], "request-changes" in waiting[number]["detail"]) == ("waiting", True)
    assert worker.wl("reject", str(number)).code == 6
    poster.ok("reject", str(number), "--reason", "too late")
    assert number not in numbers(poster)
    again = poster.wl("reject", str(number))
    assert again.code == 5


def test_a_pull_request_of_ones_own_may_be_closed_and_nobody_elses(town):
    worker, rival = town.users["worker"], town.users["rival"]
    item = posted(town, "Closed by its author")
    number = worker.json("claim", item)["pull"]["number"]
    assert rival.wl("close", str(number)).code == 6
    assert worker.json("close", str(number))["closed"]
    assert worker.wl("comment", str(number), " ").code == 64
    worker.ok("comment", str(number), "changed my mind")


def test_of_rival_claims_one_lands_and_the_other_is_told_once(town):
    poster, worker, rival = (town.users[name] for name in ("poster", "worker", "rival"))
    item = posted(town, "Rivals in the queue")
    first = worker.json("claim", item)["pull"]["number"]
    second = rival.json("claim", item)["pull"]["number"]
    for number in (first, second):
        poster.ok("approve", str(number))
    done = poster.wl("queue", "--json")
    assert done.code == 5
    states = {one["pull"]: one["state"] for one in json.loads(done.out)["pulls"]}
    assert (states[first], states[second]) == ("landed", "conflict")
    code = f"print([c.text for c in n.hub.comments('acme', 'commons', {second})])"
    told = poster.python(code)
    assert "first" in told
    assert "Open now" in told or "No other item" in told
    assert f"#{first}" in told
    assert poster.wl("queue").code == 5
    assert poster.python(code) == told, "told once"
    assert f"#{second}" in poster.python(f"print([c.text for c in n.hub.comments('acme', 'commons', {first})])")


def test_the_queue_lands_by_itself_only_what_needs_no_person(town):
    poster, worker = town.users["poster"], town.users["worker"]
    number = worker.json("post", "--title", "Anybody may post")["pull"]["number"]
    world = town
    newcomer = world.user("newcomer")
    made = newcomer.json("join", "acme/commons", "--remote-base", str(world.hub), "--fork-org", "newcomer-org",
                         "--handle", "newcomer")  # fmt: skip
    would = {one["pull"]: one["state"] for one in queued(poster, "--auto", "--dry-run")}
    assert (would[number], would[made["pull"]]) == ("would land", "waiting")
    states = {one["pull"]: one["state"] for one in queued(poster, "--auto")}
    assert (states[number], states[made["pull"]]) == ("landed", "waiting")
    assert worker.wl("queue").code == 6


def test_a_branch_without_a_pull_request_is_answered_on_this_machine(town):
    poster, worker = town.users["poster"], town.users["worker"]
    item = posted(town, "No pull request")
    number = worker.json("claim", item)["pull"]["number"]
    worker.ok("close", str(number))
    seen = poster.json("review", f"worker-org:wl/worker/{item}")
    assert seen["pull"] is None
    assert seen["rigs"][0]["handle"] == "worker"
    said = poster.json("approve", f"worker-org:wl/worker/{item}")
    assert said["pull"] is None
    assert poster.json("merge", f"worker-org:wl/worker/{item}")["pushed"]


def test_the_rules_of_the_house_say_what_lands_by_itself_and_how_many_must_approve(town):
    poster, worker = town.users["poster"], town.users["worker"]
    file = poster.home / ".config" / "wasteland" / "policy" / "acme" / "commons.toml"
    assert "approvals = 1" in file.read_text(), "made with the wasteland"
    number = worker.json("post", "--title", "By the rules of the house")["pull"]["number"]
    before = file.read_text()
    try:
        file.write_text('auto = ["claim"]\napprovals = 2\n')
        waiting = {one["pull"]: one for one in queued(poster, "--auto")}
        assert waiting[number]["state"] == "waiting"
        poster.ok("approve", str(number))
        waiting = {one["pull"]: one for one in queued(poster)}
        assert waiting[number]["detail"] == "1 of 2 approvals"
        file.write_text("auto = ['steal']\n")
        refused = poster.wl("queue")
        assert refused.code == 9
        assert "steal" in refused.err
        file.chmod(0o666)
        assert "chmod 600" in poster.wl("queue").err
    finally:
        file.chmod(0o600)
        file.write_text(before)
    landed = {one["pull"]: one for one in queued(poster)}
    assert landed[number]["state"] == "landed"
