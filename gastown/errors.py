"""What can go wrong in a town, as a user would sort it; exit codes are those of `wl`.

TownError        1   something failed that has no class of its own
  Usage         64   the words of the command are wrong
  NotFound       4   no such bead, rig, town
  Conflict       5   two changes meet
  Refused        6   a rule says no
  Unreachable    8   a repository, a remote or a program did not answer
  Misconfigured  9   configuration or installation must be mended first
  OverBudget    10   there is no budget, or it is spent
"""

from __future__ import annotations


class TownError(Exception):
    """One clear sentence for the user, what it is about, and what to do next.

    `hint` is a next step in words or a command; None where there is none.
    `about` names the thing (a bead, a rig, a path).
    """

    exit_code = 1

    def __init__(self, message: str, *, hint: str | None = None, about: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.about = about


class Usage(TownError):
    """A value on the command line is not one that the command takes."""

    exit_code = 64


class NotFound(TownError):
    """The named thing does not exist."""

    exit_code = 4


class Conflict(TownError):
    """Two changes of the same thing meet; nothing of ours was changed."""

    exit_code = 5


class Refused(TownError):
    """A rule says no."""

    exit_code = 6


class Unreachable(TownError):
    """A repository, a remote or a program did not answer."""

    exit_code = 8


class Misconfigured(TownError):
    """Configuration, installation or the machine must be mended first."""

    exit_code = 9


class OverBudget(TownError):
    """There is no budget, or it is spent."""

    exit_code = 10
