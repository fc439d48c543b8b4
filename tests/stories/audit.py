"""What a rig's node sees, and whether the whole history can be explained by the verbs of the board."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from wasteland.commons import wanted
from wasteland.dolt import binary
from wasteland.hub import OPEN as OPEN_PULL
from wasteland.hub import Branch
from wasteland.market import browse
from wasteland.node import landing
from wasteland.node.forks import remote_of
from wasteland.node.node import Node, need_hub
from wasteland.rules.lifecycle import BY_VERB, NONE, Item, judge

VERB = re.compile(r"wl ([a-z]+): (w-[0-9a-f]{10})")
PARENTS = "SELECT commit_hash, parent_hash FROM dolt_commit_ancestors WHERE parent_hash IS NOT NULL"


def state(node: Node) -> dict[str, Any]:
    """The head of main, its board, and the branches of this clone."""
    view = node.db.at("main")
    tables = {name: view.rows(f"SELECT * FROM `{name}` ORDER BY id") for name in ("wanted", "completions", "stamps")}
    return {"head": node.db.hash_of("main"), "tables": tables, "branches": node.db.branches()}


def unexplained(node: Node) -> list[str]:
    """Every item whose history is no way of verbs to its row, and every change of a status without a verb's commit."""
    view = node.db.at("main")
    roles = _roles(node)
    found: list[str] = []
    for row in view.rows("SELECT * FROM wanted"):
        try:
            _walk(node, row, roles)
        except Exception as error:
            found.append(f"{row['id']}: {error}")
    return found + _unnamed(node)


def _roles(node: Node) -> dict[str, frozenset[str]]:
    from wasteland.node import roles

    handles = [str(row["handle"]) for row in node.db.at("main").rows("SELECT handle FROM rigs")]
    return {handle: roles.roles_of(node, handle) for handle in handles}


def _walk(node: Node, row: dict[str, Any], roles: dict[str, frozenset[str]]) -> None:
    """Follow the item's own commits; each must be a step that its rig might take, and leave the row in that state."""
    item, poster, claimer = NONE, None, None
    for one in browse.status(node, row["id"]).history:
        verb, actor = one["what"].split(":")[0].removeprefix("wl "), one["by"]
        poster = actor if verb == "post" else poster
        step = judge(verb, actor, roles[actor], Item(row["id"], item, poster, claimer))
        item = step.to
        claimer = actor if step.claimed_by == "actor" else claimer if step.claimed_by == "" else None
        there = node.db.at(one["commit"]).row(wanted.GET, id=row["id"]) or {}
        assert (there["status"], there["claimed_by"]) == (item, claimer), f"{one} left it as {there}"
    assert (item, poster, claimer) == (row["status"], row["posted_by"], row["claimed_by"]), (item, poster, claimer, row)


def _unnamed(node: Node) -> list[str]:
    """Commits of one parent that change a status without being that verb on that item."""
    db, found = node.db, []
    parents: dict[str, list[str]] = {}
    for pair in db.at("main").rows(PARENTS):
        parents.setdefault(str(pair["commit_hash"]), []).append(str(pair["parent_hash"]))
    for commit in db.log("main"):
        if len(parents.get(commit.hash, ())) != 1:
            continue
        named = VERB.match(commit.message)
        for row in db.diff(parents[commit.hash][0], commit.hash, "wanted"):
            change = tuple((side or {}).get("status", NONE) for side in (row.old, row.new))
            step = BY_VERB.get(named[1]) if named and named[2] == row.key else None
            if change[0] != change[1] and (step is None or (step.frm, step.to) != change):
                found.append(f"{commit.hash} {commit.message!r} makes {row.key} {change}")
    return found


def verbs(node: Node) -> list[tuple[str, str, str]]:
    """Who did which verb on which item, of all that landed."""
    found = [(commit.author, VERB.match(commit.message)) for commit in node.db.log("main")]
    return [(author, named[1], named[2]) for author, named in found if named]


def landed_leftovers(node: Node, orgs: list[str]) -> list[str]:
    """Branches of forks, and open pull requests, whose work is upstream already."""
    node.db.fetch(node.upstream_remote)
    sources = {str(one.source) for one in need_hub(node).pulls(node.config.org, node.config.db, state=OPEN_PULL)}
    found = []
    for org in orgs:
        remote = remote_of(node, Branch(org, node.config.db, "main"))
        node.db.fetch(remote)
        for name, head in node.db.remote_branches(remote).items():
            if name.startswith("wl/") and landing.landed_as(node, head):
                found.append(f"{org}:{name}")
            sources.discard(f"{org}/{node.config.db}:{name}") if not landing.landed_as(node, head) else None
    return found + [f"open pull request of {source}" for source in sources]


def rewrite(node: Node, org: str, branch: str, folder: str) -> tuple[str, str]:
    """Force another history on a branch of the hub, with plain Dolt and this rig's rights: head before and after."""
    place = Path(folder)
    old = _cloned(node, org, branch, place)
    _dolt(node, place, "reset", "--hard", "HEAD~1")
    _dolt(node, place, "commit", "--allow-empty", "-m", "History, as somebody would have it")
    new = _dolt(node, place, "log", "-n", "1", "--oneline").split()[0]
    _dolt(node, place, "push", "--force", "origin", branch)
    return old, new


def force(node: Node, branch: str, head: str, folder: str) -> None:
    """Force a branch of the hub to a commit that the plain clone in `folder` has."""
    place = Path(folder)
    _dolt(node, place, "reset", "--hard", head)
    _dolt(node, place, "push", "--force", "origin", branch)


def _cloned(node: Node, org: str, branch: str, place: Path) -> str:
    url = need_hub(node).url(org, node.config.db)
    place.parent.mkdir(parents=True, exist_ok=True)
    binary.run(["clone", "--branch", branch, url, place.name], cwd=place.parent, env=binary.environment(node.home))
    return _dolt(node, place, "log", "-n", "1", "--oneline").split()[0]


def _dolt(node: Node, place: Path, *words: str) -> str:
    said = binary.run(list(words), cwd=place, env=binary.environment(node.home)).stdout
    return re.sub(r"\x1b\[[0-9;]*m", "", said).strip()
