"""What this node remembers beside a clone, so that it need not be found again: a cache that nobody else can fill.

The file is this user's alone and carries a MAC under a key that lies with the
rig's keys.  A file that is not ours, is not whole, was brought from elsewhere
or was written under another `about` is as good as none.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import stat
from contextlib import suppress
from pathlib import Path

KEY = "memory.key"


class Memory:
    """One text in the file `path`, sealed with the key in the folder `keys`."""

    def __init__(self, path: Path, keys: Path, about: str) -> None:
        self.path = path
        self.keys = keys
        self.about = about

    def read(self) -> str | None:
        """The text, or None where there is none that this user wrote about the same."""
        key = _private(self.keys / KEY)
        found = _private(self.path) if key else None
        if not key or found is None:
            return None
        seal, _, body = found.partition(b"\n")
        if not hmac.compare_digest(seal, self._seal(key, body)):
            return None
        return body.decode("utf-8")

    def write(self, text: str) -> None:
        """Remember `text`; where that cannot be done, nothing is remembered."""
        with suppress(OSError):
            key = _private(self.keys / KEY) or self._make_key()
            body = text.encode("utf-8")
            _replace(self.path, self._seal(key, body) + b"\n" + body)

    def _seal(self, key: bytes, body: bytes) -> bytes:
        about = hashlib.sha256(self.about.encode("utf-8")).digest()
        return hmac.digest(key, about + body, "sha256").hex().encode()

    def _make_key(self) -> bytes:
        self.keys.mkdir(mode=0o700, parents=True, exist_ok=True)
        key = os.urandom(32)
        _replace(self.keys / KEY, key)
        return key


def _private(path: Path) -> bytes | None:
    """The bytes of a plain file that only this user can read or write; None for anything else."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    with os.fdopen(handle, "rb") as found:
        known = os.fstat(handle)
        if not stat.S_ISREG(known.st_mode) or known.st_uid != os.geteuid() or known.st_mode & 0o077:
            return None
        try:
            return found.read()
        except OSError:
            return None


def _replace(path: Path, data: bytes) -> None:
    """A file of mode 0600: whole or not at all.  It is a cache, so it need not outlive a power cut."""
    made = path.with_name(f"{path.name}.{os.getpid()}.new")
    handle = os.open(made, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(handle, "wb") as out:
            out.write(data)
        os.replace(made, path)
    except OSError:
        made.unlink(missing_ok=True)
        raise
