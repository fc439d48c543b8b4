"""Leases: how long, from when, until when, and what is said of it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from wasteland.errors import Usage
from wasteland.rules.lease import GRACE, Lease, bad_times, duration, granted, limit, renewed, sentence, state

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
SECOND = timedelta(seconds=1)
ROW = {
    "wanted_id": "w-1", "rig": "worker", "claimed_at": datetime(2026, 11, 20, 12),
    "renewed_at": datetime(2026, 11, 21, 12), "expires_at": datetime(2026, 11, 28, 12),
}  # fmt: skip


def lease(*, claimed: timedelta = timedelta(0), renewed: timedelta = timedelta(0), ends: timedelta = DAY) -> Lease:
    return Lease("w-1", "worker", NOON + claimed, NOON + renewed, NOON + ends)


@pytest.mark.parametrize(
    ("effort", "days"),
    [("trivial", 1), ("small", 3), ("medium", 7), ("large", 14), ("epic", 30), (None, 7), ("", 7), ("vast", 7)],
)
def test_the_effort_says_how_long_a_claim_holds(effort, days):
    assert limit(effort) == timedelta(days=days)
    made = granted("w-1", "worker", effort, NOON)
    assert made == Lease("w-1", "worker", NOON, NOON, NOON + timedelta(days=days))


def test_less_may_be_asked_for_and_not_more():
    assert granted("w-1", "worker", "small", NOON, DAY).expires_at == NOON + DAY
    assert granted("w-1", "worker", "small", NOON, 3 * DAY).expires_at == NOON + 3 * DAY
    with pytest.raises(Usage, match="effort small holds 3 d at most"):
        granted("w-1", "worker", "small", NOON, 3 * DAY + SECOND)
    with pytest.raises(Usage, match="effort medium holds 7 d at most"):
        renewed(lease(), None, NOON, 8 * DAY)


def test_a_heartbeat_begins_anew_and_leaves_the_claim_where_it_was():
    beat = renewed(lease(claimed=-DAY, renewed=-DAY), "medium", NOON)
    assert beat == Lease("w-1", "worker", NOON - DAY, NOON, NOON + 7 * DAY)
    assert renewed(beat, "medium", NOON + HOUR, 2 * HOUR).expires_at == NOON + 3 * HOUR


def test_times_are_whole_seconds():
    now = NOON + timedelta(microseconds=999_999)
    assert granted("w-1", "worker", "small", now).expires_at == NOON + 3 * DAY
    assert renewed(lease(), "small", now).renewed_at == NOON


@pytest.mark.parametrize(
    ("text", "found"), [("5d", 5 * DAY), ("12h", 12 * HOUR), ("90m", 1.5 * HOUR), ("99999m", None)]
)
def test_a_time_is_a_number_and_a_unit(text, found):
    assert duration(text) == (found or timedelta(minutes=99999))


@pytest.mark.parametrize(
    "text", ["", "5", "d", "0d", "-1d", "+1d", "1.5d", "5 d", "5D", "5s", "5d\n", "123456d", "٣d", "1d2h"]
)
def test_what_is_no_time_is_refused(text):
    with pytest.raises(Usage, match="invalid time"):
        duration(text)


@pytest.mark.parametrize(
    ("after", "found", "said"),
    [
        (-7 * DAY, "running", "leased until 2026-11-21 12:00 UTC"),
        (-SECOND, "running", "leased until 2026-11-21 12:00 UTC"),
        (0 * SECOND, "expired", "lease expired 0 min ago"),
        (GRACE - SECOND, "expired", "lease expired 59 min ago"),
        (GRACE, "over-grace", "lease expired 1 h ago"),
        (47 * HOUR + 59 * 60 * SECOND, "over-grace", "lease expired 47 h ago"),
        (2 * DAY, "over-grace", "lease expired 2 d ago"),
    ],
)
def test_a_lease_runs_then_waits_an_hour_then_is_over(after, found, said):
    ended = lease(claimed=-7 * DAY, renewed=-7 * DAY, ends=timedelta(0))
    assert (state(ended, NOON + after), sentence(ended, NOON + after)) == (found, said)


def test_an_end_at_the_end_of_time_is_a_time():
    never = Lease("w-1", "worker", NOON, NOON, datetime.max.replace(tzinfo=UTC))
    always = Lease("w-1", "worker", NOON, NOON, datetime.min.replace(tzinfo=UTC))
    assert (state(never, NOON), state(always, NOON)) == ("running", "over-grace")
    assert sentence(never, NOON) == "leased until 9999-12-31 23:59 UTC"
    assert bad_times(never, "epic", NOON)
    assert bad_times(always, "epic", NOON)


def test_a_row_is_read_as_utc():
    found = Lease.of(ROW)
    assert found == Lease("w-1", "worker", NOON - DAY, NOON, NOON + 7 * DAY)
    assert found.heartbeat == NOON
    assert found.to_json() == {
        "rig": "worker", "claimed_at": "2026-11-20T12:00:00Z", "renewed_at": "2026-11-21T12:00:00Z",
        "expires_at": "2026-11-28T12:00:00Z",
    }  # fmt: skip
    east = datetime(2026, 11, 28, 14, tzinfo=timezone(2 * HOUR))
    assert Lease.of(ROW | {"expires_at": east, "more": 1}) == found


@pytest.mark.parametrize(
    "change",
    [{"expires_at": None}, {"expires_at": "0000-00-00 00:00:00"}, {"renewed_at": 7}, {"rig": ""}, {"rig": None},
     {"wanted_id": None}, {"claimed_at": b"now"}],
)  # fmt: skip
def test_a_row_that_is_no_lease_is_none(change):
    assert Lease.of(ROW | change) is None
    assert Lease.of(None) is None
    assert Lease.of({}) is None


@pytest.mark.parametrize(
    ("found", "why"),
    [
        (lease(), None),
        (lease(claimed=-7 * DAY, renewed=-7 * DAY, ends=-DAY), None),
        (lease(claimed=timedelta(minutes=10), renewed=timedelta(minutes=10)), None),
        (lease(claimed=-60 * DAY), None),
        (lease(ends=7 * DAY), None),
        (lease(claimed=SECOND), "out of order"),
        (lease(ends=-SECOND), "out of order"),
        (lease(claimed=timedelta(minutes=10), renewed=timedelta(minutes=10, seconds=1)), "still to come"),
        (lease(claimed=-8 * DAY, renewed=-7 * DAY - SECOND), "too long ago"),
        (lease(ends=7 * DAY + SECOND), "longer than 7 d"),
        (lease(claimed=-2 * DAY, renewed=-DAY, ends=6 * DAY + SECOND), "longer than 7 d"),
    ],
)
def test_times_that_cannot_be_true_are_named(found, why):
    told = bad_times(found, "medium", NOON)
    assert told is None if why is None else why in str(told)
