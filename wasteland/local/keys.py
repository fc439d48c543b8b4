"""A rig's keys: made, kept in the OS keyring or a 0600 file, and used to sign.  The one import of cryptography."""

from __future__ import annotations

import json
import os
from dataclasses import field
from pathlib import Path
from typing import Literal

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from wasteland.errors import Conflict, Misconfigured, NotFound
from wasteland.local import private
from wasteland.local.journal import Entry, Journal, sync_folder
from wasteland.text import name
from wasteland.trust.envelope import (
    PAYLOAD_TYPE,
    SMALL_ORDER,
    Envelope,
    Signature,
    Statement,
    canonical,
    checked_statement,
    did_key,
    pae,
    public_of,
    sha256,
)
from wasteland.values import dataclass

__all__ = ["Entry", "Journal", "Key", "KeyStore", "public_key", "sign_statement", "verify_signature"]

Backend = Literal["auto", "file", "keyring"]
SERVICE = "wasteland"


class _NoBackend(Exception):
    """There is no keyring on this machine at all."""


@dataclass(frozen=True)
class Key:
    """The current key of a handle, and the digest of the next one, which its inception commits to."""

    handle: str
    did: str
    public: bytes
    next_sha256: str
    _seed: bytes = field(repr=False)

    def sign(self, message: bytes) -> bytes:
        """The Ed25519 signature (RFC 8032, pure) of `message`."""
        return Ed25519PrivateKey.from_private_bytes(self._seed).sign(message)


def public_key(seed: bytes) -> bytes:
    """The public key of the 32 secret bytes `seed`."""
    return Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()


def verify_signature(public: bytes, message: bytes, signature: bytes) -> bool:
    """Whether `signature` is the Ed25519 signature of `message`; False for any malformed or small-order input."""
    if public in SMALL_ORDER:
        return False
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except (InvalidSignature, ValueError, TypeError):
        return False
    return True


def sign_statement(key: Key, statement: Statement) -> Envelope:
    """`statement` signed by `key`; BadSignature where it is not one that a verifier would take."""
    payload = canonical(checked_statement(statement))
    return Envelope(payload, (Signature(key.did, key.sign(pae(PAYLOAD_TYPE, payload))),))


class KeyStore:
    """The keys in `folder`, whose secrets are in the OS keyring or beside it in files.

    `auto` takes the keyring where there is one; a keyring that is locked or
    broken is an error and never a reason to write the secret to a file.
    """

    def __init__(self, folder: Path, backend: Backend = "auto") -> None:
        self.folder = folder
        self.backend = backend

    def make(self, handle: str) -> Key:
        """Generate key 0 and the next key of `handle`; Conflict where it has a key already.

        The public `<handle>.json` is written last: before it there is no key,
        and files that a crash left are taken up by the next `make`.
        """
        name(handle, "handle")
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _private(self.folder, "folder", 0o700)
        if self._about(handle).exists():
            raise Conflict(f"{handle} has a key already", about=str(self._about(handle)))
        store, seed, following = self._keep(handle)
        did, next_sha256 = did_key(public_key(seed)), sha256(public_key(following))
        about = {"did": did, "next_sha256": next_sha256, "store": store}
        _create(self._about(handle), json.dumps(about, indent=1).encode() + b"\n")
        return Key(handle, did, public_key(seed), next_sha256, seed)

    def load(self, handle: str) -> Key:
        """The current key of `handle`; NotFound without one, Misconfigured where it is not safe or not the same."""
        path = self._about(name(handle, "handle"))
        try:
            about = json.loads(path.read_bytes())
            did, next_sha256, store = str(about["did"]), str(about["next_sha256"]), about["store"]
        except FileNotFoundError as error:
            raise NotFound(
                f"{handle} has no key here", hint="wl join and wl create make one", about=str(path)
            ) from error
        except (ValueError, KeyError, TypeError) as error:
            raise Misconfigured("the description of the key is damaged", about=str(path)) from error
        seed = _from_ring(did) if store == "keyring" else self._from_file(handle)
        if did_key(public_key(seed)) != did:
            raise Misconfigured(f"the stored secret is not the key {did}", about=str(path))
        return Key(handle, did, public_of(did), next_sha256, seed)

    def _about(self, handle: str) -> Path:
        return self.folder / f"{handle}.json"

    def _keep(self, handle: str) -> tuple[str, bytes, bytes]:
        """Store two secrets, and which store took them."""
        if self.backend != "file":
            seed, following = os.urandom(32), os.urandom(32)
            try:
                did = did_key(public_key(seed))
                _to_ring(f"{did} next", following)
                _to_ring(did, seed)
                return "keyring", seed, following
            except _NoBackend as error:
                if self.backend == "keyring":
                    raise Misconfigured("this machine has no keyring", hint="use the file store") from error
        following = _kept(self.folder / f"{handle}.next.key")
        return "file", _kept(self.folder / f"{handle}.key"), following

    def _from_file(self, handle: str) -> bytes:
        _private(self.folder, "folder", 0o700)
        return _secret(self.folder / f"{handle}.key")


def _kept(path: Path) -> bytes:
    """The secret in `path`, made there if it is not."""
    if not os.path.lexists(path):
        _create(path, os.urandom(32).hex().encode() + b"\n")
    return _secret(path)


def _secret(path: Path) -> bytes:
    _private(path, "key file", 0o600)
    try:
        seed = bytes.fromhex(path.read_text("ascii"))
    except ValueError as error:
        raise Misconfigured("the key file is damaged", about=str(path)) from error
    if len(seed) != 32:
        raise Misconfigured("the key file is damaged", about=str(path))
    return seed


def _private(path: Path, what: str, mode: int) -> None:
    """Misconfigured unless only the user who runs this can read `path`."""
    try:
        found = path.lstat()
    except OSError as error:
        raise Misconfigured(f"the {what} is not there", about=str(path)) from error
    flaw = private.flaw(found)
    if flaw == private.FOREIGN:
        raise Misconfigured(f"the {what} is a link or somebody else's", about=str(path))
    if flaw:
        raise Misconfigured(f"others can read the {what}", hint=f"chmod {mode:o} {path}", about=str(path))


def _create(path: Path, data: bytes) -> None:
    """Write a new file of mode 0600 whole or not at all; Conflict where there is one by this name."""
    temporary = path.with_name(f".{path.name}.{os.urandom(8).hex()}")
    file = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(file, "wb") as out:
            out.write(data)
            out.flush()
            os.fsync(out.fileno())
        os.link(temporary, path)
    except FileExistsError as error:
        raise Conflict("the key exists already", about=str(path)) from error
    finally:
        temporary.unlink()
    sync_folder(path.parent)


def _to_ring(username: str, seed: bytes) -> None:
    """Put a secret into the OS keyring and see that it is there."""
    import keyring.errors

    try:
        keyring.set_password(SERVICE, username, seed.hex())
        kept = keyring.get_password(SERVICE, username)
    except keyring.errors.NoKeyringError as error:
        raise _NoBackend from error
    except Exception as error:  # back ends raise types of their own
        raise Misconfigured(
            "the OS keyring is locked or does not work", hint="unlock it, or use the file store"
        ) from error
    if kept != seed.hex():
        raise Misconfigured("the OS keyring did not keep the key", hint="use the file store")


def _from_ring(username: str) -> bytes:
    import keyring.errors

    try:
        kept = keyring.get_password(SERVICE, username)
        seed = bytes.fromhex(kept or "")
    except Exception as error:  # back ends raise types of their own
        raise Misconfigured("the OS keyring is locked or does not work", hint="unlock it and try again") from error
    if len(seed) != 32:
        raise Misconfigured("the OS keyring does not have the key", about=username)
    return seed
