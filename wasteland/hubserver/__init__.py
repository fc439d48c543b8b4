"""`wl hub serve`: a hub of one's own that speaks DoltHub's REST API and Dolt's remote protocol.

One process, one folder.  `app` answers HTTP (`v1` and `v2` are the two
generations of the API), `remote` is the gRPC proxy for clone, fetch and push,
`store` is who may do what, `engine` the one `dolt sql-server` behind both.
"""

from __future__ import annotations

from typing import Protocol

from wasteland.values import dataclass


@dataclass(frozen=True)
class Holder:
    """The user that a token or key belongs to, and whether it may write."""

    user: str
    may_write: bool


class Access(Protocol):
    """Who somebody is and which database on the server they may reach: what the proxy asks."""

    def whose_token(self, token: str) -> Holder | None:
        """The holder of a token; None where it is unknown, revoked or expired."""

    def whose_key(self, key_id: str) -> tuple[str, bytes] | None:
        """The user and the 32 bytes of the Ed25519 public key that `dolt creds` calls `key_id`."""

    def resolve(self, owner: str, repo: str, holder: Holder | None, *, write: bool) -> str:
        """The repository's database on the server.

        NotFound also for a private one that the holder may not see; Refused
        where it may be seen but not written.
        """

    def pushed(self, owner: str, repo: str, user: str | None) -> None:
        """A push has arrived."""
