"""What this node remembers beside a clone, so that it need not be found again: a cache that nobody else can fill.

The file is this user's alone and carries a MAC under a key that lies with the
rig's keys.  A file that is not ours, is not whole, was brought from elsewhere
or was written under another `about` is as good as none.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from contextlib import suppress
from pathlib import Path

from wasteland.local import private

KEY = "memory.key"


class Memory:
    """One text in the file `path`, sealed with the key in the folder `keys`."""

    def __init__(self, path: Path, keys: Path, about: str) -> None:
        self.path = path
        self.keys = keys
        self.about = about

    def read(self) -> str | None:
        """The text, or None where there is none that this user wrote about the same."""
        key = private.read(self.keys / KEY)
        found = private.read(self.path) if key else None
        if not key or found is None:
            return None
        seal, _, body = found.partition(b"\n")
        if not hmac.compare_digest(seal, self._seal(key, body)):
            return None
        return body.decode("utf-8")

    def write(self, text: str) -> None:
        """Remember `text`; where that cannot be done, nothing is remembered."""
        with suppress(OSError):
            key = private.read(self.keys / KEY) or self._make_key()
            body = text.encode("utf-8")
            private.write(self.path, self._seal(key, body) + b"\n" + body, lasting=False)

    def _seal(self, key: bytes, body: bytes) -> bytes:
        about = hashlib.sha256(self.about.encode("utf-8")).digest()
        return hmac.digest(key, about + body, "sha256").hex().encode()

    def _make_key(self) -> bytes:
        self.keys.mkdir(mode=0o700, parents=True, exist_ok=True)
        key = os.urandom(32)
        private.write(self.keys / KEY, key, lasting=False)
        return key
