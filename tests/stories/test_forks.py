"""Forks of strangers: one branch is fetched, within limits, and what is long gone is forgotten."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from tests.conftest import User, World

LARGE = 4 << 20
FORK = "fork-10-worker-org-commons"


@pytest.fixture(scope="module")
def town(shared_world: World) -> World:
    poster = shared_world.create("poster")
    shared_world.join("worker", by=poster)
    for user in shared_world.users.values():
        user.ok("sync")
    return shared_world


def offer(worker: User, branch: str, size: int) -> int:
    """Push a branch with `size` bytes of noise to the worker's fork and open a pull request; its number."""
    code = f"""
import os
from wasteland.hub import Branch
d.branch({branch!r}, 'main')
with d.at({branch!r}).change('wl post: noise') as at:
    for k in range({size} // 40000 + 1):
        at.run("INSERT INTO wanted (id, title, description, posted_by) VALUES (:id, 'noise', :text, 'x')",
               id=f'w-{branch}-{{k}}'.replace('/', '-'), text=os.urandom(20000).hex())
d.push('origin', {branch!r})
org, db = n.config.fork_org, n.config.fork_db
print(n.hub.open_pull(Branch(org, db, {branch!r}), n.upstream_main, 'noise', '', 'worker').number)
n.close()
"""
    return int(worker.python(code))


def fetched(user: User) -> list[str]:
    return json.loads(user.python(f"import json; print(json.dumps(list(d.remote_branches('{FORK}')))); n.close()"))


def kept(user: User) -> int:
    """The bytes of the clone's data, and of what is being fetched."""
    return sum(f.stat().st_size for place in ("noms", "temptf") for f in (user.clone() / ".dolt" / place).glob("*"))


def test_a_fork_that_is_too_large_is_refused_and_leaves_nothing(town):
    poster, worker = town.users["poster"], town.users["worker"]
    poster.ok("config", "set", "fork-limit", "1")
    poster.ok("inbox")
    size = kept(poster)
    number = offer(worker, "large", LARGE)

    refused = poster.wl("review", str(number))
    assert refused.code == 6
    assert refused.err.splitlines() == [
        "wl: the fork worker-org/commons was not fetched: this clone would grow by more than 1 MiB",
        "  Hint: where you trust it: wl config set fork-limit MIB",
    ]
    assert kept(poster) < size + (1 << 20)
    assert "large" not in fetched(poster)
    assert "noise" not in poster.ok("browse")  # the clone is as usable as before

    assert [one["state"] for one in poster.json("inbox")["pulls"]] == ["gone"], "it is not fetched again unasked"
    assert kept(poster) < size + (1 << 20)
    said = [one for one in json.loads(poster.wl("doctor", "--json").out)["checks"] if one["what"] == "pull requests"]
    assert [(one["detail"], one["hint"]) for one in said] == [
        (f"#{number}: {refused.err.splitlines()[0].removeprefix('wl: ')}", "wl review N says what can be done")
    ]
    poster.ok("config", "set", "fork-limit", "64")
    assert [one["state"] for one in poster.json("inbox")["pulls"]] == ["ready"]
    assert "large" in fetched(poster)
    poster.ok("close", str(number))


def test_a_fork_that_is_too_slow_is_not_waited_for_by_each_command(town):
    poster, worker = town.users["poster"], town.users["worker"]
    number = offer(worker, "slow", 1)
    poster.python("""
import functools
from wasteland.dolt import fetching
from wasteland.node import proposals
fetching.Limits, fetching.LOOK = functools.partial(fetching.Limits, seconds=0), 0
proposals.inbox(n)
n.close()
""")
    (found,) = poster.json("inbox")["pulls"]
    assert (found["state"], found["detail"]) == (
        "gone", "the fork worker-org/commons was not fetched: it did not come within 0 s"
    )  # fmt: skip
    poster.ok("review", str(number))
    assert [one["state"] for one in poster.json("inbox")["pulls"]] == ["ready"]
    poster.ok("close", str(number))


def test_only_the_branch_that_is_offered_is_fetched_and_one_that_went_is_forgotten(town):
    poster, worker = town.users["poster"], town.users["worker"]
    first, second = offer(worker, "first", 1), offer(worker, "deep/second", 1)
    worker.python("d.branch('unoffered', 'main'); d.push('origin', 'unoffered'); n.close()")
    poster.ok("inbox")
    assert {"first", "deep/second"} <= set(fetched(poster))
    assert "unoffered" not in fetched(poster)

    worker.python("d.push('origin', ':first'); n.close()")
    states = {one["number"]: one["state"] for one in poster.json("inbox")["pulls"]}
    assert (states[first], states[second]) == ("gone", "ready")
    assert "first" not in fetched(poster)
    assert "is gone" in poster.wl("review", str(first)).err
    for number in (first, second):
        poster.ok("close", str(number))


@pytest.mark.parametrize("name", ["--prune", "refs/heads/main", "a b", "x:y", "../main"])
def test_a_name_that_is_no_plain_branch_is_never_given_to_dolt(town, name):
    refused = town.users["poster"].wl("review", f"worker-org:{name}")
    assert refused.code == 4, refused.err
    assert "no" in refused.err
    assert len(refused.err.splitlines()) <= 2


def test_the_remote_of_a_fork_that_nobody_asked_of_for_long_is_removed(town):
    poster, worker = town.users["poster"], town.users["worker"]
    number = offer(worker, "last", 1)
    notes = poster.clone().parent / ".commons.node" / "forks.json"

    users_own = {"fork-alice": f"file://{notes.parent}", "fork-5-alice-commons": f"file://{notes.parent}"}

    def after(days: int) -> set[str]:
        poster.ok("inbox")
        at = (datetime.now(UTC) - timedelta(days=days)).isoformat()
        notes.write_text(json.dumps({name: {"at": at} for name in [FORK, *users_own]}))
        poster.ok("inbox")
        remotes = json.loads(poster.python("import json; print(json.dumps(d.remotes())); n.close()"))
        return {name for name in remotes if name.startswith("fork-")}

    poster.python(f"for name, url in {users_own}.items(): d.add_remote(name, url)\nn.close()")
    assert after(40) == {FORK, *users_own}, "what is still offered stays"
    poster.ok("close", str(number))
    assert after(20) == {FORK, *users_own}
    assert after(40) == set(users_own)
