"""One rig on several machines, or with a home put back from a backup: one chain, each link in a place of its own."""

from __future__ import annotations

import shutil

import pytest

from tests.conftest import World


class Place:
    """A maintainer, and a rig `bob` with items to work on."""

    def __init__(self, folder):
        self.world = World(folder)
        self.ada = self.world.create("ada")
        self.bob = self.world.join("bob", by=self.ada)

    def post(self, title):
        return self.world.post(self.ada, title)

    def hand_in(self, user, item):
        """Claim and hand in; the number of the pull request."""
        user.ok("claim", item)
        return str(user.json("done", item, "--evidence", f"https://example.com/{item}")["pull"]["number"])

    def second_machine(self):
        """Another home with the same key, and without journal and clone."""
        laptop = self.world.user("laptop")
        keys = laptop.home / ".config" / "wasteland" / "keys"
        keys.parent.mkdir(parents=True)
        shutil.copytree(self.bob.home / ".config" / "wasteland" / "keys", keys)
        for journal in keys.glob("*.journal*"):
            journal.unlink()
        laptop.ok(
            "join", "acme/commons", "--fork-org", "bob-org", "--handle", "bob", "--remote-base", str(self.world.hub)
        )
        return laptop

    def counts(self):
        return self.ada.json("verify", "--all")["counts"]


@pytest.fixture
def place(tmp_path):
    made = Place(tmp_path)
    yield made
    made.world.stop()


def test_both_machines_hand_in_and_both_land(place):
    one, two, three = (place.post(title) for title in ("one", "two", "three"))
    laptop = place.second_machine()
    first, second = place.hand_in(place.bob, one), place.hand_in(laptop, two)
    third = place.hand_in(place.bob, three)
    for number in (first, second, third):
        place.ada.ok("merge", number)
    assert place.counts() == {"verified": 3, "invalid": 0, "unsigned": 0, "undecided": 0}


def test_a_journal_from_a_backup_catches_up_before_it_signs(place):
    one, two, three = (place.post(title) for title in ("one", "two", "three"))
    journal = place.bob.home / ".config" / "wasteland" / "keys" / "bob.journal"
    first = place.hand_in(place.bob, one)
    old = journal.read_bytes()
    second = place.hand_in(place.bob, two)
    journal.write_bytes(old)
    third = place.hand_in(place.bob, three)
    for number in (first, second, third):
        place.ada.ok("merge", number)
    assert place.counts() == {"verified": 3, "invalid": 0, "unsigned": 0, "undecided": 0}
