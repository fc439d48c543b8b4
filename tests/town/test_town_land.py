"""From sling to landed, and every way in which work comes back."""

import hashlib
import os
import subprocess
import time

import pytest
from conftest import GATE, Place, ended, git

from gastown import clone, refinery
from gastown.errors import Conflict, Refused, Unreachable
from gastown.git import Repo
from gastown.models import MergeState, Phase, RunState
from gastown.supervisor import Supervisor


def test_held_work_lands_when_its_head_is_approved(home_town):
    before = home_town.main()
    home_town.ask("ok", hold=True)
    home_town.up()

    held = home_town.bead()
    assert (held.phase, held.held_for) == (Phase.HELD, "approval")
    assert home_town.main() == before

    home_town.request("approve", bead="gt-1", head="0" * 40)
    home_town.up()
    assert home_town.bead().phase is Phase.HELD

    home_town.request("approve", bead="gt-1", head=home_town.merge().head)
    home_town.up()
    merge = home_town.merge()
    assert home_town.bead().phase is Phase.LANDED
    assert home_town.main() == merge.target
    assert "new.txt" in home_town.files()
    assert [gate.exit for gate in merge.gates] == [0]
    diff = ["diff", "--no-ext-diff", "--no-textconv", "--no-color", "--full-index", "--binary", before, merge.target]
    patch = git(home_town.origin, *diff) + "\n"
    assert merge.patch_sha256 == hashlib.sha256(patch.encode()).hexdigest()


def test_main_that_moves_under_an_approved_bead_is_merged_and_tested_again(home_town):
    home_town.ask("ok", hold=True)
    home_town.up()
    first = home_town.merge()
    home_town.push({"other.txt": "x\n"})
    home_town.request("approve", bead="gt-1", head=first.head)
    home_town.up()
    second = home_town.merge()
    assert home_town.bead().phase is Phase.LANDED
    assert second.head == first.head
    assert second.target != first.target
    assert {"other.txt", "new.txt"} <= set(home_town.files())


def test_two_branches_that_are_green_alone_and_red_together(home_town):
    """The merged-tree gate: without it this main would be broken."""
    home_town.ask("rename", "gt-1", hold=True)
    home_town.ask("use", "gt-2", hold=True)
    home_town.up()
    assert home_town.bead("gt-1").phase is home_town.bead("gt-2").phase is Phase.HELD

    home_town.request("approve", bead="gt-1", head=home_town.merge("gt-1").head)
    home_town.request("approve", bead="gt-2", head=home_town.merge("gt-2").head)
    home_town.up()
    assert home_town.bead("gt-1").phase is Phase.LANDED
    rejected = next(m for m in home_town.town().ledger.merges("gt-2") if m.state is MergeState.REJECTED)
    assert "red gate on the merged result" in rejected.why
    assert "test_use.py" not in home_town.files()


def test_a_red_gate_sends_the_bead_back_with_the_reason(home_town):
    home_town.ask("again")
    home_town.up()
    bead = home_town.bead()
    assert (bead.phase, bead.attempts) == (Phase.LANDED, 1)
    assert len(home_town.runs()) == 2


@pytest.mark.parametrize(
    ("mode", "reason"),
    [
        ("break", "red gate on the merged result"),
        ("crash", "exit code 3"),
        ("nothing", "no commits"),
        ("lie", "uncommitted changes"),
        ("surprise", ".github/workflows/x.yml (control)"),
        ("link", "passwd (symlink)"),
        ("meddle", "changed what it tested"),
    ],
)
def test_work_that_is_not_good_ends_stuck_and_never_on_main(place, boxed, mode, reason):
    here = Place(place, max_attempts=1)
    before = here.main()
    here.ask(mode)
    here.up()
    bead = here.bead()
    assert bead.phase is Phase.STUCK
    assert reason in bead.reason
    assert here.main() == before


def test_a_conflict_sends_the_bead_back_and_it_is_done_again_on_the_new_main(home_town):
    home_town.ask("edit", "gt-1", name="one", hold=True)
    home_town.up()
    home_town.push({"calc.py": "def add(a, b):\n    return a + b\n\n# somebody\n"})
    home_town.request("approve", bead="gt-1", head=home_town.merge().head)
    home_town.up()
    merges = home_town.town().ledger.merges("gt-1")
    assert "conflict with main:\ncalc.py" in merges[0].why
    assert home_town.bead().phase is Phase.HELD, "a new head needs a new approval"
    assert merges[1].head != merges[0].head


def test_a_lost_race_for_main_starts_again_on_the_new_base(home_town, monkeypatch):
    push, lost = Repo.push, []

    def race(self, old, new):
        if not lost:
            lost.append(new)
            home_town.push({"other.txt": "first\n"})
        return push(self, old, new)

    monkeypatch.setattr(Repo, "push", race)
    home_town.ask("ok")
    home_town.up()
    merge = home_town.merge()
    assert home_town.bead().phase is Phase.LANDED
    assert merge.target != lost[0]
    assert {"other.txt", "new.txt"} <= set(home_town.files())
    assert home_town.bead().attempts == 0


def test_a_repository_that_says_no_leaves_the_bead_in_review(home_town):
    hook = home_town.origin / "hooks" / "pre-receive"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\nexit 1\n")
    hook.chmod(0o755)
    home_town.ask("ok")
    home_town.up()
    assert home_town.bead().phase is Phase.REVIEW
    assert "did not take the merge" in home_town.bead().reason
    hook.unlink()
    home_town.up()
    assert home_town.bead().phase is Phase.LANDED


def test_a_repository_that_is_gone_harms_no_other_bead(home_town):
    with home_town.town() as town:
        town.ledger.add_rig(home_town.rig(town, name="gone", origin=str(home_town.folder / "gone.git")))
    home_town.ask("ok", "gt-1", rig="gone")
    home_town.ask("ok", "gt-2")
    home_town.up()
    assert "cannot be fetched" in home_town.bead("gt-1").reason
    assert home_town.bead("gt-2").phase is Phase.LANDED


def test_a_run_over_its_budget_is_killed_with_its_children(home_town):
    home_town.ask("hang", budget_seconds=1)
    home_town.up()
    bead = home_town.bead()
    assert (bead.phase, bead.held_for) == (Phase.HELD, "budget")
    assert "killed: budget" in bead.reason
    assert home_town.runs()[0].state is RunState.KILLED
    assert ended(home_town)


def test_a_gate_over_its_budget_is_red(place, boxed):
    here = Place(place, gates=[GATE, ["/bin/sleep", "60"]], max_attempts=1)
    here.ask("ok", budget_seconds=2)
    here.up()
    assert here.bead().phase is Phase.STUCK
    assert "not done in 2s" in here.bead().reason


def test_down_without_a_supervisor_ends_the_runs_and_spends_no_attempt(home_town):
    home_town.ask("hang")
    with home_town.town() as town:
        supervisor = Supervisor(town)
        supervisor.tick()
        assert home_town.runs()[0].state is RunState.WORKING
    home_town.gt("down")
    bead = home_town.bead()
    assert (bead.phase, bead.attempts, bead.losses) == (Phase.READY, 0, 0)
    assert home_town.runs()[0].state is RunState.KILLED
    assert ended(home_town)


def test_cancel_kills_the_run(home_town):
    home_town.ask("hang")
    with home_town.town() as town:
        Supervisor(town).tick()
    home_town.gt("cancel", "gt-1", "--reason", "not needed")
    home_town.up()
    assert home_town.bead().phase is Phase.CANCELLED
    assert ended(home_town)


def test_there_is_one_supervisor(home_town):
    with home_town.town() as town, town.lock():
        assert home_town.gt("up", "--once", check=False).returncode == 5


def test_the_log_shows_a_change(home_town):
    home_town.ask("ok")
    home_town.up()
    with home_town.town() as town:
        assert town.ledger.verify() > 5
        town.ledger._db.execute("DROP TRIGGER event_no_update")
        town.ledger._db.execute("UPDATE event SET body = '{}' WHERE seq = 3")
        with pytest.raises(Refused):
            town.ledger.verify()


def test_one_live_run_a_bead_and_one_writer(home_town):
    home_town.ask("hang")
    with home_town.town() as town:
        Supervisor(town).tick()
        live = town.ledger.runs()[0]
        with pytest.raises(Conflict):
            town.ledger.add_run(type(live)(**{**live.__dict__, "id": "r-two"}))
    home_town.gt("down")


def test_what_a_box_wrote_is_read_as_hostile(tmp_path):
    (tmp_path / "secret").write_text("s")
    (tmp_path / "link").symlink_to(tmp_path / "secret")
    os.mkfifo(tmp_path / "pipe")
    os.link(tmp_path / "secret", tmp_path / "hard")
    (tmp_path / "big").write_bytes(b"x" * 100)
    began = time.monotonic()
    for name in ("link", "pipe", "hard", "big"):
        with pytest.raises(Refused):
            clone.read_hostile(tmp_path / name, 10)
    assert clone.read_hostile(tmp_path / "none", 10) is None
    assert time.monotonic() - began < 1


def test_a_bundle_that_is_not_sound_is_refused(home_town):
    with home_town.town() as town:
        repo = town.repo(town.ledger.load_rig("acme"))
        base = repo.fetch()
        bad = home_town.folder / "bad.bundle"
        for content in (b"", b"junk", f"# v2 git bundle\n{'1' * 40} HEAD\n\nPACKjunk".encode()):
            bad.write_bytes(content)
            with pytest.raises(Refused):
                repo.take(bad)
        evil = evil_bundle(home_town, base)
        with pytest.raises(Refused, match="not sound"):
            repo.take(evil)


def evil_bundle(here, base):
    """A bundle whose tree holds a `.git` folder, which git's fsck refuses."""
    where = here.source
    blob = git(where, "hash-object", "-w", "calc.py")
    entry = b"100644 .git\0" + bytes.fromhex(blob)
    line = ["git", "hash-object", "-t", "tree", "-w", "--stdin", "--literally"]
    tree = subprocess.run(line, cwd=where, input=entry, check=True, capture_output=True).stdout.decode().strip()
    commit = git(where, "commit-tree", tree, "-p", base, "-m", "evil")
    git(where, "update-ref", "refs/heads/evil", commit)
    git(where, "bundle", "create", "-q", str(here.folder / "evil.bundle"), f"{base}..evil")
    return here.folder / "evil.bundle"


def test_a_rig_that_does_not_answer_is_unreachable(tmp_path):
    with pytest.raises(Unreachable):
        refinery.Repo(tmp_path / "x.git", str(tmp_path / "none"), "main").fetch()
