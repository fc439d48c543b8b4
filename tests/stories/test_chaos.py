"""`kill -9` at every step and at random moments: nothing acknowledged is lost, nothing is half done.

`scripts/chaos --sweep --rounds 200 --races` is the long form of this and of test_races.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.conftest import World
from tests.stories import chaos
from tests.stories.chaos import BETWEEN, Aim, Arena, Item, Kill
from wasteland.hub import MERGED

ROUNDS = 8  # in each mode


@pytest.fixture(params=["wild-west", "pr"])
def arena(request: pytest.FixtureRequest, world: World) -> Iterator[Arena]:
    made = Arena.open(world, request.param)
    yield made
    made.close()


@pytest.mark.slow
def test_a_kill_at_any_step_of_any_verb_does_no_harm(arena, tmp_path):
    records = chaos.sweep(arena, tmp_path / "steps")
    print(chaos.histogram(records))
    swept = {(r.verb, r.kill.at) for r in records}
    for verb in ("post", "claim", "done", "accept"):
        for step in ("locked", "begun", "written", "committed", "durable", "pushing", "pushed", "settled"):
            assert (verb, step) in swept
    assert {("done", "signed"), ("accept", "signed")} <= swept
    if arena.mode == "pr":
        assert {("claim", "offering"), ("claim", "offered")} <= swept
        assert {("merge", step) for step in ("begun", "committed", "merged", "pushed", "proved", "closed")} <= swept


@pytest.mark.slow
def test_kills_at_random_moments_do_no_harm(arena, tmp_path):
    records = chaos.batter(arena, Aim(seed=len(arena.mode)), ROUNDS, tmp_path / "steps")
    print(chaos.histogram(records))
    assert {r.kill.what for r in records} == {"client", "server", "keeper"}
    assert sum(r.landed == BETWEEN for r in records) * 2 >= len(records)


def test_a_merge_that_was_killed_before_its_push_is_not_offered_with_other_work(world, tmp_path):
    arena = Arena.open(world, "pr")
    theirs = Item("Theirs")
    arena.undisturbed("b", "post", theirs, tmp_path / "steps")
    arena.killed(arena.a, ["merge", str(theirs.pull), "--json"], Kill(at="merged"), tmp_path / "steps")
    made = arena.a.json("post", "--title", "Mine")
    rows = arena.a.json("review", str(made["pull"]["number"]))["tables"]
    assert [row["to_row"]["title"] for table in rows for row in table["data_diff"]] == ["Mine"]
    arena.a.ok("merge", str(theirs.pull))
    arena.a.ok("merge", str(made["pull"]["number"]))
    arena.settled()
    assert arena.hub.pull("acme", "commons", theirs.pull).state == MERGED
    arena.close()


def test_what_was_killed_before_it_was_offered_is_offered_when_the_verb_is_typed_again(world, tmp_path):
    arena = Arena.open(world, "pr")
    item = Item("Mine")
    arena.undisturbed("a", "post", item, tmp_path / "steps")
    arena.a.ok("merge", str(item.pull))
    arena.killed(arena.b, arena.words("claim", item), Kill(at="durable"), tmp_path / "steps")
    assert arena.pull_of(f"wl/worker/{item.id}") is None
    again = arena.b.wl("claim", item.id)
    pull = arena.pull_of(f"wl/worker/{item.id}")
    assert again.code == 6
    assert pull is not None
    assert f"offered now as pull request {pull.number}" in again.err
    arena.close()
