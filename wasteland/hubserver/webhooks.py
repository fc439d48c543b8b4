"""Webhooks: what has happened to a repository, told to the URLs that its owner named.

The body is JSON; `X-Wasteland-Signature: sha256=<hex>` is its HMAC with the
webhook's secret.  Delivered in order by one thread, three times at most, then
given up: a receiver that missed an event asks the API.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import queue
import threading
from typing import Any

from wasteland.errors import Usage
from wasteland.hubserver import pulls
from wasteland.hubserver.pulls import PullRow
from wasteland.hubserver.store import Repository, Store

TRIES = 3
PAUSE = 0.5  # seconds before the second try; doubled before the third
PATIENCE = 10.0


def checked_url(url: str) -> str:
    """A webhook's URL; Usage where it is not http(s) or carries a password."""
    from urllib.parse import urlsplit

    found = urlsplit(url)
    if found.scheme not in ("http", "https") or not found.hostname or found.username or found.password:
        raise Usage("a webhook needs an http or https URL without a password", about="url")
    return url


class Hooks:
    """The deliveries of one hub."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._waiting: queue.Queue[tuple[str, str, bytes] | None] = queue.Queue(maxsize=1000)
        self._thread = threading.Thread(target=self._run, name="webhooks", daemon=True)
        self._stopped = threading.Event()

    def start(self) -> None:
        """Begin to deliver."""
        self._thread.start()

    def stop(self) -> None:
        """Deliver no more; what waits is dropped."""
        self._stopped.set()
        if not self._thread.is_alive():
            return
        try:
            self._waiting.put_nowait(None)
        except queue.Full:
            return
        self._thread.join(timeout=2)

    def heads(self, repo: Repository, found: dict[str, str]) -> None:
        """Compare the branches with what was known; tell of pushes and of branches made and deleted."""
        known = pulls.heads(self._store, repo)
        if known == found:
            return
        pulls.set_heads(self._store, repo, found)
        for name in sorted(found.keys() | known.keys()):
            before, after = known.get(name), found.get(name)
            if before is None or after is None:
                action = "Created" if before is None else "Deleted"
                self._tell(repo, {"event_name": "branch", "action": action, "branch": name, "head": after or before})
            if after is not None and before != after:
                self._tell(repo, {"event_name": "push", "ref": f"refs/heads/{name}", "head": after, "prev": before})

    def pull(self, repo: Repository, pull: PullRow, action: str, sender: str) -> None:
        """Tell that a pull request was Opened, Closed or Merged."""
        self._tell(repo, {
            "event_name": "pull_request", "action": action, "state": pull.state.capitalize(),
            "pullID": str(pull.number), "title": pull.title, "description": pull.body,
            "fromBranch": pull.from_branch, "fromBranchOwner": pull.from_owner, "fromBranchDatabase": pull.from_name,
            "toBranch": pull.to_branch, "toBranchOwner": repo.owner, "toBranchDatabase": repo.name,
            "author": pull.author, "sender": sender,
        })  # fmt: skip

    def _tell(self, repo: Repository, event: dict[str, Any]) -> None:
        body = json.dumps(event | {"repository": {"owner": repo.owner, "name": repo.name}}).encode()
        for url, secret in pulls.webhooks(self._store, repo):
            try:
                self._waiting.put_nowait((url, secret, body))
            except queue.Full:
                return

    def _run(self) -> None:
        import httpx2

        with httpx2.Client(timeout=PATIENCE, follow_redirects=False, trust_env=False) as client:
            while (found := self._waiting.get()) is not None:
                url, secret, body = found
                digest = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
                headers = {"content-type": "application/json", "x-wasteland-signature": f"sha256={digest}"}
                for attempt in range(TRIES):
                    if self._stopped.wait(PAUSE * 2 ** (attempt - 1) if attempt else 0):
                        return
                    try:
                        if client.post(url, content=body, headers=headers).is_success:
                            break
                    except httpx2.HTTPError:
                        continue
