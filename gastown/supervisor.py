"""`gt up`: the town's one writer.  Each tick reads what is, and closes the gap to what should be.

It keeps nothing that matters in memory: kill it anywhere, start another, and
the outcome is the same.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from gastown import agent, federation, polecat, queue, refinery, requests
from gastown.errors import TownError
from gastown.models import MergeState, Phase
from gastown.town import Town, sweep

TICK = 0.1
IDLE_TICK = 0.5
RETRY_SECONDS = 60.0
DEFAULT_CAP = 4


class Supervisor:
    """Runs the loops of one town; `say` gets a line for people on what happens.

    `_later` holds until when a bead is left alone after something outside the
    town failed it; losing it only means trying earlier.
    """

    def __init__(self, town: Town, cap: int = DEFAULT_CAP, say: Callable[[str], None] = lambda line: None) -> None:
        self.town = town
        self.cap = cap
        self.say = say
        self.stopping = False
        self._later: dict[str, float] = {}

    def up(self, once: bool) -> None:
        """Supervise until `gt down`; with `once`, until only a person can do more.  Conflict if another does."""
        with self.town.lock():
            for old in self.town.ledger.requests():
                if old.verb == "down":
                    self.town.ledger.answer(old, "done", "a new supervisor came up")
            if self.town.box.level == "L0":
                self.say(f"sandbox: L0, claimed work is refused: {'; '.join(self.town.box.reasons)}")
            sweep(self.town)
            while not self.stopping:
                changed = self.tick()
                if once and not changed and not self._live():
                    return
                if not changed:
                    time.sleep(TICK if self._live() else IDLE_TICK)
            self._stop_runs()

    def down(self) -> None:
        """Do what a supervisor does on `down`, where none is running; Conflict if one is."""
        with self.town.lock():
            requests.answer_all(self.town)
            self._stop_runs()

    def tick(self) -> bool:
        """One round: requests, runs, main, new runs, evidence; False when nothing was to be done."""
        asked, self.stopping = requests.answer_all(self.town)
        if self.stopping:
            return True
        return any([asked, self._settle(), self._refine(), self._dispatch(), self._report()])

    def _live(self) -> bool:
        return any(run.live for run in self.town.ledger.runs())

    def _settle(self) -> bool:
        changed = False
        for run in self.town.ledger.runs():
            if run.live and self._free(run.bead):
                with self._guard(run.bead):
                    if polecat.settle(self.town, run):
                        changed = True
                        self._tell(run.bead)
        for merge in self.town.ledger.merges():
            if merge.state is MergeState.LANDING and self._free(merge.bead):
                with self._guard(merge.bead):
                    refinery.settle(self.town, merge)
                    changed = True
        return changed

    def _refine(self) -> bool:
        changed = False
        for bead in queue.reviewable(self.town.ledger.beads()):
            if self._free(bead.id):
                with self._guard(bead.id):
                    if refinery.advance(self.town, bead):
                        changed = True
                        self._tell(bead.id)
        return changed

    def _dispatch(self) -> bool:
        beads = [bead for bead in self.town.ledger.beads() if self._free(bead.id)]
        live = sum(run.live for run in self.town.ledger.runs())
        changed = False
        for bead in queue.startable(beads, live, self.cap):
            with self._guard(bead.id):
                if polecat.start(self.town, bead):
                    changed = True
                    self._tell(bead.id)
        return changed

    def _report(self) -> bool:
        changed = False
        for bead in federation.unreported(self.town):
            if self._free(bead.id):
                with self._guard(bead.id):
                    federation.report(self.town, bead)
                    self.say(f"{bead.id}: evidence of {bead.wanted_id} handed over")
                    changed = True
        return changed

    def _tell(self, bead_id: str) -> None:
        bead = self.town.ledger.load_bead(bead_id)
        first = bead.reason.partition("\n")[0]
        self.say(f"{bead.id}: {bead.phase}" + (f" ({first})" if first and bead.phase is not Phase.WORKING else ""))

    def _free(self, bead_id: str) -> bool:
        return self._later.get(bead_id, 0.0) <= time.monotonic()

    @contextmanager
    def _guard(self, bead_id: str) -> Iterator[None]:
        """Keep one bead's trouble from the others: write it down and leave the bead alone for a while."""
        try:
            yield
        except TownError as error:
            self._later[bead_id] = time.monotonic() + RETRY_SECONDS
            self.town.ledger.note_bead(bead_id, reason=error.message)
            self.say(f"{bead_id}: {error.message}")

    def _stop_runs(self) -> None:
        for run in self.town.ledger.runs():
            if run.live:
                who = agent.claimed(self.town.run_folder(run.id))
                if who is not None:
                    agent.end(who)
                with self._guard(run.bead):
                    polecat.settle(self.town, run)
