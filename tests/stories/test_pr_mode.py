"""Two and three rigs on one hub, in PR mode: the whole story, and what must not happen on the way."""

from __future__ import annotations

import json

import pytest

from tests.conftest import World


@pytest.fixture(scope="module")
def town(shared_world: World) -> World:
    poster = shared_world.create("poster")
    shared_world.join("worker", by=poster)
    shared_world.join("val", by=poster)
    shared_world.join("rival", by=poster)
    poster.ok("role", "add", "validator", "val")
    for user in shared_world.users.values():
        user.ok("sync")
    return shared_world


def posted(town: World, title: str) -> str:
    """An item of the poster's that has landed."""
    poster = town.users["poster"]
    made = poster.json("post", "--title", title)
    poster.ok("merge", str(made["pull"]["number"]))
    return str(made["item"]["id"])


def merged(town: World, made: dict) -> None:
    town.users["poster"].ok("merge", str(made["pull"]["number"]))


def test_from_the_board_to_a_verified_stamp(town):
    poster, worker, val = (town.users[name] for name in ("poster", "worker", "val"))
    item = posted(town, "The story")
    made = worker.json("claim", item)
    assert made["branch"] == f"wl/worker/{item}"
    assert (made["item"]["status"], made["item"]["claimed_by"]) == ("claimed", "worker")
    done = worker.json("done", item, "--evidence", "https://example.com/pr/7")
    assert done["pull"]["number"] == made["pull"]["number"]
    review = poster.json("review", str(made["pull"]["number"]))
    assert review["verdict"] == "auto"
    assert {t["name"] for t in review["tables"]} == {"wanted", "completions", "wl_attestations"}
    merged(town, made)
    accepted = val.json(
        "accept",
        item,
        "--quality",
        "4",
        "--reliability",
        "5",
        "--creativity",
        "3",
        "--quality-confidence",
        "0.9",
        "--reliability-confidence",
        "0.6",
        "--creativity-confidence",
        "0.4",
        "--skills",
        "go,federation",
        "--message",
        "Good – ✓",
    )
    stamp = accepted["stamp"]
    assert stamp["valence"] == {"quality": 4, "reliability": 5, "creativity": 3, "quality_confidence": 0.9,
                                "reliability_confidence": 0.6, "creativity_confidence": 0.4}  # fmt: skip
    merged(town, accepted)
    worker.ok("sync")
    assert f"wl/worker/{item}" not in worker.ok("review")
    report = worker.json("verify", "stamp", stamp["id"])
    assert report["verdict"] == "verified", report
    assert worker.json("verify", "completion", accepted["completion"]["id"])["verdict"] == "verified"
    assert worker.json("status", item)["item"]["status"] == "completed"
    assert worker.json("me", "--no-sync")["standing"]["scores"]["quality"] == 4.0
    val.ok("sync")
    assert val.ok("verify", "stamp", stamp["id"]).splitlines()[-1] == "exit 0"


def test_a_lost_claim_race_is_refused_and_leaves_a_clean_clone(town):
    poster, worker, rival = (town.users[name] for name in ("poster", "worker", "rival"))
    item = posted(town, "Race")
    first, second = worker.json("claim", item), rival.json("claim", item)
    merged(town, first)
    lost = poster.wl("merge", str(second["pull"]["number"]))
    assert lost.code == 5
    assert "landed first" in lost.err
    again = rival.wl("claim", item)
    assert again.code == 6
    assert "claimed by worker" in again.err
    assert f"lost/rival/{item}" in again.err
    assert rival.json("status", item)["item"]["claimed_by"] == "worker"
    assert rival.wl("review").out.count(item) == 0
    rival.ok("post", "--title", "The next command works")


def test_a_rejected_worker_can_resubmit(town):
    poster, worker = town.users["poster"], town.users["worker"]
    item = posted(town, "Reject me")
    worker.ok("claim", item)
    merged(town, worker.json("done", item, "--evidence", "first"))
    rejected = poster.json("reject", item, "--reason", "tests failing")
    merged(town, rejected)
    again = worker.json("done", item, "--evidence", "second")
    assert (again["item"]["status"], again["completion"]["evidence"]) == ("in_review", "second")
    merged(town, again)
    poster.ok("sync")
    history = [step["what"] for step in poster.json("status", item)["history"]]
    assert f"wl reject: {item} — tests failing" in history
    accepted = poster.json("accept", item, "--quality", "3")
    assert accepted["item"]["status"] == "completed"
    merged(town, accepted)


def test_an_update_is_not_lost(town):
    poster = town.users["poster"]
    item = posted(town, "Old title")
    made = poster.json("update", item, "--title", "New title")
    assert not made["reverted"]
    merged(town, made)
    assert poster.json("status", item)["item"]["title"] == "New title"


def test_saying_what_is_already_so_is_refused(town):
    poster = town.users["poster"]
    item = posted(town, "Same")
    same = poster.wl("update", item, "--title", "Same")
    assert same.code == 5
    assert "nothing was changed" in same.err
    assert item not in poster.ok("review")


def test_an_unclaim_of_an_unlanded_claim_takes_the_pull_request_back(town):
    worker = town.users["worker"]
    item = posted(town, "Back")
    claim = worker.json("claim", item)
    back = worker.json("unclaim", item)
    assert back["reverted"]
    assert "branch" not in back
    assert f"#{claim['pull']['number']} " not in worker.ok("review")
    assert worker.json("status", item)["item"]["status"] == "open"


def test_work_that_was_never_pushed_survives_browse_and_sync(town):
    worker = town.users["worker"]
    item = posted(town, "Draft")
    worker.ok("sync")
    worker.ok("claim", item, "--no-push")
    worker.ok("browse")
    worker.ok("sync")
    assert worker.json("status", item)["item"]["status"] == "claimed"
    assert item in worker.ok("review")


def test_a_stranger_may_not_accept_nor_the_worker(town):
    worker, rival = town.users["worker"], town.users["rival"]
    item = posted(town, "Guarded")
    worker.ok("claim", item)
    merged(town, worker.json("done", item, "--evidence", "e"))
    for user, why in ((rival, "only the poster or a validator"), (worker, "own work")):
        user.ok("sync")
        refused = user.wl("accept", item, "--quality", "5")
        assert refused.code == 6
        assert why in refused.err
        assert f"wl/{user.name}/{item}" not in user.ok("review")


def test_an_accept_before_the_completion_has_landed_finds_none(town):
    poster, worker = town.users["poster"], town.users["worker"]
    item = posted(town, "Early")
    worker.ok("claim", item)
    worker.ok("done", item, "--evidence", "e")
    early = poster.wl("accept", item, "--quality", "5")
    assert early.code == 6
    assert "it is open" in early.err


def test_a_stranger_may_not_merge(town):
    worker = town.users["worker"]
    made = worker.json("post", "--title", "Mine")
    refused = worker.wl("merge", str(made["pull"]["number"]))
    assert refused.code == 6
    assert "maintainer" in refused.err


def test_a_moved_branch_is_not_what_was_reviewed(town):
    poster, worker = town.users["poster"], town.users["worker"]
    item = posted(town, "Pinned")
    made = worker.json("claim", item)
    number = str(made["pull"]["number"])
    head = poster.json("review", number)["head"]
    worker.ok("done", item, "--evidence", "more")
    moved = poster.wl("merge", number, "--head", head)
    assert moved.code == 5
    assert "review it again" in moved.err


def test_pull_requests_show_their_rows_as_data(town):
    poster = town.users["poster"]
    made = poster.json("post", "--title", "`code` **bold**", "-d", "line one\n## Verdict: auto\n</details>")
    shown = poster.ok("review", str(made["pull"]["number"]), "--md")
    assert "\n## Verdict" not in shown
    assert poster.wl("review", "999").code == 4


def test_the_board_shows_branches_until_they_land(town):
    poster = town.users["poster"]
    made = poster.json("post", "--title", "On a branch")
    listed = {i["id"]: i for i in json.loads(poster.ok("browse", "--json", "--limit", "500"))}
    assert listed[made["item"]["id"]]["branch"] == made["branch"]
    assert made["item"]["id"] not in {i["id"] for i in json.loads(poster.ok("browse", "--json", "--view", "upstream"))}
    merged(town, made)
    listed = {i["id"]: i for i in json.loads(poster.ok("browse", "--json", "--limit", "500"))}
    assert "branch" not in listed[made["item"]["id"]]


def test_two_open_pull_requests_land_in_any_order_and_leave_no_gap(town):
    poster, worker = town.users["poster"], town.users["worker"]
    first, second = posted(town, "First signed"), posted(town, "Second signed")
    made = []
    for item in (first, second):
        worker.ok("claim", item)
        made.append(worker.json("done", item, "--evidence", f"https://example.com/{item}"))
    merged(town, made[1])
    poster.ok("sync")
    early = poster.json("verify", "completion", made[1]["completion"]["id"])
    assert early["verdict"] == "verified", early
    merged(town, made[0])
    for done in made:
        assert poster.json("verify", "completion", done["completion"]["id"])["verdict"] == "verified"


def test_a_completion_that_was_edited_is_not_stamped(town):
    poster, worker = town.users["poster"], town.users["worker"]
    item = posted(town, "Edited evidence")
    worker.ok("claim", item)
    merged(town, worker.json("done", item, "--evidence", "honest"))
    edit = "UPDATE completions SET evidence='{}' WHERE wanted_id='" + item + "'"
    poster.python(f"with d.change('edit'): d.run(\"{edit.format('forged')}\")\nd.push('origin', 'main')")
    refused = poster.wl("accept", item, "--quality", "5")
    assert refused.code == 6
    assert "not what its worker signed" in refused.err
    poster.python(f"with d.change('mend'): d.run(\"{edit.format('honest')}\")\nd.push('origin', 'main')")


def test_a_branch_from_before_is_judged_by_what_upstream_is_now(town):
    poster, worker = town.users["poster"], town.users["worker"]
    item = posted(town, "Bait")
    base = poster.python("print(d.hash_of('main'))")
    worker.ok("claim", item)
    merged(town, worker.json("done", item, "--evidence", "e"))
    merged(town, poster.json("accept", item, "--quality", "4"))
    switch = f"UPDATE wanted SET title='Switch' WHERE id='{item}'"
    poster.python(f"d.branch('wl/poster/bait', '{base}')\nb = d.at('wl/poster/bait')\n"
           f"with b.change('x'): b.run(\"{switch}\")\nd.push('origin', 'wl/poster/bait')")  # fmt: skip
    refused = poster.wl("merge", "acme:wl/poster/bait")
    assert refused.code == 6, refused
    assert "may not land" in refused.err
    assert poster.json("status", item)["item"]["title"] == "Bait"
    assert poster.wl("verify", "--all").code == 0


def test_a_trailer_that_somebody_forged_does_not_delete_unlanded_work(town):
    poster, worker, rival = (town.users[name] for name in ("poster", "worker", "rival"))
    item = posted(town, "Not landed")
    worker.ok("claim", item)
    head = worker.python(f"print(d.hash_of('wl/worker/{item}'))")
    forged = f"wl post: w-f0f0f0f0f0\\n\\nWasteland-Head: {head}"
    row = "INSERT INTO wanted (id, title, posted_by, status, priority) VALUES ('w-f0f0f0f0f0', 'x', 'rival', 'open', 2)"
    rival.ok("sync")
    rival.python(f"d.branch('wl/rival/w-f0f0f0f0f0', 'main')\nb = d.at('wl/rival/w-f0f0f0f0f0')\n"
           f"with b.change('{forged}'): b.run(\"{row}\")\nd.push('origin', 'wl/rival/w-f0f0f0f0f0')")  # fmt: skip
    poster.ok("merge", "rival-org:wl/rival/w-f0f0f0f0f0")
    assert item not in worker.ok("sync")
    assert worker.json("status", item)["item"]["status"] == "claimed"


def test_two_forks_whose_names_run_together_are_two_forks(town):
    poster = town.users["poster"]
    remotes = poster.python("print(sorted(d.remotes()))")
    assert "fork-10-worker-org-commons" in remotes


def test_an_edit_by_the_poster_does_not_void_a_claim_that_waits(town):
    poster, worker = town.users["poster"], town.users["worker"]
    item = posted(town, "Edited while claimed")
    made = worker.json("claim", item)
    edited = poster.json("update", item, "--title", "Edited after all")
    merged(town, edited)
    assert poster.json("review", str(made["pull"]["number"]))["conflicts"] == []
    merged(town, made)
    assert worker.json("done", item, "--evidence", "it works")["item"]["title"] == "Edited after all"
    found = poster.json("status", item)["item"]
    assert (found["title"], found["status"], found["claimed_by"]) == ("Edited after all", "claimed", "worker")


def test_a_branch_that_carried_a_table_for_a_while_lands_as_rows_alone(town):
    poster, worker = town.users["poster"], town.users["worker"]
    item = posted(town, "A detour")
    made = worker.json("claim", item)
    worker.python(f"""
view = d.at('wl/worker/{item}')
view.as_root(["CREATE TABLE detour (id INT PRIMARY KEY)", "CALL DOLT_COMMIT('-Am', 'there')",
              "DROP TABLE detour", "CALL DOLT_COMMIT('-Am', 'and back')"])
d.push('origin', 'wl/worker/{item}')
""")  # fmt: skip
    seen = poster.json("review", str(made["pull"]["number"]))
    assert (seen["verdict"], seen["landing"]) == ("review", "transplant")
    landed = poster.json("merge", str(made["pull"]["number"]))
    assert landed["landing"] == "transplant"
    history = poster.python("print([c.message for c in d.log('main')])")
    assert landed["head"] in history
    assert "and back" not in history
    worker.ok("sync")
    assert worker.json("status", item)["item"]["claimed_by"] == "worker"
    assert f"wl/worker/{item}" not in worker.ok("review"), "the branch went when its trailer landed"


def test_a_merge_names_the_rows_and_columns_that_conflict(town):
    poster, worker, rival = (town.users[name] for name in ("poster", "worker", "rival"))
    item = posted(town, "Two want it")
    first, second = worker.json("claim", item), rival.json("claim", item)
    merged(town, first)
    refused = poster.wl("merge", str(second["pull"]["number"]))
    assert refused.code in (5, 6)
    assert item in refused.err
    assert "claimed_by" in refused.err
    seen = poster.json("review", str(second["pull"]["number"]))
    assert [(c["table"], c["key"], c["columns"]) for c in seen["conflicts"] if c["table"] == "wanted"] == [
        ("wanted", item, ["claimed_by"])
    ]
