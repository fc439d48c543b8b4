"""`kill -9` at every step; then `gt up --once` goes on, and everything holds."""

import os
import signal
import time

import pytest
from conftest import ended, git

from gastown import agent
from gastown.models import MergeState, Phase, RunState
from gastown.steps import STEPS
from gastown.supervisor import Supervisor


def holds(here, bead="gt-1"):
    """Landed exactly once, main's tip has a green gate of its own, nothing is left running, the log is whole."""
    with here.town() as town:
        merges = town.ledger.merges(bead)
        assert town.ledger.load_bead(bead).phase is Phase.LANDED
        landed = [merge for merge in merges if merge.state is MergeState.MERGED]
        assert len(landed) == 1
        assert landed[0].green
        assert here.main() == landed[0].target
        assert not [run for run in town.ledger.runs() if run.live]
        town.ledger.verify()
        assert not (set(os.listdir(town.run_folder(landed[0].run))) & {"in", "work"})
    assert git(here.origin, "rev-list", "--count", "--merges", "main") == "1"
    assert ended(here)


def test_the_sweep_knows_every_step(home_town):
    trace = home_town.folder / "trace"
    home_town.ask("ok")
    home_town.gt("up", "--once", GT_STEP_TRACE=str(trace))
    assert set(trace.read_text().split()) == set(STEPS)


@pytest.mark.parametrize("name", STEPS)
def test_killed_at(home_town, name):
    home_town.ask("ok")
    done = home_town.gt("up", "--once", check=False, GT_CRASH_AT=name)
    assert done.returncode == -signal.SIGKILL

    home_town.up()
    holds(home_town)
    assert home_town.bead().attempts == 0, "what the machine lost is not the work's fault"


def test_an_agent_outlives_its_supervisor_and_its_work_is_not_repeated(home_town):
    home_town.ask("slow")
    home_town.gt("up", "--once", check=False, GT_CRASH_AT="run.working")
    home_town.up()
    holds(home_town)
    assert len(home_town.runs()) == 1


def test_a_killed_agent_is_lost_and_the_bead_goes_on(home_town):
    home_town.ask("slow")
    with home_town.town() as town:
        Supervisor(town).tick()
        run = town.ledger.runs()[0]
        os.kill(run.pid, signal.SIGKILL)
    assert ended(home_town), "the box dies with its shim"
    home_town.up()
    assert [run.state for run in home_town.runs()] == [RunState.LOST, RunState.DONE]
    assert (home_town.bead().attempts, home_town.bead().losses) == (0, 1)
    holds(home_town)


def test_a_run_that_was_voided_never_starts(home_town):
    """The race of a late shim and a new supervisor has one winner."""
    folder = home_town.root / "runs" / "r-late"
    assert agent.claimed(folder) is None
    agent.start(folder, ["/usr/bin/touch", str(home_town.folder / "ran")], 5)
    time.sleep(0.3)
    assert not (home_town.folder / "ran").exists()
    assert agent.ending(folder) is None
