"""Tokens: found in one order, kept for one place, shown nowhere; and the key that Dolt shows to remotes."""

from __future__ import annotations

import json
from pathlib import Path

import keyring
import keyring.backend
import keyring.errors
import pytest

from wasteland.dolt import binary
from wasteland.errors import Misconfigured, Usage
from wasteland.hub import credentials
from wasteland.local.config import Paths

DOLTHUB = "https://www.dolthub.com"
NAMES = ("DOLTHUB_TOKEN", "DOLTHUB_TOKEN_HOST", "WL_HUB_TOKEN", "WL_HUB", "DH_TOKEN", "DH_HOST", "DOLT_ROOT_PATH")


@pytest.fixture
def paths(tmp_path, monkeypatch) -> Paths:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WL_KEYSTORE", "file")
    monkeypatch.setenv("HOME", str(tmp_path))
    return Paths(tmp_path, tmp_path / "config", tmp_path / "data")


class Ring(keyring.backend.KeyringBackend):
    """A keyring that remembers, or is not there, or is locked."""

    priority = 1  # type: ignore[assignment]

    def __init__(self, trouble: Exception | None = None) -> None:
        super().__init__()
        self.kept: dict[tuple[str, str], str] = {}
        self.trouble = trouble

    def _now(self) -> dict[tuple[str, str], str]:
        if self.trouble:
            raise self.trouble
        return self.kept

    def get_password(self, service: str, username: str) -> str | None:
        return self._now().get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        self._now()[service, username] = password

    def delete_password(self, service: str, username: str) -> None:
        del self._now()[service, username]


@pytest.fixture
def ring(paths, monkeypatch):
    """The user's keyring."""
    monkeypatch.delenv("WL_KEYSTORE")
    kept, made = keyring.get_keyring(), Ring()
    keyring.set_keyring(made)
    yield made
    keyring.set_keyring(kept)


def found(base: str, paths: Paths) -> tuple[str, str] | None:
    token = credentials.find_token(base, paths)
    return (token.value, token.source) if token else None


def test_a_token_is_kept_for_one_place_and_forgotten_there(paths):
    assert found("https://hub.example", paths) is None
    assert credentials.save("https://hub.example/", paths, " abc\n") == "file"
    credentials.save("https://other.example", paths, "def")
    assert found("hub.example", paths) == ("abc", "file")
    for other in ("http://hub.example", "https://hub.example:444", "https://sub.hub.example", DOLTHUB):
        assert found(other, paths) is None
    file = paths.config / "wasteland" / "tokens.json"
    assert file.stat().st_mode & 0o777 == 0o600
    assert credentials.forget("https://hub.example", paths)
    assert not credentials.forget("https://hub.example", paths)
    assert found("hub.example", paths) is None
    assert found("other.example", paths) == ("def", "file")


def test_a_file_of_tokens_that_others_can_read_is_not_used(paths):
    credentials.save("https://hub.example", paths, "abc")
    (paths.config / "wasteland" / "tokens.json").chmod(0o644)
    with pytest.raises(Misconfigured, match="others can read"):
        credentials.find_token("https://hub.example", paths)


def test_a_token_does_not_show_itself(paths):
    credentials.save("https://hub.example", paths, "hush-hush")
    token = credentials.find_token("https://hub.example", paths)
    assert "hush-hush" not in f"{token!r} {token}"


@pytest.mark.parametrize("value", ["", "  ", "two words", "tökn", "a\x1bb", "x" * 5000])
def test_what_is_no_token_is_not_kept_and_not_repeated(paths, value):
    with pytest.raises(Usage) as failed:
        credentials.save("https://hub.example", paths, value)
    assert not value.strip() or value not in str(failed.value)


def test_the_token_of_the_environment_goes_to_dolthub_only(paths, monkeypatch):
    monkeypatch.setenv("DOLTHUB_TOKEN", "dh")
    assert found(DOLTHUB, paths) == ("dh", "DOLTHUB_TOKEN")
    assert found("dolthub.com", paths) == ("dh", "DOLTHUB_TOKEN")
    for other in ("https://hub.example", "https://www.dolthub.com.evil.example", "http://127.0.0.1:8090"):
        assert found(other, paths) is None


def test_the_token_of_the_environment_goes_where_its_user_says(paths, monkeypatch):
    monkeypatch.setenv("DOLTHUB_TOKEN", "dh")
    monkeypatch.setenv("DOLTHUB_TOKEN_HOST", "lab.example")
    assert found("https://lab.example", paths) == ("dh", "DOLTHUB_TOKEN")
    assert found("http://lab.example", paths) is None
    assert found(DOLTHUB, paths) is None
    monkeypatch.setenv("DOLTHUB_TOKEN_HOST", "http://lab.example")
    assert found("http://lab.example", paths) == ("dh", "DOLTHUB_TOKEN")


def test_the_token_for_a_hub_of_ones_own_goes_to_the_hub_that_is_named_beside_it(paths, monkeypatch):
    monkeypatch.setenv("WL_HUB_TOKEN", "own")
    assert found("https://hub.example", paths) is None
    monkeypatch.setenv("WL_HUB", "https://hub.example")
    assert found("https://hub.example", paths) == ("own", "WL_HUB_TOKEN")
    assert found("https://evil.example", paths) is None
    assert found(DOLTHUB, paths) is None
    monkeypatch.setenv("WL_HUB", "127.0.0.1:8090")
    assert found("http://127.0.0.1:8090", paths) == ("own", "WL_HUB_TOKEN")


def dh(paths: Paths, secret: str) -> Path:
    folder = paths.config / "dh"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"version": 1, "active_users": {"www.dolthub.com": "ada"}}))
    file = folder / "credentials.json"
    file.write_text(json.dumps({"version": 1, "credentials": {"www.dolthub.com": {"ada": secret}}}))
    file.chmod(0o600)
    return file


def test_what_dolthubs_own_program_has_stored_is_used_last_and_for_dolthub_only(paths, monkeypatch):
    bundle = "dh.oauth.v1:" + json.dumps({"access_token": "oauth", "expires_at": "2999-01-01T00:00:00Z"})
    dh(paths, bundle)
    assert found(DOLTHUB, paths) == ("oauth", "dh")
    assert found("https://hub.example", paths) is None
    dh(paths, "plain")
    assert found(DOLTHUB, paths) == ("plain", "dh")
    credentials.save(DOLTHUB, paths, "ours")
    assert found(DOLTHUB, paths) == ("ours", "file")
    credentials.forget(DOLTHUB, paths)
    monkeypatch.setenv("DH_TOKEN", "env")
    assert found(DOLTHUB, paths) == ("env", "DH_TOKEN")
    monkeypatch.setenv("DH_HOST", "lab.example")
    assert found(DOLTHUB, paths) == ("plain", "dh")


@pytest.mark.parametrize(
    "secret",
    ["dh.oauth.v1:{", "dh.oauth.v1:{}", 'dh.oauth.v1:{"access_token": 1}', "go-keyring-base64:%%%",
     'dh.oauth.v1:{"access_token": "old", "expires_at": "2020-01-01T00:00:00Z"}'],
)  # fmt: skip
def test_what_dolthubs_own_program_stored_otherwise_is_passed_over(paths, secret):
    dh(paths, secret)
    assert found(DOLTHUB, paths) is None


def test_what_dolthubs_own_program_stored_for_all_to_read_is_passed_over(paths):
    dh(paths, "plain").chmod(0o644)
    assert found(DOLTHUB, paths) is None


def test_the_keyring_is_taken_where_there_is_one_and_the_file_where_there_is_none(paths, ring):
    assert credentials.save("https://hub.example", paths, "abc") == "keyring"
    assert ring.kept == {("wasteland-hub", "https://hub.example"): "abc"}
    assert found("https://hub.example", paths) == ("abc", "keyring")
    assert credentials.forget("https://hub.example", paths)
    assert not ring.kept
    ring.trouble = keyring.errors.NoKeyringError()
    assert credentials.save("https://hub.example", paths, "def") == "file"
    assert found("https://hub.example", paths) == ("def", "file")
    ring.trouble = None
    assert credentials.save("https://hub.example", paths, "ghi") == "keyring"
    assert found("https://hub.example", paths) == ("ghi", "keyring")


def test_a_locked_keyring_is_an_error_and_no_reason_to_write_a_file(paths, ring):
    ring.trouble = keyring.errors.KeyringLocked("locked")
    for failing in (credentials.find_token, credentials.forget):
        with pytest.raises(Misconfigured, match="locked"):
            failing("https://hub.example", paths)
    with pytest.raises(Misconfigured):
        credentials.save("https://hub.example", paths, "abc")
    assert not (paths.config / "wasteland" / "tokens.json").exists()


def test_the_key_of_dolt_is_made_once_and_stays_selected(paths):
    key = credentials.dolt_key(binary.dolt_home(paths.data))
    assert credentials.dolt_key(binary.dolt_home(paths.data)) == key
    assert len(list((paths.data / "wasteland" / "dolt-home" / ".dolt" / "creds").glob("*.jwk"))) == 1
    assert len(key) == 52


def test_the_users_own_key_is_taken_and_one_made_for_the_node_stays_while_the_user_has_none(paths):
    users = paths.home / ".dolt"
    (users / "creds").mkdir(parents=True)
    made = credentials.dolt_key(binary.dolt_home(paths.data))
    assert credentials.dolt_key(binary.dolt_home(paths.data)) == made

    env = binary.environment(paths.home)
    binary.run(["creds", "new"], cwd=paths.home, env=env)
    listed = binary.run(["creds", "ls"], cwd=paths.home, env=env).stdout.split()
    own = next(word for word in listed if len(word) == 52 and word != made)
    binary.run(["creds", "use", own], cwd=paths.home, env=env)
    assert credentials.dolt_key(binary.dolt_home(paths.data)) == own


def test_a_key_of_the_nodes_own_stays_when_the_user_makes_one_later(paths):
    made = credentials.dolt_key(binary.dolt_home(paths.data))
    (paths.home / ".dolt").mkdir()
    binary.run(["creds", "new"], cwd=paths.home, env=binary.environment(paths.home))
    assert credentials.dolt_key(binary.dolt_home(paths.data)) == made
