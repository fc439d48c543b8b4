"""The targets of `scripts/bench` with half as much again, small, so that a gross loss of speed turns red."""

from __future__ import annotations

import pytest

from tests.bench.ratios import CLICK, FLOOR, PUSH, Bench, measured
from tests.bench.small import PREFIX, TARGETS

SLACK = 1.5


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return measured(tmp_path_factory.mktemp("bench"), items=1000, rounds=4, everything=False)


def test_the_verbs_stay_near_the_floor(bench):
    missed = [str(v) for v in bench.verdicts() if not v.met(SLACK)]
    assert not missed, missed


def test_no_dolt_process_is_started_while_a_server_runs(bench):
    assert bench.started() == {}


def test_everything_with_a_target_was_measured(bench):
    others = {PREFIX + name for name in TARGETS}
    assert {FLOOR, CLICK, PUSH, "wl browse", "wl claim --no-push", "wl claim (pr)", "wl --help"} | others == set(
        bench.series
    )
