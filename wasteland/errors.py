"""What can go wrong, as a user would sort it; each class has an exit code that never changes.

    WastelandError            1   something failed that has no class of its own
      Usage                  64   the words of the command are wrong
      NotFound                4   no such item, rig, branch, pull request, wasteland
      Conflict                5   somebody else was first, or two changes meet
      Refused                 6   a rule says no
        NotOpen               6   the item is not in the state that the verb needs
        BadSignature          6   a signature, key or signed document does not hold
      Unauthenticated         7   a token or credential is missing or wrong
      Unreachable             8   a remote, a server or a program did not answer
      Misconfigured           9   configuration or installation must be mended first
        DiskFull              9   the disk, or what this user may use of it, is full
        TooManyFiles          9   more files are open than the machine allows
        NotPermitted          9   a file or folder may not be read or written
      Locked                  8   another program holds what is needed
      Unwritten              74   what was asked is done, and its result could not be written
      TimeUp                 75   what was waited for did not come in the time that was given

`wl verify` has codes of its own (0 verified, 1 invalid, 2 unsigned, 3 cannot
decide); so 2 and 3 are not used here.  Over budget (10) belongs to `gt`.
"""

from __future__ import annotations


class WastelandError(Exception):
    """One clear sentence for the user, what it is about, and what to do next.

    `hint` is a next step in words or a command; None where there is none.
    `about` names the thing (an id, a path), for programs that read `--json`.
    """

    exit_code = 1
    retryable = False

    def __init__(self, message: str, *, hint: str | None = None, about: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.about = about

    @property
    def code(self) -> str:
        """The stable name of this kind of error, for programs."""
        return type(self).__name__


class Usage(WastelandError):
    """A value on the command line is not one that the command takes."""

    exit_code = 64


class NotFound(WastelandError):
    """The named thing does not exist."""

    exit_code = 4


class Conflict(WastelandError):
    """Two changes of the same thing meet; nothing of ours was changed."""

    exit_code = 5
    retryable = True


class Refused(WastelandError):
    """A rule says no."""

    exit_code = 6


class NotOpen(Refused):
    """The item is not in the state that the verb needs."""


class BadSignature(Refused):
    """A signature, a key or a signed document does not hold."""


class Unauthenticated(WastelandError):
    """A token or credential is missing, wrong or not enough."""

    exit_code = 7


class Unreachable(WastelandError):
    """A remote, a server or a program did not answer."""

    exit_code = 8
    retryable = True


class Misconfigured(WastelandError):
    """Configuration, installation or the machine must be mended first."""

    exit_code = 9


class DiskFull(Misconfigured):
    """The disk, or the share of it that this user may use, is full."""


class TooManyFiles(Misconfigured):
    """More files are open than this process or this machine allows."""


class NotPermitted(Misconfigured):
    """A file or folder may not be read or written by this user."""


class Locked(Unreachable):
    """Another program holds what is needed."""


class Unwritten(WastelandError):
    """What was asked is done; only its result could not be written.  74 is EX_IOERR of sysexits.h."""

    exit_code = 74


class TimeUp(WastelandError):
    """What was waited for did not come within the time that was given.  75 is EX_TEMPFAIL of sysexits.h."""

    exit_code = 75
    retryable = True
