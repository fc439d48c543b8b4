"""The targets of `scripts/bench --hub`, small: requests exactly, ratios with half as much again."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.bench.federation import BOARD, MOST, SYNC, Federation, large_board

SLACK = 1.5
PULLS = 6


@pytest.fixture(scope="module", params=["v2", pytest.param("v1alpha1", marks=pytest.mark.long)])
def found(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    made = Federation(tmp_path_factory.mktemp("federation"), pulls=PULLS, forks=2, api=request.param)
    try:
        made.fill()
        made.measure(1)
        yield made
    finally:
        made.stop()


def test_no_verb_makes_more_than_five_requests_however_many_pull_requests_are_open(found):
    assert {name: one.calls for name, one in found.series.items() if max(one.calls) > MOST} == {}
    assert set(found.series) == {"browse", "claim", "done", "accept", "status", "inbox"}


def test_the_first_inbox_asks_once_for_the_list_and_once_for_each_that_is_new(found):
    assert found.first_inbox <= PULLS + 1


def test_a_sync_of_one_change_is_not_much_more_than_its_fetch(found):
    if found.api == "v2":
        assert found.one_change(2) <= SYNC * SLACK


def test_a_large_board_costs_its_sql(tmp_path):
    assert large_board(tmp_path, 10_000, 3) <= BOARD * SLACK
