"""A company's wasteland: its own roles on shared history, and a valve that lets pass what its rules say."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import User, World, long
from wasteland.commons import parents, signatures
from wasteland.dolt import binary
from wasteland.errors import Conflict, NotFound, Usage
from wasteland.local.config import Paths
from wasteland.member.fork import join_remote, prepare_git, remote_url
from wasteland.models import RowDiff
from wasteland.node import roles, standing, verifying
from wasteland.node.node import Node, open_node
from wasteland.rules.policy.findings import Upstream
from wasteland.rules.policy.pull_request import judge
from wasteland.trust.envelope import Envelope, parse
from wasteland.trust.verification import Verdict

PARENT = "acme/commons"
OPEN_ALL = '[up]\nprojects = ["web"]\ndeny_tags = ["internal"]\n'


@dataclass
class Place:
    """The parent with a stamped item, its maintainer, and a member who makes companies out of it."""

    world: World
    poster: User
    worker: User
    item: str
    stamp: str


def land_post(user: User, title: str, *words: str, wasteland: str = PARENT) -> str:
    """Post an item and land it; its id."""
    item = user.json("post", "--title", title, "--wasteland", wasteland, *words)["item"]["id"]
    if user.json("config", "get", "mode", "--wasteland", wasteland)["value"] == "pr":
        user.ok("merge", f"wl/{user.name}/{item}", "--wasteland", wasteland)
    return item


def completed(poster: User, worker: User, title: str) -> tuple[str, str]:
    """An item of the parent that the worker did and the poster stamped: item and stamp."""
    item = land_post(poster, title, "--project", "web")
    for verb in (["claim", item], ["done", item, "--evidence", "it is done"]):
        worker.ok(*verb, "--wasteland", PARENT)
        poster.ok("merge", f"worker-org:wl/worker/{item}")
    stamp = poster.json("accept", item, "--quality", "4")["stamp"]["id"]
    poster.ok("merge", f"wl/poster/{item}")
    return item, stamp


@pytest.fixture(scope="module")
def place(shared_world: World) -> Place:
    poster = shared_world.create("poster")
    worker = shared_world.join("worker", by=poster)
    item, stamp = completed(poster, worker, "Fix it")
    return Place(shared_world, poster, worker, item, stamp)


@pytest.fixture
def fork(place: Place) -> Iterator[Callable[..., str]]:
    """Make a company's wasteland out of the parent, and leave it at the end; its name."""
    made = []

    def make(name: str, *words: str, **rest: str) -> str:
        if "--remote" not in words:
            words = ("--remote-base", str(place.world.hub), *words)
        place.worker.ok("fork", rest.get("of", PARENT), "--as", f"{name}/board", "--handle", "worker", *words)
        made.append(f"{name}/board")
        return made[-1]

    yield make
    for upstream in made:
        place.worker.wl("leave", upstream)


@pytest.fixture
def opened() -> Iterator[Callable[[User, str], Node]]:
    """A node of a user's, in this process."""
    made = []

    def make(user: User, upstream: str) -> Node:
        where = Paths(user.home, user.home / ".config", user.home / ".local" / "share")
        made.append(open_node(upstream, where))
        return made[-1]

    yield make
    for node in made:
        node.close()


def rules(user: User, upstream: str, text: str) -> Path:
    path = user.home / ".config" / "wasteland" / "valve" / f"{upstream}.toml"
    path.write_text(text)
    return path


def pulls(user: User) -> list[dict[str, Any]]:
    return [one for one in user.json("review", "--wasteland", PARENT) if "pull" in one]


def upstream_state(place: Place) -> dict[str, str]:
    """Every branch of the parent and of the worker's fork, by commit."""
    found = {}
    for org in ("acme", "worker-org"):
        folder = place.world.folder / f"look-{org}"
        shutil.rmtree(folder, ignore_errors=True)
        env = {"DOLT_ROOT_PATH": str(place.worker.home), "HOME": str(place.worker.home), "PATH": "/usr/bin:/bin"}
        program = str(binary.find())
        remote = f"file://{place.world.hub}/{org}/commons"
        subprocess.run([program, "clone", remote, str(folder)], env=env, check=True, capture_output=True)
        sql = [program, "sql", "-r", "csv", "-q", "SELECT name, hash FROM dolt_remote_branches ORDER BY name"]
        rows = subprocess.run(sql, cwd=folder, env=env, check=True, capture_output=True, text=True).stdout
        found[org] = rows
    return found


# fork


def test_a_fork_has_its_own_id_and_roles_and_its_parents_history(place, fork, opened):
    name = fork("own")
    node, parent = opened(place.worker, name), opened(place.worker, PARENT)
    main = node.db.at("main")
    known = parents.parent(main)

    assert known.upstream == PARENT
    assert known.wasteland == standing.wasteland_id(parent) != standing.wasteland_id(node)
    assert node.db.merge_base("main", "parent/main") == known.base
    assert roles.roles_of(node, "worker") == {"root", "maintainer", "validator"}
    assert roles.roles_of(node, "poster") == frozenset()
    assert main.value("SELECT COUNT(*) FROM wl_roles") == 1
    assert main.value("SELECT trust_level FROM rigs WHERE handle = 'poster'") == 0
    assert main.value("SELECT dolthub_org FROM rigs WHERE handle = 'worker'") == "own"
    assert place.worker.json("status", place.item, "--wasteland", name)["item"]["status"] == "completed"


def test_a_fork_is_pushed_to_its_own_place_and_the_parent_is_left_as_it_was(place, fork, opened):
    before = upstream_state(place)
    name = fork("apart")
    node = opened(place.worker, name)
    hub = place.world.hub

    assert node.db.remotes() == {"origin": f"file://{hub}/apart/board", "parent": f"file://{hub}/acme/commons"}
    assert node.db.find("origin/main") == node.db.hash_of("main")
    assert "parent" not in (node.config.clone / ".dolt" / "repo_state.json").read_text().partition('"branches"')[2]
    assert upstream_state(place) == before


def test_the_parents_stamps_verify_as_the_parents(place, fork, opened):
    name = fork("stamps")
    said = place.worker.ok("verify", "stamp", place.stamp, "--wasteland", name)
    assert said.startswith("VERIFIED")
    assert f"{standing.wasteland_id(opened(place.worker, PARENT))}  from {PARENT}" in said
    assert place.worker.json("verify", "--all", "--wasteland", name)["counts"] == {
        "verified": 2, "invalid": 0, "unsigned": 0, "undecided": 0,
    }  # fmt: skip


def test_a_stamp_of_the_parents_that_was_changed_here_is_invalid(place, fork, opened):
    node = opened(place.worker, fork("forged"))
    with node.db.change("forge"):
        node.db.run("UPDATE stamps SET valence = '{\"quality\": 5}' WHERE id = :id", id=place.stamp)
    assert verifying.verify(node, "stamp", place.stamp).verdict is Verdict.INVALID


def test_what_was_signed_for_another_wasteland_does_not_pass_as_the_parents(place, fork, opened):
    """Signed here, laid where the parent's signatures are: it names our id, and not the parent's."""
    name = fork("other", "--remote", f"file://{place.world.folder}/other-remote")
    item = land_post(place.worker, "Ours", wasteland=name)
    place.worker.ok("claim", item, "--wasteland", name)
    place.worker.ok("done", item, "--evidence", "x", "--wasteland", name)
    node = opened(place.worker, name)
    row = node.db.row("SELECT id, block_hash FROM completions WHERE wanted_id = :id", id=item)
    assert verifying.verify(node, "completion", row["id"]).verdict is Verdict.VERIFIED
    known = parents.parent(node.db.at("main"))
    found = {
        "wl_attestations": [
            r for r in parents.signed_in(node.db)["wl_attestations"] if r["payload_sha256"] == row["block_hash"]
        ],
        "wl_key_events": parents.signed_in(node.db)["wl_key_events"],
    }

    with node.db.change("lay aside"):
        node.db.run("DELETE FROM wl_parent_key_events WHERE handle = 'worker'")
        assert parents.keep_signed(node.db, known.wasteland, found) == 2
    report = verifying.verify(node, "completion", row["id"])
    assert report.verdict is Verdict.INVALID
    assert report.checks[0].detail.endswith(f"from {PARENT}")


def test_no_pull_request_may_hold_rows_of_the_parents():
    upstream = Upstream("urn:x", {"ada": {"handle": "ada", "dolthub_org": "ada-org"}}, {}, lambda _: frozenset(), list)
    for table in ("wl_parent_attestations", "wl_parent_key_events", "wl_parent_rows", "_meta"):
        rows = [RowDiff(table, None, {"handle": "ada", "key": "parent_wasteland"})]
        assert judge(rows, "ada-org", upstream, standing.check).verdict == "reject"


def test_only_the_recorded_and_pinned_parent_counts(place, fork, opened):
    node = opened(place.worker, fork("pinned"))
    other = "urn:uuid:00000000-0000-4000-8000-000000000000"
    with node.db.change("another id"):
        node.db.run("UPDATE wl_parent_attestations SET wasteland = :urn", urn=other)
        node.db.run("UPDATE wl_parent_key_events SET wasteland = :urn", urn=other)
    assert verifying.verify(node, "stamp", place.stamp).verdict is Verdict.UNDECIDED
    pinned = node.config.node.pop("parents")
    assert verifying.verify(node, "stamp", place.stamp).verdict is Verdict.UNDECIDED
    node.config.node["parents"] = pinned
    with node.db.change("recorded, and not pinned"):
        node.db.run("UPDATE _meta SET value = :urn WHERE `key` = 'parent_wasteland'", urn=other)
    assert verifying.verify(node, "stamp", place.stamp).verdict is Verdict.UNDECIDED
    node.config.node["parents"] = [other]
    assert verifying.verify(node, "stamp", place.stamp).verdict is Verdict.INVALID


def test_the_parents_maintainer_is_nobody_in_the_fork(place, fork):
    name = fork("roles")
    base = ["--remote-base", str(place.world.hub)]
    made = place.poster.json("join", name, *base, "--fork-org", "acme", "--handle", "poster")
    refused = place.poster.wl("merge", str(made["pull"]), "--wasteland", name)
    assert refused.code == 6
    assert "only a maintainer may merge, and poster is not" in refused.err

    place.worker.ok("merge", str(made["pull"]), "--wasteland", name)
    place.poster.ok("sync", "--wasteland", name)
    assert place.poster.json("me", "--wasteland", name)["roles"] == []
    assert place.poster.ok("verify", "stamp", place.stamp, "--wasteland", name).startswith("VERIFIED")
    item = place.poster.json("post", "--title", "Mine", "--wasteland", name)["item"]["id"]
    place.worker.ok("merge", f"acme:wl/poster/{item}", "--wasteland", name)
    assert "only a maintainer" in place.poster.wl("valve", "in", "--wasteland", name).err
    place.poster.ok("valve", "in", "--dry-run", "--wasteland", name)
    place.poster.ok("leave", name)


def test_nobody_takes_the_handle_of_a_rig_of_the_parents(place, fork):
    name = fork("squat")
    mallory = place.world.user("mallory")
    base = ["--remote-base", str(place.world.hub)]
    done = mallory.wl("join", name, *base, "--fork-org", "mallory-org", "--handle", "poster")
    assert done.code == 5
    done = mallory.wl("fork", PARENT, "--as", "mallory-co/board", *base, "--handle", "Poster")
    assert done.code == 5
    assert "belongs to a rig of the parent" in done.err
    assert mallory.json("list") == []
    assert not (place.world.hub / "mallory-co" / "board").exists()


def test_a_fork_can_be_forked_and_older_stamps_still_verify(place, fork):
    fork("first")
    name = fork("second", of="first/board")
    said = place.worker.ok("verify", "stamp", place.stamp, "--wasteland", name)
    assert said.startswith("VERIFIED")
    assert f"from {PARENT}" in said
    assert place.worker.json("valve", "show", "--wasteland", name)["parent"] == "first/board"


def test_a_private_fork_in_a_folder_is_its_owners_alone(place, fork):
    fork("secret", "--private")
    assert (place.world.hub / "secret" / "board").stat().st_mode & 0o777 == 0o700


def test_a_place_that_is_taken_is_not_forked_onto(place, fork):
    name = fork("taken")
    base = ["--remote-base", str(place.world.hub)]
    assert place.worker.wl("fork", PARENT, "--as", name, *base).code == 5
    place.worker.ok("leave", name)
    before = (place.world.hub / "taken" / "board" / "manifest").read_bytes()
    assert place.worker.wl("fork", PARENT, "--as", name, *base, "--handle", "worker").code == 5
    assert (place.world.hub / "taken" / "board" / "manifest").read_bytes() == before


def test_the_parents_own_place_or_a_mirror_of_it_is_refused(place):
    before = upstream_state(place)
    mirror = place.world.folder / "mirror"
    shutil.copytree(place.world.hub / "acme" / "commons", mirror, dirs_exist_ok=True)
    manifest = (mirror / "manifest").read_bytes()
    words = ["fork", PARENT, "--as", "evil/board", "--handle", "worker", "--remote"]
    assert place.worker.wl(*words, f"file://{place.world.hub}/acme/commons").code == 64
    done = place.worker.wl(*words, f"file://{mirror}")
    assert done.code == 5
    assert "holds a database already" in done.err
    assert (mirror / "manifest").read_bytes() == manifest
    assert upstream_state(place) == before
    assert "evil/board" not in [one["upstream"] for one in place.worker.json("list")]


def test_a_fork_lives_in_a_git_repository(place, fork):
    git = place.world.folder / "company.git"
    subprocess.run(["git", "init", "-q", "--bare", str(git)], check=True)
    url = f"git+file://{git}"
    name = fork("git", "--remote", url)
    assert place.worker.json("config", "get", "mode", "--wasteland", name)["value"] == "wild-west"
    item = land_post(place.worker, "In git", wasteland=name)
    new = land_post(place.poster, "For git")
    assert {"table": "wanted", "id": new} in place.worker.json("valve", "in", "--wasteland", name)["new"]
    place.worker.ok("leave", name)
    shutil.rmtree(place.worker.clone(name))
    refs = subprocess.run(["git", "-C", str(git), "for-each-ref"], capture_output=True, text=True, check=True).stdout
    assert "refs/dolt/data" in refs
    # What is there is enough to go on from: another machine clones it, with the item and what came in.
    folder = place.world.folder / "from-git"
    program = str(binary.find())
    env = {"DOLT_ROOT_PATH": str(place.worker.home), "HOME": str(place.worker.home), "PATH": "/usr/bin:/bin"}
    subprocess.run([program, "clone", url, str(folder)], env=env, check=True, capture_output=True)
    sql = [program, "sql", "-r", "csv", "-q", f"SELECT COUNT(*) FROM wanted WHERE id IN ('{item}', '{new}')"]
    assert subprocess.run(sql, cwd=folder, env=env, check=True, capture_output=True, text=True).stdout.split()[1] == "2"
    done = place.worker.wl("fork", PARENT, "--as", "git2/board", "--remote", url, "--handle", "worker")
    assert done.code == 5


def test_members_join_and_work_in_a_git_repository(place, fork, opened):
    git = place.world.folder / "members.git"
    subprocess.run(["git", "init", "-q", "--bare", str(git)], check=True)
    name = fork("members", "--remote", f"git+file://{git}")
    member = place.world.user("member")
    where = Paths(member.home, member.home / ".config", member.home / ".local" / "share")
    with pytest.raises(Conflict):
        join_remote(where, name, f"git+file://{git}", handle="poster")
    join_remote(where, name, f"git+file://{git}", handle="member").close()
    first = land_post(place.worker, "By the creator", wasteland=name)
    member.ok("claim", first, "--wasteland", name)
    second = land_post(member, "By the member", wasteland=name)
    lost = place.worker.wl("claim", first, "--wasteland", name)
    assert lost.code == 6
    assert place.worker.json("status", second, "--wasteland", name)["item"]["posted_by"] == "member"
    assert roles.roles_of(opened(member, name), "worker") == {"root", "maintainer", "validator"}
    assert member.ok("verify", "stamp", place.stamp, "--wasteland", name).startswith("VERIFIED")


def test_a_git_repository_that_is_not_there_is_not_made(tmp_path):
    with pytest.raises(NotFound):
        prepare_git(f"git+file://{tmp_path}/none.git")
    prepare_git("git+https://git.example/x.git")
    assert list(tmp_path.iterdir()) == []


def test_a_git_repository_with_commits_is_left_as_it_is(tmp_path):
    repo = tmp_path / "x.git"
    subprocess.run(["git", "init", "-q", "--bare", str(repo)], check=True)
    hook = repo / "hooks" / "reference-transaction"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    hook.chmod(0o755)
    prepare_git(f"file://{repo}")
    head = subprocess.run(["git", "-C", str(repo), "rev-parse", "main"], capture_output=True, check=True).stdout
    prepare_git(f"git+file://{repo}")
    assert subprocess.run(["git", "-C", str(repo), "rev-parse", "main"], capture_output=True).stdout == head
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "url",
    [
        "https://doltremoteapi.example/acme/board", "http://127.0.0.1:50051/acme/board", "file:///srv/acme/board",
        "git+file:///srv/x.git", "git+ssh://git@git.example/acme/x.git", "https://git.example/acme/x.git",
        "aws://[table:bucket]/acme", "s3://bucket/acme/board", "gs://bucket/acme",
    ],
)  # fmt: skip
def test_a_dolt_remote_is_a_url(url):
    assert remote_url(url) == url


@pytest.mark.parametrize(
    "url",
    [
        "", "acme/board", "/srv/x", "--force", "dolt://x/y", "javascript:alert(1)", "ext::sh -c id", "file://host/x",
        "file://../x", "file:///a/../b", "file:///", "https://", "https://host", "https://u:p@host/x",
        "https://ghp_token@host/x", "git+ssh://git:secret@host/x", "https://host/x?token=1", "https://host/x#a",
        "https://host/a b", "https://host/'x", "https://host:99999/x", "https://höst/x", "file:///x\n", "aws://[a]/x",
        "https://host/" + "x" * 500,
    ],
)  # fmt: skip
def test_what_is_no_url_or_holds_a_credential_is_refused(url):
    with pytest.raises(Usage) as error:
        remote_url(url)
    for secret in ("u:p", "ghp_token", "secret"):
        assert secret not in error.value.message


def test_words_that_do_not_fit_together_are_refused(place):
    fork = ["fork", PARENT, "--as", "odd/board"]
    assert place.worker.wl(*fork, "--remote", "file:///x", "--remote-base", "/x").code == 64
    assert place.worker.wl(*fork, "--remote", "file:///x/y", "--private").code == 64
    assert place.worker.wl(*fork, "--hub", "https://hub.example").code == 7
    assert place.worker.wl("fork", PARENT, "--as", PARENT, "--remote-base", str(place.world.hub)).code == 64
    assert place.worker.wl("fork", PARENT, "--as", "odd", "--remote-base", str(place.world.hub)).code == 64
    assert place.worker.wl("fork", PARENT).code == 64


# in


def test_open_items_come_in_and_follow_the_parent(place, fork):
    name = fork("inward")
    assert place.worker.json("valve", "in", "--wasteland", name)["new"] == []
    item = land_post(place.poster, "New here", "--project", "web")
    seen = place.worker.json("valve", "in", "--dry-run", "--wasteland", name)
    assert seen["new"] == [{"table": "wanted", "id": item}]
    assert place.worker.wl("status", item, "--wasteland", name).code == 4
    assert place.worker.json("valve", "in", "--wasteland", name)["new"] == [{"table": "wanted", "id": item}]
    assert place.worker.json("status", item, "--wasteland", name)["item"]["posted_by"] == "poster"

    place.worker.ok("claim", item, "--wasteland", PARENT)
    place.poster.ok("merge", f"worker-org:wl/worker/{item}")
    found = place.worker.json("valve", "in", "--wasteland", name)
    assert found["changed"] == [{"table": "wanted", "id": item}]
    assert place.worker.json("status", item, "--wasteland", name)["item"]["status"] == "claimed"
    assert place.worker.json("valve", "in", "--wasteland", name)["changed"] == []


def test_what_came_in_is_where_the_others_see_it(place, fork, opened):
    name = fork("seen")
    land_post(place.poster, "For all")
    place.worker.ok("valve", "in", "--wasteland", name)
    node = opened(place.worker, name)
    node.db.fetch("origin")
    assert node.db.find("origin/main") == node.db.hash_of("main")
    assert node.db.log("main", limit=1)[0].message.startswith(f"wl valve in: {PARENT} at ")


def test_a_row_that_the_company_changed_is_never_overwritten(place, fork):
    first = land_post(place.poster, "As it came with the fork")
    name = fork("kept", "--remote", f"file://{place.world.folder}/kept-remote")
    second = land_post(place.poster, "As it came through the valve")
    place.worker.ok("valve", "in", "--wasteland", name)
    for item in (first, second):
        place.worker.ok("claim", item, "--wasteland", name)
        place.poster.ok("update", item, "--priority", "0")
        place.poster.ok("merge", f"wl/poster/{item}")
    for _ in range(2):
        found = place.worker.json("valve", "in", "--wasteland", name)
        kept = [(one["id"], one["why"]) for one in found["kept"]]
        assert sorted(kept) == sorted([(first, "it was changed here"), (second, "it was changed here")])
        assert found["changed"] == []
    for item in (first, second):
        row = place.worker.json("status", item, "--wasteland", name)["item"]
        assert (row["claimed_by"], row["priority"]) == ("worker", 2)


def test_completions_and_stamps_come_in_with_their_signatures_where_the_rules_say_so(place, fork):
    name = fork("signed")
    item, stamp = completed(place.poster, place.worker, "Done in the parent")
    quiet = place.worker.json("valve", "in", "--wasteland", name)
    assert item not in {one["id"] for one in quiet["new"]}
    rules(place.worker, name, '[in]\ntables = ["wanted", "completions", "stamps"]\nstatuses = ["open", "completed"]\n')
    found = place.worker.json("valve", "in", "--wasteland", name)
    assert {(one["table"]) for one in found["new"]} == {"wanted", "completions", "stamps"}
    assert found["signed"] == 2
    said = place.worker.ok("verify", "stamp", stamp, "--wasteland", name)
    assert said.startswith("VERIFIED")
    assert f"from {PARENT}" in said
    again = place.worker.json("valve", "in", "--wasteland", name)
    assert (again["new"], again["changed"], again["signed"]) == ([], [], 0)


def test_no_completion_comes_in_for_an_item_that_is_not_here_as_the_parent_has_it(place, fork):
    name = fork("apart2", "--remote", f"file://{place.world.folder}/apart2-remote")
    tables = '[in]\ntables = ["wanted", "completions", "stamps"]\nstatuses = ["open", "completed"]\n'
    rules(place.worker, name, tables + 'deny_projects = ["noise"]\n')
    ours = land_post(place.poster, "Claimed by both", "--project", "web")
    place.worker.ok("valve", "in", "--wasteland", name)
    place.worker.ok("claim", ours, "--wasteland", name)
    noise = land_post(place.poster, "Noise again", "--project", "noise")
    for item in (ours, noise):
        for verb in (["claim", item], ["done", item, "--evidence", "it is done"]):
            place.worker.ok(*verb, "--wasteland", PARENT)
            place.poster.ok("merge", f"worker-org:wl/worker/{item}")
    found = place.worker.json("valve", "in", "--wasteland", name)
    assert (found["new"], found["changed"]) == ([], [])
    assert [one["id"] for one in found["kept"]] == [ours]


@pytest.mark.parametrize("at", ["written", "pushing", "settled", *long("committed", "durable", "pushed")])
def test_a_kill_on_the_way_in_is_made_good_by_the_next_try(place, fork, opened, at):
    name = fork(f"kill-in-{at}")
    item = land_post(place.poster, f"Killed at {at}")
    place.worker.env["WL_CRASH_AT"] = at
    try:
        assert place.worker.wl("valve", "in", "--wasteland", name).code == -9
    finally:
        del place.worker.env["WL_CRASH_AT"]
    place.worker.ok("valve", "in", "--wasteland", name)
    assert place.worker.json("valve", "in", "--wasteland", name)["new"] == []
    node = opened(place.worker, name)
    node.db.fetch("origin")
    assert node.db.find("origin/main") == node.db.hash_of("main")
    assert place.worker.json("status", item, "--wasteland", name)["item"]["status"] == "open"


def test_a_fork_that_was_killed_before_it_was_pushed_is_made_again(place, fork):
    words = ["fork", PARENT, "--as", "again/board", "--remote-base", str(place.world.hub), "--handle", "worker"]
    place.worker.env["WL_CRASH_AT"] = "durable"
    try:
        assert place.worker.wl(*words).code == -9
    finally:
        del place.worker.env["WL_CRASH_AT"]
    name = fork("again")
    assert place.worker.ok("verify", "stamp", place.stamp, "--wasteland", name).startswith("VERIFIED")


def test_projects_and_columns_that_the_rules_stop_do_not_come_in(place, fork):
    name = fork("stopped")
    rules(place.worker, name, '[in]\ndeny_projects = ["noise"]\n[in.blank]\nwanted = ["description"]\n')
    noise = land_post(place.poster, "Noise", "--project", "noise")
    item = land_post(place.poster, "Signal", "--description", "long words")
    found = {one["id"] for one in place.worker.json("valve", "in", "--wasteland", name)["new"]}
    assert item in found
    assert noise not in found
    assert "description" not in place.worker.json("status", item, "--wasteland", name)["item"]


def test_new_rigs_come_in_without_rank_and_never_as_somebodys_twin(place, fork, opened):
    name = fork("rigs")
    rules(place.worker, name, '[in]\ntables = ["rigs"]\n')
    place.world.join("newcomer", by=place.poster)
    found = place.worker.json("valve", "in", "--wasteland", name)
    assert found["new"] == [{"table": "rigs", "id": "newcomer"}]
    assert [one["id"] for one in found["kept"]] == ["worker"]
    node = opened(place.worker, name)
    assert node.db.value("SELECT trust_level FROM rigs WHERE handle = 'newcomer'") == 0
    assert node.db.value("SELECT dolthub_org FROM rigs WHERE handle = 'worker'") == "rigs"


def test_a_parent_that_is_gone_or_was_rewritten_changes_nothing(place, fork, opened):
    name = fork("gone")
    hub, aside = place.world.hub / "acme" / "commons", place.world.folder / "aside"
    shutil.copytree(hub, aside)
    land_post(place.poster, "Soon gone")
    place.worker.ok("valve", "in", "--wasteland", name)
    head = opened(place.worker, name).db.hash_of("main")
    later = place.world.folder / "later"
    hub.rename(later)
    try:
        done = place.worker.wl("valve", "in", "--wasteland", name)
        assert done.code == 8
        place.worker.ok("server", "stop", "--wasteland", name)
        aside.rename(hub)
        done = place.worker.wl("valve", "in", "--wasteland", name)
        assert done.code == 6
        assert "was rewritten" in done.err
    finally:
        shutil.rmtree(hub, ignore_errors=True)
        later.rename(hub)
    assert opened(place.worker, name).db.hash_of("main") == head


def test_another_machine_finds_the_parent_where_it_joined_it(place, fork):
    name = fork("machines")
    base = ["--remote-base", str(place.world.hub)]
    other = place.world.user("other")
    other.ok("join", name, *base, "--fork-org", "other-org", "--handle", "other")
    done = other.wl("valve", "in", "--dry-run", "--wasteland", name)
    assert done.code == 9
    other.ok("join", PARENT, *base, "--fork-org", "other-org", "--handle", "other")
    other.ok("valve", "in", "--dry-run", "--wasteland", name)


# up


def test_nothing_goes_up_before_a_rule_says_so(place, fork):
    name = fork("shut", "--remote", f"file://{place.world.folder}/shut-remote")
    item = land_post(place.worker, "Ours", "--project", "web", wasteland=name)
    before = upstream_state(place), pulls(place.poster)
    done = place.worker.wl("valve", "up", item, "--wasteland", name)
    assert done.code == 6
    assert "nothing was sent" in done.err
    assert (upstream_state(place), pulls(place.poster)) == before


def test_an_item_goes_up_as_one_pull_request_however_often_it_is_sent(place, fork):
    name = fork("sends", "--remote", f"file://{place.world.folder}/sends-remote")
    rules(place.worker, name, OPEN_ALL + '[up.blank]\nwanted = ["description"]\n')
    item = land_post(
        place.worker, "Share it", "--project", "web", "--description", "inner words", "--tags", "ui", wasteland=name
    )
    before = len(pulls(place.poster))
    dry = place.worker.json("valve", "up", item, "--dry-run", "--wasteland", name)
    assert dry["items"][0]["done"] == "nothing"
    assert len(pulls(place.poster)) == before

    sent = place.worker.json("valve", "up", item, "--wasteland", name)["items"][0]
    again = place.worker.json("valve", "up", item[:6], item, "--wasteland", name)["items"]
    assert sent["done"] == "post"
    assert [(one["done"], one["pull"]["number"]) for one in again] == [("nothing", sent["pull"]["number"])]
    place.worker.ok("update", item, "--title", "Share it better", "--wasteland", name)
    third = place.worker.json("valve", "up", item, "--wasteland", name)["items"][0]
    assert (third["done"], third["pull"]["number"]) == ("update", sent["pull"]["number"])
    assert len(pulls(place.poster)) == before + 1

    review = place.poster.json("review", str(sent["pull"]["number"]), "--wasteland", PARENT)
    (row,) = [r["to_row"] for t in review["tables"] if t["name"] == "wanted" for r in t["data_diff"]]
    assert {k: v for k, v in row.items() if v and k not in ("created_at", "updated_at", "tags")} == {
        "id": item, "title": "Share it better", "project": "web", "priority": 2, "posted_by": "worker",
        "status": "open", "effort_level": "medium",
    }  # fmt: skip
    assert review["verdict"] == "auto"
    place.poster.ok("merge", str(sent["pull"]["number"]))
    landed = place.worker.json("valve", "up", item, "--wasteland", name)["items"][0]
    assert (landed["done"], landed["pull"]) == ("nothing", None)
    kept = place.worker.json("valve", "in", "--wasteland", name)
    assert item not in {one["id"] for one in kept["changed"]}
    assert place.worker.json("status", item, "--wasteland", name)["item"]["description"] == "inner words"


def test_a_leak_stops_everything_before_anything_is_pushed(place, fork):
    name = fork("leaky", "--remote", f"file://{place.world.folder}/leaky-remote")
    rules(place.worker, name, OPEN_ALL + '[leaks]\nprivate_projects = ["falcon"]\n')
    clean = land_post(place.worker, "Clean", "--project", "web", wasteland=name)
    token = "ghp_" + "a1B2" * 9
    leaky = land_post(place.worker, "As in Falcon", "--project", "web", "--description", f"use {token}", wasteland=name)
    before = upstream_state(place), pulls(place.poster)
    checked = place.worker.wl("valve", "check", clean, leaky, "--json", "--wasteland", name)
    assert checked.code == 6
    done = place.worker.wl("valve", "up", clean, leaky, "--wasteland", name)
    assert done.code == 6
    assert "private project: falcon" in done.err
    assert token not in done.err + done.out + checked.err
    assert (upstream_state(place), pulls(place.poster)) == before

    place.worker.ok("update", leaky, "--title", "Mended", "--description", "no token", "--wasteland", name)
    assert place.worker.wl("valve", "check", clean, leaky, "--wasteland", name).code == 0
    sent = place.worker.json("valve", "up", clean, leaky, "--wasteland", name)["items"]
    assert [one["done"] for one in sent] == ["post", "post"]


@pytest.mark.parametrize(
    "at", [*long("committed"), "durable", *long("pushing"), "pushed", *long("offering"), "offered"]
)
def test_a_kill_on_the_way_up_leaves_one_pull_request_after_the_next_try(place, fork, at):
    name = fork(f"killed-{at}", "--remote", f"file://{place.world.folder}/killed-{at}")
    rules(place.worker, name, OPEN_ALL)
    item = land_post(place.worker, f"Killed at {at}", "--project", "web", wasteland=name)
    before = len(pulls(place.poster))
    place.worker.env["WL_CRASH_AT"] = at
    try:
        assert place.worker.wl("valve", "up", item, "--wasteland", name).code == -9
    finally:
        del place.worker.env["WL_CRASH_AT"]
    sent = place.worker.json("valve", "up", item, "--wasteland", name)["items"][0]
    assert sent["pull"] is not None
    assert len(pulls(place.poster)) == before + 1


def test_a_private_address_in_the_name_of_the_commit_is_a_leak(place, fork):
    name = fork("author", "--remote", f"file://{place.world.folder}/author-remote")
    rules(place.worker, name, OPEN_ALL + '[leaks]\nprivate_domains = ["example.com"]\n')
    item = land_post(place.worker, "Fine", "--project", "web", wasteland=name)
    place.worker.ok("config", "set", "commit-email", "worker@example.com", "--wasteland", PARENT)
    before = upstream_state(place)
    done = place.worker.wl("valve", "up", item, "--wasteland", name)
    place.worker.ok("config", "set", "commit-email", "", "--wasteland", PARENT)
    assert done.code == 6
    assert "worker@example.com" in done.err
    assert upstream_state(place) == before


def test_only_open_items_and_only_ours_go_up(place, fork):
    theirs = land_post(place.poster, "The poster's", "--project", "web")
    name = fork("mine", "--remote", f"file://{place.world.folder}/mine-remote")
    rules(place.worker, name, OPEN_ALL)
    item = land_post(place.worker, "Claimed", "--project", "web", wasteland=name)
    place.worker.ok("claim", item, "--wasteland", name)
    assert "it is claimed" in place.worker.wl("valve", "up", item, "--wasteland", name).err
    done = place.worker.wl("valve", "up", theirs, "--wasteland", name)
    assert done.code == 6
    assert "poster's in acme/commons" in done.err
    assert place.worker.wl("valve", "up", "w-none", "--wasteland", name).code == 4


def test_going_up_needs_the_parent_joined_here(place, fork):
    name = fork("alone")
    rules(place.worker, name, OPEN_ALL)
    other = place.world.user("third")
    other.ok("join", name, "--remote-base", str(place.world.hub), "--fork-org", "third-org", "--handle", "third")
    item = land_post_pr(place, other, name)
    done = other.wl("valve", "up", item, "--wasteland", name)
    assert done.code == 4
    assert f"wl join {PARENT}" in done.err


def land_post_pr(place: Place, user: User, name: str) -> str:
    """An item of another member's that the company's maintainer landed."""
    pull = place.worker.json("review", "--wasteland", name)
    place.worker.ok("merge", str(pull[-1]["pull"]), "--wasteland", name)
    item = user.json("post", "--title", "Theirs", "--project", "web", "--wasteland", name)
    place.worker.ok("merge", str(item["pull"]["number"]), "--wasteland", name)
    return item["item"]["id"]


# rules


def test_the_rules_are_a_file_of_ones_own(place, fork):
    name = fork("rules")
    path = place.worker.home / ".config" / "wasteland" / "valve" / "rules" / "board.toml"
    assert path.stat().st_mode & 0o777 == 0o600
    assert place.worker.wl("valve", "init", "--wasteland", name).code == 5
    path.unlink()
    assert place.worker.json("valve", "show", "--wasteland", name)["rules"] is None
    place.worker.ok("valve", "init", "--wasteland", name)
    path.write_text("[up]\nproject = ['web']\n")
    done = place.worker.wl("valve", "in", "--wasteland", name)
    assert done.code == 9
    assert "there is no 'project'" in done.err
    path.write_text("[up\n")
    assert "cannot read" in place.worker.wl("valve", "show", "--wasteland", name).err
    path.write_text(OPEN_ALL)
    path.chmod(0o666)
    assert "others can change" in place.worker.wl("valve", "show", "--wasteland", name).err


def test_a_wasteland_that_is_nobodys_fork_has_no_valve(place):
    for words in (["show"], ["in"], ["up", "w-1"], ["check", "w-1"]):
        done = place.worker.wl("valve", *words, "--wasteland", PARENT)
        assert done.code == 6
        assert "was not forked" in done.err


def test_several_wastelands_must_be_told_apart(place, fork):
    fork("several")
    done = place.worker.wl("valve", "show")
    assert done.code == 64
    assert "several wastelands are joined" in done.err


def test_what_is_kept_of_the_parent_is_what_it_had(place, fork, opened):
    place.worker.ok("sync", "--wasteland", PARENT)  # so that both are of the same moment, whatever ran before
    node, parent = opened(place.worker, fork("exact")), opened(place.worker, PARENT)
    urn = standing.wasteland_id(parent)
    for handle in ("poster", "worker"):
        ours = parents.of_signer(node.db, handle, wasteland=urn)
        assert {one.sha256 for one in ours} == {one.sha256 for one in signatures.of_signer(parent.db, handle)}
        events: list[Envelope] = parents.key_events(node.db, handle, wasteland=urn)
        assert [parse(one.payload)["predicate"]["wasteland"] for one in events] == [urn]
