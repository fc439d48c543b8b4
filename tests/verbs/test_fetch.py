"""What may be fetched, against a TLS server of our own; only the test's own seam lets it be on this machine."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

import pytest

from tests.verbs.site import HOST, Site, serving
from wasteland.errors import Refused, Unreachable, Usage
from wasteland.evidence import fetch
from wasteland.evidence.fetch import HOSTS, Reach, hosts_of, public, split


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with serving(tmp_path / "site") as made:
        made.pages["/a"] = (200, {"Content-Type": "Text/Plain; charset=utf-8", "Set-Cookie": "id=1"}, b"hello")
        yield made


def test_an_answer_comes_whole_and_nothing_of_the_user_goes_out(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTPS_PROXY", "ALL_PROXY", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")

    answer = fetch.get(site.url("/a?q=1#part").replace("?q=1", ""), site.reach())

    assert (answer.status, answer.body, answer.media_type) == (200, b"hello", "text/plain")
    assert answer.pin == f"{HOST}:{site.port}:127.0.0.1"
    path, headers = site.asked[0]
    assert path == "/a"
    assert headers["Host"] == f"{HOST}:{site.port}"
    assert set(headers) == {"Host", "User-Agent", "Accept", "Accept-Encoding", "Connection"}


def test_a_missing_page_is_an_answer(site: Site) -> None:
    assert fetch.get(site.url("/none"), site.reach()).status == 404
    assert fetch.probe(site.url("/none"), site.reach()).status == 404


def test_a_probe_leaves_the_body_unread(site: Site) -> None:
    site.pages["/big"] = (200, {}, b"x" * 100_000)

    assert fetch.probe(site.url("/big"), site.reach(limit=10)).status == 200


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("http://github.com/o/r", "only https"), ("ftp://github.com/", "only https"), ("javascript:x", "only https"),
        ("file:///etc/passwd", "only https"), ("//github.com", "only https"),
        ("https://user@github.com/", "user name or password"), ("https://a:b@github.com/", "user name or password"),
        ("https://github.com:443@127.0.0.1/", "user name or password"), ("https://github.com\\@evil.example/", "user"),
        ("https://127.0.0.1/", "numbers"), ("https://127.1/", "numbers"), ("https://2130706433/", "numbers"),
        ("https://0x7f000001/", "numbers"), ("https://127.0.0.0x1/", "numbers"), ("https://[::1]/", "not an address"),
        ("https://localhost/", "not the name"), ("https://github.com./", "not the name"), ("https://a.b:0/", "not"),
        ("https://a.b:99999/", "not"), ("https://github.com/\n", "not an address"), ("https://gıthub.com/", "not"),
        ("https://github.com/ü", "not an address"), ("https://github.com/a b", "not an address"), ("https:///x", "not"),
        ("https://github.com/" + "x" * 2000, "characters"), ("https://evil.example/", "not one of the hosts"),
        ("https://github.com:8443/", "not one of the hosts"), ("https://xgithub.com/", "not one of the hosts"),
        ("https://github.com.evil.example/", "not one of the hosts"),
    ],
)  # fmt: skip
def test_what_may_not_be_fetched_is_refused_before_any_name_is_looked_up(url: str, told: str) -> None:
    asked: list[str] = []

    with pytest.raises(Refused, match=told) as refused:
        fetch.get(url, Reach(resolve=lambda host, port: asked.append(host) or ["1.1.1.1"]))

    assert asked == []
    assert "a:b" not in refused.value.message


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0",
        "224.0.0.1", "240.0.0.1", "255.255.255.255", "192.0.2.1", "198.18.0.1", "::1", "::", "fe80::1", "fc00::1",
        "ff02::1", "fec0::1", "::ffff:127.0.0.1", "::ffff:8.8.8.8", "::127.0.0.1", "64:ff9b::7f00:1",
        "64:ff9b:1::1", "2001:db8::1", "2002:7f00:1::", "2001::1", "3fff::1", "100::1",
    ],
)  # fmt: skip
def test_a_host_at_an_address_that_is_not_the_internets_is_refused(address: str) -> None:
    assert not public(ip_address(address))
    for answers in ([address], ["1.1.1.1", address]):
        with pytest.raises(Refused, match="not an address of the internet"):
            fetch.get("https://github.com/", Reach(resolve=lambda host, port, found=answers: found))


@pytest.mark.parametrize("address", ["1.1.1.1", "140.82.121.4", "2606:4700::1", "64:ff9b::101:101"])
def test_addresses_of_the_internet_are_taken(address: str) -> None:
    assert public(ip_address(address))


@pytest.mark.parametrize("answer", ["fe80::1%eth0", "nonsense", ""])
def test_an_answer_of_the_resolver_that_is_no_address_is_refused(answer: str) -> None:
    with pytest.raises(Refused):
        fetch.get("https://github.com/", Reach(resolve=lambda host, port: [answer]))


def test_without_the_tests_seam_this_machine_cannot_be_asked(site: Site) -> None:
    with pytest.raises(Refused, match=r"127\.0\.0\.1"):
        fetch.get(site.url("/a"), replace(site.reach(), allowed=public))

    assert site.asked == []


def test_a_name_is_looked_up_once_so_that_a_second_answer_changes_nothing(site: Site) -> None:
    site.addresses = [["127.0.0.1"], ["127.0.0.2"]]
    site.pages["/moved"] = (302, {"Location": "/a"}, b"")

    assert fetch.get(site.url("/moved"), site.reach()).body == b"hello"
    assert site.looked_up == [HOST]
    with pytest.raises(Refused, match=r"127\.0\.0\.2"):
        fetch.get(site.url("/a"), site.reach())


@pytest.mark.parametrize(
    ("location", "told"),
    [
        ("https://other.example/a", "other.example"), ("http://{host}/a", "only https"), ("//other.example", "another"),
        ("https://{name}/a", "another host"), ("https://u@{host}/a", "user name"), ("https://127.0.0.1/a", "numbers"),
        ("file:///etc/passwd", "only https"), ("//[", "no address"), ("/again", "more than 5 times"),
    ],
)  # fmt: skip
def test_a_redirect_away_from_the_host_is_refused(site: Site, location: str, told: str) -> None:
    to = location.format(host=f"{HOST}:{site.port}", name=HOST)
    site.pages["/again"] = (302, {"Location": to}, b"")

    with pytest.raises(Refused, match=told):
        fetch.get(site.url("/again"), site.reach())
    assert site.looked_up == [HOST]


def test_an_answer_over_the_limit_is_refused_whether_it_says_so_or_not(site: Site) -> None:
    site.pages["/told"] = (200, {}, b"x" * 1001)
    site.pages["/untold"] = (200, {"Content-Length": ""}, b"x" * 1001)
    site.pages["/fits"] = (200, {"Content-Length": ""}, b"x" * 1000)

    for path in ("/told", "/untold"):
        with pytest.raises(Refused, match="larger than 1000 bytes"):
            fetch.get(site.url(path), site.reach(limit=1000))
    assert len(fetch.get(site.url("/fits"), site.reach(limit=1000)).body) == 1000


def test_an_answer_that_was_compressed_is_refused(site: Site) -> None:
    site.pages["/zip"] = (200, {"Content-Encoding": "gzip"}, b"\x1f\x8b")

    with pytest.raises(Refused, match="compressed"):
        fetch.get(site.url("/zip"), site.reach())


def test_an_answer_that_only_drips_ends_in_time(site: Site) -> None:
    site.pages["/slow"] = (200, {}, b"x" * 60)
    site.drip = 0.05
    began = time.monotonic()

    with pytest.raises(Unreachable, match="in time"):
        fetch.get(site.url("/slow"), site.reach(seconds=0.5))
    assert time.monotonic() - began < 2


def test_a_head_that_only_drips_ends_in_time(site: Site) -> None:
    site.slow_head = 0.1
    began = time.monotonic()

    with pytest.raises(Unreachable, match="in time"):
        fetch.get(site.url("/a"), site.reach(seconds=0.6))
    assert time.monotonic() - began < 2


def test_a_host_that_does_not_answer_is_unreachable(site: Site) -> None:
    closed = f"{HOST}:1"

    with pytest.raises(Unreachable, match="did not answer"):
        fetch.get(f"https://{closed}/", site.reach(hosts=frozenset({closed})))
    with pytest.raises(Unreachable, match="was not found"):
        fetch.get(site.url("/a"), site.reach(resolve=lambda host, port: []))


def test_a_certificate_of_another_name_or_of_nobody_is_not_taken(site: Site) -> None:
    other = f"other.example:{site.port}"

    with pytest.raises(Unreachable):
        fetch.get(f"https://{other}/a", site.reach(hosts=frozenset({other})))
    with pytest.raises(Unreachable):
        fetch.get(site.url("/a"), site.reach(cafile=None))
    assert site.asked == []


def test_hosts_of_a_setting_are_names() -> None:
    assert hosts_of(" git.Example.org, a.example:8443,") == {"git.example.org", "a.example:8443"}
    assert hosts_of("") == frozenset()
    for text in ("localhost", "127.0.0.1", "[::1]", "https://a.example", "a.example/x", "*.example", "a.example:0",
                 "a.example:", "a.example:x", "-a.example", "a..example"):  # fmt: skip
        with pytest.raises(Usage, match="invalid host"):
            hosts_of(text)
    assert all(hosts_of(host) for host in HOSTS)


def test_a_url_is_split_as_it_will_be_asked() -> None:
    assert split("HTTPS://GitHub.com") == ("github.com", 443, "/")
    assert split("https://github.com?a=1#b") == ("github.com", 443, "/?a=1")
    assert split("https://github.com:8443/a//b/@c#d") == ("github.com", 8443, "/a//b/@c")
