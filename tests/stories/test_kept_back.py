"""A merge that was kept on a machine (`--no-push`) is judged again before it goes out."""

from __future__ import annotations

import pytest

from tests.conftest import World

TABLE = ["CREATE TABLE detour (id INT PRIMARY KEY)", "CALL DOLT_COMMIT('-Am', 'there')",
         "DROP TABLE detour", "CALL DOLT_COMMIT('-Am', 'and back')"]  # fmt: skip


@pytest.fixture(scope="module")
def town(shared_world: World) -> World:
    ada = shared_world.create("ada")
    shared_world.join("bob", by=ada)
    return shared_world


@pytest.mark.parametrize("how", ["merge", "transplant"])
def test_upstream_changed_before_a_kept_merge_went_out(town, how):
    ada, bob = town.users["ada"], town.users["bob"]
    item = town.post(ada, f"Kept back, by {how}")
    number = str(bob.json("claim", item)["pull"]["number"])
    if how == "transplant":
        bob.python(f"d.at('wl/bob/{item}').as_root({TABLE!r})\nd.push('origin', 'wl/bob/{item}')")
    kept = ada.json("merge", number, "--no-push")
    assert (kept["pushed"], kept["landing"]) == (False, how)
    # Bob is a member no more.
    push = "d.push(n.upstream_remote, 'main')"
    rig = bob.python("print(d.row(\"SELECT dolthub_org AS org FROM rigs WHERE handle='bob'\")['org'])")
    away = "UPDATE rigs SET dolthub_org='{}' WHERE handle='bob'"
    by_hand = "with d.change('by hand'): d.run(\"{}\")\n" + push
    bob.ok("sync")
    bob.python(by_hand.format(away.format("gone")))
    try:
        ada.ok("config", "set", "mode", "wild-west")
        posted = ada.wl("post", "--title", "Straight to main").ok()
        assert "set aside as branch aside/" in posted.err
        main = "print(d.at(d.hash_of(n.upstream_remote + '/main')).row(\"SELECT status FROM wanted WHERE id='{}'\"))"
        bob.ok("sync")
        assert "'open'" in bob.python(main.format(item)), "what was not judged again did not go out"
        refused = ada.wl("merge", number)
        assert refused.code == 6
        assert "may not land" in refused.err
    finally:
        ada.ok("config", "set", "mode", "pr")
        bob.ok("sync")
        bob.python(by_hand.format(away.format(rig)))
    assert ada.json("merge", number)["pushed"], "and nothing speaks against it any more"
    assert ada.json("status", item)["item"]["claimed_by"] == "bob"


def test_a_kept_merge_goes_out_by_another_merge_and_keeps_its_branch_until_then(town):
    ada = town.users["ada"]
    made = ada.json("post", "--title", "Of my own")
    branch = f"wl/ada/{made['item']['id']}"
    ada.ok("merge", branch, "--no-push")
    assert branch in ada.ok("review")
    town.users["bob"].ok("sync")
    assert ada.json("merge", branch)["pushed"]
    assert branch not in ada.ok("review")
    assert ada.json("status", made["item"]["id"])["item"]["status"] == "open"


def test_what_was_done_on_top_of_a_kept_merge_is_named_when_it_is_set_aside(town):
    ada, bob = town.users["ada"], town.users["bob"]
    item = town.post(ada, "Kept back, with more")
    ada.ok("merge", str(bob.json("claim", item)["pull"]["number"]), "--no-push")
    ada.ok("config", "set", "mode", "wild-west")
    try:
        own = ada.json("post", "--title", "On top of it", "--no-push")["item"]["id"]
        told = ada.wl("post", "--title", "Out it goes").ok().err
    finally:
        ada.ok("config", "set", "mode", "pr")
    aside = told.partition("set aside as branch ")[2].partition(";")[0]
    assert f"1 other unpushed change of main, now on {aside} only: " in told, told
    assert own in ada.python(f"print(d.at('{aside}').row(\"SELECT id FROM wanted WHERE id='{own}'\"))")
    assert ada.wl("status", own).code == 4
