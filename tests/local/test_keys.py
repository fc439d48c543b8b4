"""Keys are kept private and never overwritten; the journal never lets one seq be signed twice."""

from __future__ import annotations

import multiprocessing
import os
from datetime import UTC, datetime

import keyring
import keyring.backend
import keyring.backends.fail
import keyring.errors
import pytest

from wasteland.errors import BadSignature, Conflict, Misconfigured, NotFound, Refused
from wasteland.local.keys import Journal, KeyStore, sign_statement, verify_signature
from wasteland.trust import envelope as attest
from wasteland.trust.envelope import verify_envelope
from wasteland.trust.statements import Link, Party, completion_statement, text_manifest

HERE, THERE = "urn:uuid:here", "urn:uuid:there"


class Ring(keyring.backend.KeyringBackend):
    priority = 1

    def __init__(self, broken=None):
        super().__init__()
        self.kept, self.broken = {}, broken

    def set_password(self, service, username, password):
        if self.broken:
            raise self.broken
        self.kept[service, username] = password

    def get_password(self, service, username):
        if self.broken:
            raise self.broken
        return self.kept.get((service, username))


@pytest.fixture
def ring():
    before = keyring.get_keyring()
    yield keyring.set_keyring
    keyring.set_keyring(before)


@pytest.fixture
def store(tmp_path):
    return KeyStore(tmp_path / "keys", "file")


@pytest.fixture
def key(store):
    return store.make("ada")


@pytest.fixture
def journal(tmp_path):
    return Journal(tmp_path / "keys" / "ada.journal")


def a_link(key, link, wasteland=HERE, evidence="done"):
    return sign_statement(
        key,
        completion_statement(
            wasteland=wasteland,
            completion=f"c-{link.seq}",
            author=Party("ada", key.did),
            wanted="w-1",
            wanted_sha256="0" * 64,
            evidence=text_manifest(evidence),
            sandbox_level="L0",
            sandbox_network="host",
            issued_at=datetime(2026, 3, 1, tzinfo=UTC),
            chain=link,
        ),
    )


def signed_next(journal, key, wasteland=HERE, evidence="done"):
    with journal.locked():
        return journal.append(a_link(key, journal.head(wasteland), wasteland, evidence))


def test_a_made_key_is_loaded_and_signs(store, key):
    again = store.load("ada")
    assert again == key
    assert verify_signature(key.public, b"words", again.sign(b"words"))
    assert not verify_signature(key.public, b"other", again.sign(b"words"))
    following = bytes.fromhex((store.folder / "ada.next.key").read_text())
    from wasteland.local.keys import public_key

    assert attest.sha256(public_key(following)) == key.next_sha256


def test_no_secret_is_shown_or_readable_by_others(store, key):
    secret = (store.folder / "ada.key").read_text().strip()
    assert secret not in repr(key)
    assert secret not in (store.folder / "ada.json").read_text()
    assert store.folder.stat().st_mode & 0o777 == 0o700
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in store.folder.iterdir())


@pytest.mark.parametrize(("path", "mode"), [("ada.key", 0o640), ("ada.key", 0o604), (".", 0o750)])
def test_a_key_that_others_can_read_is_refused(store, key, path, mode):
    (store.folder / path).chmod(mode)
    with pytest.raises(Misconfigured, match="others can read"):
        store.load("ada")


def test_a_key_is_never_overwritten(store, key):
    with pytest.raises(Conflict):
        store.make("ada")
    assert store.load("ada") == key


def test_make_takes_up_what_a_crash_left(store, key):
    (store.folder / "ada.json").unlink()
    assert store.make("ada") == key


def test_a_secret_that_is_not_the_described_key_is_refused(store, key):
    (store.folder / "ada.key").write_text("11" * 32)
    with pytest.raises(Misconfigured, match="is not the key"):
        store.load("ada")
    with pytest.raises(NotFound):
        store.load("bob")


def test_the_keyring_holds_the_secret_where_there_is_one(tmp_path, ring):
    kept = Ring()
    ring(kept)
    key = KeyStore(tmp_path / "keys").make("ada")
    assert KeyStore(tmp_path / "keys").load("ada") == key
    assert [path.name for path in (tmp_path / "keys").iterdir()] == ["ada.json"]
    assert len(kept.kept) == 2


def test_only_a_machine_without_keyring_falls_back_to_a_file(tmp_path, ring):
    ring(keyring.backends.fail.Keyring())
    assert KeyStore(tmp_path / "a").make("ada").handle == "ada"
    assert (tmp_path / "a" / "ada.key").exists()
    with pytest.raises(Misconfigured, match="no keyring"):
        KeyStore(tmp_path / "b", "keyring").make("ada")
    for broken in (keyring.errors.KeyringLocked("x"), OSError("dbus")):
        ring(Ring(broken))
        with pytest.raises(Misconfigured, match="locked"):
            KeyStore(tmp_path / "c").make("ada")
    assert list((tmp_path / "c").iterdir()) == []


@pytest.mark.parametrize(
    ("public", "signature"), [(b"", b""), (bytes(32), bytes(64)), (b"x" * 32, b"x"), (b"\xff" * 32, bytes(64))]
)
def test_malformed_input_verifies_nothing(public, signature):
    assert verify_signature(public, b"", signature) is False


def test_a_signed_statement_verifies_under_its_key_only(key, store):
    envelope = a_link(key, Link(0))
    assert verify_envelope(envelope, [key.public], verify_signature)["predicate"]["completion"] == "c-0"
    with pytest.raises(BadSignature):
        verify_envelope(envelope, [store.make("bob").public], verify_signature)


def test_the_journal_gives_each_wasteland_a_chain_of_its_own(journal, key):
    first, second = signed_next(journal, key), signed_next(journal, key)
    other = signed_next(journal, key, THERE)
    assert [(one.seq, one.prev) for one in (first, second, other)] == [
        (0, attest.ZERO),
        (1, first.payload_sha256),
        (0, attest.ZERO),
    ]
    assert Journal(journal.path).head(HERE) == (2, second.payload_sha256)
    assert second.envelope == a_link(key, Link(1, first.payload_sha256))


def test_only_the_next_link_is_taken_and_only_under_the_lock(journal, key):
    signed_next(journal, key)
    with journal.locked(), pytest.raises(Conflict):
        journal.append(a_link(key, Link(0), evidence="other"))
    with pytest.raises(RuntimeError):
        journal.append(a_link(key, journal.head(HERE)))


def test_a_link_is_signed_then_published_or_void(journal, key):
    first, second = signed_next(journal, key), signed_next(journal, key)
    assert journal.unpublished(HERE) == [first, second]
    journal.mark_published(first.payload_sha256)
    assert [one.payload_sha256 for one in journal.entries(HERE)] == [first.payload_sha256]
    journal.mark_void(second.payload_sha256)
    assert journal.unpublished(HERE) == []
    assert signed_next(journal, key, evidence="again").seq == 1
    for wrong in (first.payload_sha256,):
        with pytest.raises(Refused):
            journal.mark_void(wrong)
    with pytest.raises(Refused):
        journal.mark_published(second.payload_sha256)
    with pytest.raises(NotFound):
        journal.mark_published("f" * 64)


def test_a_link_that_others_stand_on_cannot_be_void(journal, key):
    first = signed_next(journal, key)
    signed_next(journal, key)
    with pytest.raises(Refused, match="stand on"):
        journal.mark_void(first.payload_sha256)


def test_a_torn_last_line_is_dropped_wherever_it_was_torn(journal, key):
    first = signed_next(journal, key)
    whole = journal.path.read_bytes()
    signed_next(journal, key)
    longer = journal.path.read_bytes()
    for end in range(len(whole), len(longer), 97):
        journal.path.write_bytes(longer[:end])
        assert journal.head(HERE) == (1, first.payload_sha256)
    assert signed_next(journal, key, evidence="again").seq == 1
    assert len(journal.path.read_bytes().splitlines()) == 2


def test_damage_before_the_last_line_is_not_guessed_at(journal, key):
    signed_next(journal, key)
    signed_next(journal, key)
    journal.path.write_bytes(b"x" + journal.path.read_bytes())
    with pytest.raises(Misconfigured, match="line 1"):
        journal.head(HERE)


def test_a_lost_journal_is_imported_from_what_was_published(journal, key, tmp_path):
    envelopes = [signed_next(journal, key).envelope for _ in range(3)]
    fresh = Journal(tmp_path / "fresh")
    assert fresh.import_entries(reversed(envelopes)) == 3
    assert fresh.import_entries(envelopes) == 0
    assert fresh.head(HERE) == journal.head(HERE)
    assert [one.envelope for one in fresh.entries(HERE)] == envelopes
    with pytest.raises(Conflict):
        fresh.import_entries([a_link(key, Link(1, envelopes[0].sha256), evidence="forked")])


def sign_some(folder, path):
    key, journal = KeyStore(folder, "file").load("ada"), Journal(path)
    for _ in range(5):
        signed_next(journal, key, evidence=str(os.getpid()))


def test_processes_never_sign_one_seq_twice(store, journal, key):
    spawn = multiprocessing.get_context("spawn")
    workers = [spawn.Process(target=sign_some, args=(store.folder, journal.path)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(30)
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    assert [one.seq for one in journal.unpublished(HERE)] == list(range(15))
