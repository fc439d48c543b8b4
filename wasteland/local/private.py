"""Files that are this user's alone: written whole or not at all, and judged by one rule when they are read."""

from __future__ import annotations

import os
import stat
from pathlib import Path

FOREIGN, OPEN = "foreign", "open"


def flaw(found: os.stat_result) -> str | None:
    """What keeps a file or folder from being this user's alone: FOREIGN (a link, somebody else's), OPEN to others."""
    if stat.S_ISLNK(found.st_mode) or found.st_uid != os.geteuid():
        return FOREIGN
    return OPEN if found.st_mode & 0o077 else None


def read(path: Path) -> bytes | None:
    """The bytes of a plain file that is this user's alone; None for anything else."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode) or flaw(found):
            return None
        with os.fdopen(handle, "rb", closefd=False) as file:
            return file.read()
    except OSError:
        return None
    finally:
        os.close(handle)


def write(path: Path, data: bytes, *, lasting: bool = True) -> None:
    """A file of mode 0600 in place of what was there, whole or not at all.

    Where it is not `lasting`, a power cut may lose it, and it costs less.
    """
    made = path.with_name(f".{path.name}.{os.getpid()}.new")
    handle = os.open(made, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(handle, "wb") as out:
            out.write(data)
            if lasting:
                out.flush()
                os.fsync(handle)
        os.replace(made, path)
    except BaseException:
        made.unlink(missing_ok=True)
        raise
