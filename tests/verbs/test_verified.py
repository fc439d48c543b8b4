"""What is remembered of verdicts is a cache: it changes no answer, and nobody else can fill it."""

from __future__ import annotations

import json

import pytest

from tests.bench.verification import Commons
from wasteland.commons import signatures
from wasteland.trust.verification import Verdict


@pytest.fixture(scope="module")
def commons(tmp_path_factory):
    made = Commons(tmp_path_factory.mktemp("verified"), 40)
    made.build()
    yield made
    made.user.stop()


@pytest.fixture
def place(commons, monkeypatch):
    """The commons, put back afterwards."""
    monkeypatch.setenv("HOME", str(commons.user.home))
    node = commons.node()
    before = node.db.hash_of("main")
    memory(commons).unlink(missing_ok=True)
    yield commons, node
    node.db.reset(before)
    node.close()


def memory(commons):
    return commons.user.clone().parent / ".commons.node" / "verified"


def board(commons):
    return commons.user.json("leaderboard")["rigs"]


def stamps(commons):
    """How many stamps have which verdict, by the leaderboard."""
    return {one.name.lower(): sum(rig["stamps"][one.name.lower()] for rig in board(commons)) for one in Verdict}


def test_it_is_written_once_and_forgetting_it_changes_no_answer(place):
    commons, _ = place
    first = board(commons)
    written = memory(commons).read_bytes()
    assert memory(commons).stat().st_mode & 0o777 == 0o600
    assert board(commons) == first
    assert memory(commons).read_bytes() == written
    memory(commons).unlink()
    assert board(commons) == first
    assert sum(rig["stamps"]["verified"] for rig in first) == 20


@pytest.mark.parametrize(
    ("statement", "invalid"),
    [
        ("UPDATE stamps SET message = 'Excellent' WHERE id = 's-0000000000000003'", 1),
        ("UPDATE wanted SET title = 'Another' WHERE id = 'w-0000000003'", 1),
        ("UPDATE wanted SET status = 'open' WHERE id = 'w-0000000003'", 0),
        ("UPDATE completions SET evidence = 'https://elsewhere' WHERE id = 'c-0000000000000003'", 1),
        ("DELETE FROM wl_attestations WHERE subject_id = 's-0000000000000003'", None),
        ("DELETE FROM wl_attestations WHERE subject_id = 'c-0000000000000003'", None),
        ("DELETE FROM wl_key_events WHERE handle = 'worker-1'", None),
        ("DELETE FROM wl_key_events WHERE handle = 'validator-0'", None),
        ("DELETE FROM stamps WHERE id = 's-0000000000000003'", 0),
        ("UPDATE wl_attestations SET payload = '{}' WHERE subject_id = 's-0000000000000003'", None),
        ("UPDATE wl_attestations SET signatures = 'none' WHERE subject_id = 's-0000000000000003'", None),
        ("UPDATE wl_attestations SET signer = 'worker-1' WHERE subject_id = 's-0000000000000003'", None),
        ("UPDATE _meta SET value = 'urn:uuid:00000000-0000-0000-0000-000000000000' WHERE `key` = 'wasteland_id'", ...),
    ],
)
def test_what_changed_is_judged_anew_and_as_from_nothing(place, statement, invalid):
    commons, node = place
    board(commons)
    with node.db.change("A change by somebody"):
        node.db.run(statement)
    if invalid is ...:  # another wasteland than was pinned is refused, whatever is remembered
        assert commons.user.wl("leaderboard").code == 6
        return
    found = stamps(commons)
    memory(commons).unlink()
    assert stamps(commons) == found
    if invalid is None:
        assert found["verified"] < 20
    else:
        assert found["invalid"] == invalid


def test_more_work_is_added_to_what_is_known(place):
    commons, _ = place
    board(commons)
    links = [signer.link for signer in commons.signers]
    commons.more()
    found = board(commons)
    assert sum(rig["stamps"]["verified"] for rig in found) == 21
    memory(commons).unlink()
    assert board(commons) == found
    commons.made -= 1
    for signer, link in zip(commons.signers, links, strict=True):
        signer.link = link


def test_a_memory_that_somebody_else_wrote_is_none(place):
    commons, node = place
    with node.db.change("A change by somebody"):
        node.db.run("UPDATE stamps SET message = 'Excellent' WHERE id = 's-0000000000000003'")
    honest = board(commons)
    seal, _, text = memory(commons).read_text().partition("\n")
    lines = text.splitlines()
    first = json.loads(lines[0])
    for one in first["standings"].values():
        one["stamps"] |= {"verified": one["stamps"]["verified"] + one["stamps"]["invalid"], "invalid": 0}
    memory(commons).write_text("\n".join([seal, json.dumps(first), *lines[1:], ""]))
    assert board(commons) == honest
    memory(commons).chmod(0o666)
    assert board(commons) == honest
    memory(commons).unlink()
    memory(commons).symlink_to("/etc/passwd")
    assert board(commons) == honest


def test_each_verdict_alone_is_the_one_among_all(place):
    commons, node = place
    with node.db.change("A change by somebody"):
        node.db.run("DELETE FROM wl_attestations WHERE subject_id = 's-0000000000000003'")
    board(commons)
    known = {n: commons.user.wl("verify", "stamp", f"s-{n:016x}").code for n in (0, 1, 3, 5, 7)}
    memory(commons).unlink()
    assert {n: commons.user.wl("verify", "stamp", f"s-{n:016x}").code for n in known} == known
    assert known[0] == Verdict.VERIFIED.exit_code
    assert known[3] == Verdict.UNDECIDED.exit_code
    assert known[5] == Verdict.UNDECIDED.exit_code  # after the gap in the same chain


def test_a_new_link_is_judged_by_its_neighbours_alone(place):
    """A review reads three places of a chain, however long it is."""
    _, node = place
    chain = signatures.of_signer(node.db, "worker-1")
    assert [one.sha256 for one in signatures.around(node.db, "worker-1", {2})] == [one.sha256 for one in chain[1:4]]
    assert signatures.around(node.db, "worker-1", {len(chain)}) == [chain[-1]]
    assert signatures.around(node.db, "worker-1", {len(chain) + 1, -2}) == []
