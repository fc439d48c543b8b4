"""Questions to one hub in the generation of the API that it speaks, and requests whose answer was lost."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from wasteland.errors import NotFound
from wasteland.hub.rest.client import NoRoute, Rest, Unsure, Wire
from wasteland.hub.rest.v1 import Rest1
from wasteland.hub.rest.v2 import Rest2
from wasteland.hub.site import Site, discover, site_cache

PATIENCE = 20.0  # seconds for which a hub may not show yet what it has done
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 4.0
SENDS = 5

Found = TypeVar("Found")


class Session:
    """One hub, one user, for one command."""

    def __init__(
        self,
        site: Site,
        token: str | None,
        cache: Path,
        *,
        say: Callable[[str], None] | None = None,
        patience: float = PATIENCE,
        transport: Any = None,
    ) -> None:
        self.site = site
        self.cache = site_cache(cache, site.api)
        self.patience = patience
        self.say = say or (lambda text: None)
        self.wire = Wire(site.api, token, transport=transport)
        self._cache = cache
        self._asked_again = False
        self._made: dict[tuple[str, str], float] = {}

    def rest(self, version: str | None = None) -> Rest:
        """The routes of a generation, by default of the one to use."""
        return Rest2(self.wire) if (version or self.site.versions[0]) == Rest2.version else Rest1(self.wire)

    def ask(self, call: Callable[[Rest], Found], *databases: tuple[str, str]) -> Found:
        """The answer to a call; `databases` that this session has made may be missing for a little while."""
        pause = FIRST_PAUSE
        while True:
            try:
                return self._routed(call)
            except NotFound:
                young = [one for one in databases if self._is_young(one)]
                if not young or (pause > FIRST_PAUSE and all(self._routed(_exists(one)) for one in young)):
                    raise
            time.sleep(pause)
            pause = min(LONGEST_PAUSE, pause * 2)

    def _routed(self, call: Callable[[Rest], Found]) -> Found:
        """The call; where its route is not there, once more in the generation that the hub speaks by now."""
        try:
            return call(self.rest())
        except NoRoute:
            before = self.site.versions[0]
            if not self._asked_again:
                self._asked_again = True
                self.site = discover(self.site.api, self._cache, fresh=True)
            if self.site.versions[0] == before:
                raise
            return call(self.rest())

    def made(self, org: str, db: str) -> None:
        """Note that this session has made a database: not every machine of the hub knows it at once."""
        self._made[org, db] = time.monotonic()

    def _is_young(self, database: tuple[str, str]) -> bool:
        at = self._made.get(database)
        return at is not None and time.monotonic() - at < self.patience

    def once(self, send: Callable[[], Found], look: Callable[[], Found | None]) -> tuple[Found, int]:
        """What `send` gives, and how often it was sent; before it is sent again, `look` says whether it was done.

        Unsure where neither an answer nor a look has shown an outcome in the end.
        """
        lost: Unsure | None = None
        for sent in range(1, SENDS + 1):
            try:
                return send(), sent
            except Unsure as error:
                lost = error
            found = self._seen(look)
            if found is not None:
                return found, sent
        assert lost is not None
        raise lost

    def _seen(self, look: Callable[[], Found | None]) -> Found | None:
        """What a look shows within half of our patience: an outcome may show late."""
        deadline = time.monotonic() + self.patience / 2
        pause = FIRST_PAUSE
        while True:
            found = look()
            if found is not None or time.monotonic() + pause > deadline:
                return found
            time.sleep(pause)
            pause = min(LONGEST_PAUSE, pause * 2)

    def close(self) -> None:
        """End the connections."""
        self.wire.close()


def _exists(database: tuple[str, str]) -> Callable[[Rest], bool]:
    return lambda rest: rest.exists(*database)
