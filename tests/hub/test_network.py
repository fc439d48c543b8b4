"""Through which proxy a hub is asked, and which certificates are believed."""

from __future__ import annotations

import ssl

import pytest

from wasteland.dolt import binary
from wasteland.errors import Misconfigured
from wasteland.hub.rest.client import Wire
from wasteland.hub.rest.network import proxy_for, trust

NAMES = [f"{kind}_proxy" for kind in ("http", "https", "all", "no")]
HUB = "https://hub.example.com"


@pytest.fixture(autouse=True)
def _bare(monkeypatch):
    for name in (*NAMES, *(n.upper() for n in NAMES), "SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("settings", "url", "expected"),
    [
        ({}, HUB, None),
        ({"HTTPS_PROXY": "http://p:1"}, HUB, "http://p:1"),
        ({"HTTPS_PROXY": "http://p:1", "https_proxy": "http://q:2"}, HUB, "http://q:2"),
        ({"HTTP_PROXY": "http://p:1"}, HUB, None),
        ({"ALL_PROXY": "http://p:1"}, HUB, "http://p:1"),
        ({"ALL_PROXY": "http://p:1", "HTTPS_PROXY": "https://q:2"}, HUB, "https://q:2"),
        ({"HTTPS_PROXY": "p:3128"}, HUB, "http://p:3128"),
        ({"HTTPS_PROXY": "  "}, HUB, None),
        ({"ALL_PROXY": "http://p:1", "NO_PROXY": "example.com"}, HUB, None),
        ({"ALL_PROXY": "http://p:1", "NO_PROXY": ".example.com, other"}, HUB, None),
        ({"ALL_PROXY": "http://p:1", "NO_PROXY": "*.example.com"}, HUB, None),
        ({"ALL_PROXY": "http://p:1", "NO_PROXY": "*"}, HUB, None),
        ({"ALL_PROXY": "http://p:1", "NO_PROXY": "ample.com"}, HUB, "http://p:1"),
        ({"ALL_PROXY": "http://p:1", "NO_PROXY": "hub.example.com:8443"}, HUB, "http://p:1"),
        ({"ALL_PROXY": "http://p:1", "NO_PROXY": "hub.example.com:443"}, HUB, None),
        ({"ALL_PROXY": "http://p:1", "NO_PROXY": "10.0.0.0/8"}, "http://10.1.2.3:80", None),
        ({"ALL_PROXY": "http://p:1", "NO_PROXY": "fd00::/8"}, "http://[fd00::1]:80", None),
        ({"ALL_PROXY": "http://p:1", "NO_PROXY": "10.0.0.0/8"}, "http://11.1.2.3", "http://p:1"),
        ({"ALL_PROXY": "socks5://p:1"}, "http://127.0.0.1:8090", None),
        ({"ALL_PROXY": "http://p:1"}, "http://localhost:8090", None),
        ({"HTTP_PROXY": "nonsense://"}, "http://[::1]:8090", None),
    ],
)
def test_the_proxy_that_the_environment_names(monkeypatch, settings, url, expected):
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    assert proxy_for(url) == expected
    if expected is None:
        Wire(url, None).close()


@pytest.mark.parametrize("name", ["ALL_PROXY", "https_proxy"])
@pytest.mark.parametrize(
    "value", ["socks5://p:1", "socks5h://p:1", "socks4://p:1", "://", "http://[x", "ftp://p", "http://p:x"]
)
def test_a_proxy_that_cannot_be_used_is_named_with_its_variable(monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    with pytest.raises(Misconfigured) as caught:
        Wire(HUB, None)
    assert name in caught.value.message


def test_the_password_of_a_proxy_is_not_repeated(monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "ftp://me:geheim@p:1")
    with pytest.raises(Misconfigured) as caught:
        proxy_for(HUB)
    assert "geheim" not in caught.value.message


def test_certificates_that_are_not_there_are_named_with_their_variable(monkeypatch, tmp_path):
    (tmp_path / "garbage.pem").write_text("this is no certificate")
    for name, value in (
        ("SSL_CERT_FILE", tmp_path / "gone.pem"), ("SSL_CERT_FILE", tmp_path / "garbage.pem"),
        ("SSL_CERT_FILE", tmp_path), ("SSL_CERT_DIR", tmp_path / "gone"),
    ):  # fmt: skip
        with monkeypatch.context() as patch:
            patch.setenv(name, str(value))
            with pytest.raises(Misconfigured) as caught:
                Wire(HUB, None)
            assert name in caught.value.message
            assert str(value) in caught.value.message
            Wire("http://127.0.0.1:8090", None).close()


def test_a_plain_way_that_turns_out_to_be_tls_believes_nobody():
    context = trust("http://hub.example.com")
    assert context.verify_mode == ssl.CERT_REQUIRED
    assert context.check_hostname
    assert context.cert_store_stats()["x509"] == 0


def test_dolt_is_not_told_of_certificates_that_are_not_there(monkeypatch, tmp_path):
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "gone.pem"))
    assert "SSL_CERT_FILE" not in binary.environment(tmp_path)
    (tmp_path / "there.pem").touch()
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "there.pem"))
    assert binary.environment(tmp_path)["SSL_CERT_FILE"] == str(tmp_path / "there.pem")
