"""Claims that end: leased, renewed, left to lapse and taken over; in PR mode and in wild-west mode."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import pytest

from tests.conftest import User, World


@pytest.fixture(scope="module")
def town(shared_world: World) -> World:
    poster = shared_world.create("poster")
    for name in ("worker", "rival", "third"):
        shared_world.join(name, by=poster)
    for user in shared_world.users.values():
        user.ok("sync")
    return shared_world


def posted(town: World, title: str, effort: str = "small") -> str:
    made = town.users["poster"].json("post", "--title", title, "--effort", effort)
    merged(town, made)
    return str(made["item"]["id"])


def merged(town: World, made: dict) -> None:
    town.users["poster"].ok("merge", str(made["pull"]["number"]))


def claimed(town: World, title: str, *words: str) -> str:
    """An item that worker has claimed upstream."""
    item = posted(town, title)
    merged(town, town.users["worker"].json("claim", item, *words))
    return item


def lease(user: User, item: str, at: str = "main") -> dict[str, str] | None:
    """The row of an item's lease, at a branch of a rig's clone."""
    code = "import json; from wasteland.commons import leases\n"
    code += f"found = leases.of_item(d.at('{at}'), '{item}'); print(json.dumps(found and found.to_json()))"
    import json

    return json.loads(user.python(code))


def lasts(found: dict[str, str] | None) -> timedelta:
    assert found is not None
    return datetime.fromisoformat(found["expires_at"]) - datetime.fromisoformat(found["renewed_at"])


def let_lapse(town: World, item: str, ago: timedelta) -> None:
    """Turn upstream's lease back, as if time had passed: it ended `ago`."""
    end = datetime.now(UTC) - ago
    times = {"claimed_at": end - timedelta(days=3), "renewed_at": end - timedelta(days=3), "expires_at": end}
    sets = ", ".join(f"{name} = '{at:%Y-%m-%d %H:%M:%S}'" for name, at in times.items())
    sql = f"UPDATE wl_leases SET {sets} WHERE wanted_id = '{item}'"
    then = f"UPDATE wanted SET updated_at = '{times['claimed_at']:%Y-%m-%d %H:%M:%S}' WHERE id = '{item}'"
    both = f'd.run("{sql}"), d.run("{then}")'
    town.users["poster"].python(f"with d.change('time'): {both}\nd.push('origin', 'main')")


def test_a_claim_is_leased_in_its_own_commit_and_done_ends_the_lease(town):
    poster, worker = town.users["poster"], town.users["worker"]
    item = posted(town, "Leased")
    made = worker.json("claim", item)
    assert lasts(lease(worker, item, made["branch"])) == timedelta(days=3)
    commits = worker.python(f"print(len(d.log('{made['branch']}', without=d.hash_of('main'))))")
    assert commits == "1"
    review = poster.json("review", str(made["pull"]["number"]))
    assert (review["verdict"], {t["name"] for t in review["tables"]}) == ("auto", {"wanted", "wl_leases"})
    merged(town, made)
    assert lease(poster, item)["rig"] == "worker"
    merged(town, worker.json("done", item, "--evidence", "e"))
    assert lease(poster, item) is None
    merged(town, poster.json("reject", item))
    again = lease(poster, item)
    assert (again["rig"], lasts(again)) == ("worker", timedelta(days=3))
    merged(town, worker.json("done", item, "--evidence", "better"))
    merged(town, poster.json("accept", item, "--quality", "4"))
    assert lease(poster, item) is None


def test_less_time_may_be_asked_for_and_more_is_refused(town):
    worker = town.users["worker"]
    item = posted(town, "For a day")
    assert lasts(lease(worker, item, worker.json("claim", item, "--for", "1d")["branch"])) == timedelta(days=1)
    long = worker.wl("renew", item, "--for", "4d")
    assert (long.code, "3 d at most" in long.err) == (64, True)
    assert worker.wl("renew", item, "--for", "soon").code == 64
    assert worker.json("unclaim", item)["reverted"]
    other = posted(town, "Too long")
    assert worker.wl("claim", other, "--for", "4d").code == 64
    assert other not in worker.ok("review")


def test_a_renewal_merges_after_the_claim_that_it_was_made_on(town):
    poster, worker = town.users["poster"], town.users["worker"]
    item = posted(town, "Heartbeat")
    claim = worker.json("claim", item, "--for", "1h")
    head = poster.json("review", str(claim["pull"]["number"]))["head"]
    made = worker.json("renew", item)
    assert made["item"]["status"] == "claimed"
    commits = worker.python(f"print([c.message for c in d.log('{made['branch']}', limit=1)])")
    assert commits == f"['wl renew: {item}']"
    poster.python(f"d.merge('{head}', 'the claim alone')\nd.push('origin', 'main')")
    review = poster.json("review", str(made["pull"]["number"]))
    assert (review["verdict"], review["conflicts"]) == ("auto", [])
    assert {t["name"] for t in review["tables"]} == {"wl_leases"}
    merged(town, made)
    assert lasts(lease(poster, item)) == timedelta(days=3)
    for name in ("rival", "poster"):
        refused = town.users[name].wl("renew", item)
        assert (refused.code, "only the claimer may" in refused.err) == (6, True)


def test_a_running_lease_is_nobody_elses_and_the_refusal_says_until_when(town):
    rival = town.users["rival"]
    item = claimed(town, "Running")
    refused = rival.wl("claim", item, "--take-over")
    assert refused.code == 6
    assert "worker holds it, leased until" in refused.err
    plain = rival.wl("claim", item)
    assert plain.code == 6
    assert "claimed by worker, leased until" in plain.err
    assert "--take-over" not in plain.err
    let_lapse(town, item, timedelta(minutes=50))
    grace = rival.wl("claim", item, "--take-over")
    assert (grace.code, "lease expired 50 min ago" in grace.err) == (6, True)
    assert item not in rival.ok("review")
    merged(town, town.users["worker"].json("renew", item))
    assert "leased until" in rival.wl("claim", item).err


def test_a_lapsed_claim_is_taken_over_and_the_old_work_is_kept(town):
    poster, worker, rival = (town.users[name] for name in ("poster", "worker", "rival"))
    item = claimed(town, "Lapsed")
    half = worker.json("done", item, "--evidence", "half done")
    let_lapse(town, item, timedelta(hours=2))
    told = rival.wl("claim", item)
    assert told.code == 6
    assert f"wl claim {item} --take-over" in told.err
    made = rival.json("claim", item, "--take-over")
    assert (made["verb"], made["item"]["claimed_by"]) == ("takeover", "rival")
    assert poster.json("review", str(made["pull"]["number"]))["verdict"] == "auto"
    merged(town, made)
    found = lease(poster, item)
    assert (found["rig"], lasts(found)) == ("rival", timedelta(days=3))
    late = poster.wl("merge", str(half["pull"]["number"]))
    assert late.code in (5, 6)
    worker.ok("sync")
    assert worker.python(f"print(list(d.branches('wl/worker/{item}')))") == "[]", "set aside when the sync saw it"
    again = worker.wl("done", item, "--evidence", "half done")
    assert again.code == 6
    lost = worker.python(f"b = list(d.branches('lost/worker/{item}'))[0]\n"
                  f"print(d.at(b).value(\"SELECT evidence FROM completions WHERE wanted_id = '{item}'\"))")  # fmt: skip
    assert lost == "half done"
    merged(town, rival.json("done", item, "--evidence", "done"))
    assert poster.json("status", item)["item"]["claimed_by"] == "rival"


def test_two_takeovers_race_and_one_wins(town):
    poster, rival, third = (town.users[name] for name in ("poster", "rival", "third"))
    item = claimed(town, "Two takers")
    let_lapse(town, item, timedelta(hours=2))
    first, second = (user.json("claim", item, "--take-over") for user in (rival, third))
    merged(town, first)
    assert poster.wl("merge", str(second["pull"]["number"])).code in (5, 6)
    again = third.wl("claim", item, "--take-over")
    assert (again.code, "rival holds it, leased until" in again.err) == (6, True)


def test_a_takeover_loses_against_a_renewal_that_landed_first(town):
    poster, worker, rival = (town.users[name] for name in ("poster", "worker", "rival"))
    item = claimed(town, "Alive after all")
    let_lapse(town, item, timedelta(hours=2))
    taken, renewed = rival.json("claim", item, "--take-over"), worker.json("renew", item)
    merged(town, renewed)
    assert poster.wl("merge", str(taken["pull"]["number"])).code in (5, 6)
    assert poster.json("status", item)["item"]["claimed_by"] == "worker"


def test_a_fork_that_turns_the_clock_back_takes_nothing_over(town):
    poster, rival = town.users["poster"], town.users["rival"]
    item = claimed(town, "Forged")
    rival.ok("sync")
    branch = f"wl/rival/{item}"
    now = datetime.now(UTC)
    row = f"UPDATE wl_leases SET rig = 'rival', claimed_at = '{now:%F %T}', renewed_at = '{now:%F %T}', " \
          f"expires_at = '{now + timedelta(days=1):%F %T}' WHERE wanted_id = '{item}'"  # fmt: skip
    back = f"UPDATE wl_leases SET expires_at = '2020-01-01 00:00:00' WHERE wanted_id = '{item}'"
    take = f"UPDATE wanted SET claimed_by = 'rival' WHERE id = '{item}'"
    rival.python(f"d.branch('{branch}', 'main')\nb = d.at('{branch}')\n"
           f"with b.change('back'): b.run(\"{back}\")\n"
           f"with b.change('take'): b.run(\"{take}\"), b.run(\"{row}\")\nd.push('origin', '{branch}')")  # fmt: skip
    refused = poster.wl("merge", f"rival-org:{branch}")
    assert (refused.code, "worker holds it, leased until" in refused.err) == (6, True)


def test_an_unclaim_gives_the_item_back_without_its_lease(town):
    poster, worker, rival = (town.users[name] for name in ("poster", "worker", "rival"))
    item = claimed(town, "Given back")
    merged(town, worker.json("unclaim", item))
    assert lease(poster, item) is None
    merged(town, rival.json("claim", item))
    assert lease(poster, item)["rig"] == "rival"


def test_what_a_peer_left_behind_is_nobodys_lease(town):
    """A peer that knows no leases unclaims and claims; the old row stays, and means nothing."""
    poster, worker, rival = (town.users[name] for name in ("poster", "worker", "rival"))
    item = claimed(town, "A peer between")
    let_lapse(town, item, timedelta(hours=2))
    sql = f"UPDATE wanted SET claimed_by = 'third' WHERE id = '{item}'"
    poster.python(f"with d.change('peer'): d.run(\"{sql}\")\nd.push('origin', 'main')")
    refused = rival.wl("claim", item, "--take-over")
    assert (refused.code, "the claim by third has no lease" in refused.err) == (6, True)
    sql = f"UPDATE wanted SET claimed_by = NULL, status = 'open' WHERE id = '{item}'"
    poster.python(f"with d.change('peer'): d.run(\"{sql}\")\nd.push('origin', 'main')")
    merged(town, worker.json("claim", item))
    assert lasts(lease(poster, item)) == timedelta(days=3)
    assert "leased until" in rival.wl("claim", item).err


def test_a_commons_without_the_table_works_as_before(tmp_path_factory):
    world = World(tmp_path_factory.mktemp("old"))
    poster = world.user("poster")
    poster.ok("create", "acme/commons", "--local-only", "--handle", "poster")
    poster.ok("config", "set", "mode", "wild-west")
    poster.python("d.as_root(['DROP TABLE wl_leases', \"CALL DOLT_COMMIT('-Am', 'before leases')\"])")
    try:
        item = poster.json("post", "--title", "Old")["item"]["id"]
        told = poster.wl("claim", item, "--for", "1d")
        assert (told.code, "keeps no leases" in told.err) == (6, True)
        assert poster.json("claim", item)["item"]["status"] == "claimed"
        assert lease(poster, item) is None
        assert "has no lease" in poster.wl("renew", item).err
        assert poster.json("done", item, "--evidence", "e")["item"]["status"] == "in_review"
        assert poster.python("from wasteland.commons import leases; print(leases.of_all(d))") == "{}"
    finally:
        world.stop()


def test_in_wild_west_mode_a_lapsed_claim_is_taken_over_at_once(tmp_path_factory):
    world = World(tmp_path_factory.mktemp("west"))
    poster = world.create("poster")
    worker, rival = (world.join(name, by=poster) for name in ("worker", "rival"))
    for user in (poster, worker, rival):
        user.ok("config", "set", "mode", "wild-west")
    try:
        item = poster.json("post", "--title", "Wild", "--effort", "trivial")["item"]["id"]
        worker.ok("sync")
        worker.ok("claim", item)
        assert "leased until" in rival.wl("claim", item).err
        poster.ok("sync")
        let_lapse(world, item, timedelta(hours=2))
        rival.ok("sync")
        made = rival.json("claim", item, "--take-over")
        assert (made["item"]["claimed_by"], made["pushed"]) == ("rival", True)
        assert worker.wl("renew", item).code == 6
        time.sleep(1)
        rival.ok("renew", item)
        assert lasts(lease(rival, item)) == timedelta(days=1)
        assert rival.wl("claim", item, "--take-over").code == 6
    finally:
        world.stop()
