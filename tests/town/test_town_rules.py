"""The pure parts: what may follow what, budgets, the queue, surprising paths."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gastown import budget, models, queue
from gastown.errors import Conflict, OverBudget, Usage
from gastown.models import MergeState, Phase, RunState
from gastown.queue import Change


def test_every_phase_is_in_the_table():
    assert set(models.PHASES) == set(Phase)
    assert set(models.RUNS) == set(RunState)
    assert set(models.MERGES) == set(MergeState)


@given(st.lists(st.sampled_from(list(Phase)), max_size=30))
def test_a_bead_lands_only_by_way_of_a_gate_and_never_leaves(moves):
    at, been = Phase.READY, [Phase.READY]
    for to in moves:
        try:
            models.check_phase(at, to)
        except Conflict:
            continue
        at = to
        been.append(at)
    if Phase.LANDED in been:
        assert been[-1] is Phase.LANDED
        assert been[-3:-1] == [Phase.REVIEW, Phase.LANDING]
    assert Phase.CANCELLED not in been[:-1]


def test_a_finished_run_never_changes():
    for old, new in itertools.product(RunState, RunState):
        if old not in (RunState.STARTING, RunState.WORKING):
            with pytest.raises(Conflict):
                models.check_run(old, new)


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("10m", 600), ("1h", 3600)])
def test_a_budget_is_read(text, seconds):
    assert budget.parse(text) == seconds


@pytest.mark.parametrize("text", ["", "10", "0s", "-1m", "1d", "25h", "1 m", "m", "٣m", "10m\n"])
def test_what_is_not_a_budget_is_refused(text):
    with pytest.raises(Usage):
        budget.parse(text)


def test_no_run_without_a_budget():
    for nothing in (None, 0, -1):
        with pytest.raises(OverBudget):
            budget.require(nothing)


@pytest.mark.parametrize(
    ("path", "modes", "kind"),
    [
        ("a.py", ("100644", "100644"), None),
        (".gitignore", ("000000", "100644"), None),
        (".GitModules", ("000000", "100644"), "control"),
        ("sub/.gitattributes", ("100644", "000000"), "control"),
        (".github/workflows/a.yml", ("100644", "100644"), "control"),
        (".githooks/pre-commit", ("000000", "100755"), "control"),
        ("link", ("000000", "120000"), "symlink"),
        ("link", ("120000", "100644"), "symlink"),
        ("vendor/x", ("000000", "160000"), "submodule"),
    ],
)
def test_surprising_paths(path, modes, kind):
    change = Change(path, *modes)
    assert queue.kind_of(change) == kind
    assert bool(queue.surprises([change], [])) == (kind is not None)
    assert not queue.surprises([change], list(queue.KINDS))


def test_losses_spend_no_attempt_but_end_somewhere():
    assert queue.after_loss(1) is Phase.READY
    assert queue.after_loss(queue.MAX_LOSSES) is Phase.STUCK
    assert queue.after_failure(1, 2) is Phase.READY
    assert queue.after_failure(2, 2) is Phase.STUCK
