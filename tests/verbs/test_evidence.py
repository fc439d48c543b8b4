"""Evidence that is handed in, and looked at again: real git, a real commons, and a code host of our own."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import User, World
from tests.verbs.site import HOST, Site, serving
from wasteland import evidence
from wasteland.errors import BadSignature, NotFound, Refused, Unreachable, Usage, WastelandError
from wasteland.evidence import Commits, gitread
from wasteland.evidence.fetch import Reach
from wasteland.evidence.gitread import Source
from wasteland.local.config import Paths
from wasteland.market import board
from wasteland.node.node import Node, open_node
from wasteland.trust.manifest import Report, checked_manifest
from wasteland.trust.statements import text_manifest

WHO = dict.fromkeys(("GIT_AUTHOR_EMAIL", "GIT_COMMITTER_EMAIL"), "a@example.com") | {
    "GIT_AUTHOR_NAME": "a", "GIT_COMMITTER_NAME": "a", "GIT_CONFIG_GLOBAL": "/dev/null", "HOME": "/nonexistent",
}  # fmt: skip
NOWHERE = Reach(hosts=frozenset())


def git(folder: Path, *words: str) -> str:
    done = subprocess.run(
        ["git", *words], cwd=folder, env={"PATH": os.environ["PATH"], **WHO}, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


def commit(folder: Path, name: str, text: str) -> str:
    (folder / name).write_text(text)
    git(folder, "add", name)
    git(folder, "commit", "-qm", f"{name}: {text[:10]}")
    return git(folder, "rev-parse", "HEAD")


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    """A repository whose main is at `one`, and whose branch `work` has one commit more."""
    folder = tmp_path / "project"
    folder.mkdir()
    git(folder, "init", "-q", "-b", "main")
    commit(folder, "a.txt", "one\n")
    git(folder, "checkout", "-qb", "work")
    commit(folder, "a.txt", "two\n")
    git(folder, "checkout", "-q", "main")
    return folder


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with serving(tmp_path / "site") as made:
        yield made


def published(repo: Path, site: Site) -> str:
    """The repository as the site serves it; its URL."""
    target = site.folder / "o" / "project.git"
    git(repo, "clone", "-q", "--bare", str(repo), str(target))
    return site.url("/o/project.git")


def patch_of(repo: Path, base: str, head: str) -> str:
    flags = ("--no-ext-diff", "--no-textconv", "--no-color", "--full-index", "--binary")
    done = subprocess.run(["git", "diff", *flags, base, head], cwd=repo, env={"PATH": os.environ["PATH"], **WHO},
                          check=True, capture_output=True)  # fmt: skip
    return hashlib.sha256(done.stdout).hexdigest()


def changes_of(repo: Path, base: str, head: str) -> str:
    """As the decision on it says, from the two commits' trees alone."""
    trees = []
    for name in (base, head):
        listed = [line.split("\t", 1) for line in git(repo, "ls-tree", "-r", "-z", name).split("\0") if line]
        trees.append({path: (meta.split()[0], meta.split()[2]) for meta, path in listed})
    text = ""
    for path in sorted(trees[0].keys() | trees[1].keys(), key=os.fsencode):
        old, new = (tree.get(path, ("000000", "0" * 40)) for tree in trees)
        if old != new:
            text += f"{old[0]} {old[1]} {new[0]} {new[1]}\t{path}\0"
    return hashlib.sha256(text.encode()).hexdigest()


# What is handed in.


def test_words_and_addresses_are_signed_as_they_always_were() -> None:
    for text in ("done", "https://example.com/pr/7", "https://github.com/o/r/pull/7", "zwei\nZeilen", "commit abc"):
        assert evidence.make(text, reach=NOWHERE) == (text, text_manifest(text))


@pytest.mark.parametrize("where", ["commit", "-/commit", "commits"])
def test_the_address_of_a_commit_names_it(where: str) -> None:
    text = f"https://github.com/o/r/{where}/{'a' * 40}"

    _, manifest = evidence.make(text, reach=NOWHERE)

    assert manifest == {"v": 1, "kind": "url", "uri": text, "repo": "https://github.com/o/r", "head": "a" * 40}


def test_a_file_is_signed_by_its_digest(tmp_path: Path) -> None:
    file = tmp_path / "my report.pdf"
    file.write_bytes(b"pdf")
    digest = hashlib.sha256(b"pdf").hexdigest()

    text, manifest = evidence.make(None, file=file, reach=NOWHERE)

    assert text == f"sha256:{digest}#my%20report.pdf"
    assert manifest == {"v": 1, "kind": "blob", "uri": text, "sha256": digest, "size": 3}
    assert evidence.make("see the wiki", file=file, reach=NOWHERE)[1]["uri"] == "see the wiki"
    with pytest.raises(Usage):
        evidence.make("two\nlines", file=file, reach=NOWHERE)
    with pytest.raises(NotFound):
        evidence.make(None, file=tmp_path / "none", reach=NOWHERE)


def test_commits_are_signed_with_the_patch_between_them(repo: Path) -> None:
    base, head = git(repo, "rev-parse", "main"), git(repo, "rev-parse", "work")

    text, manifest = evidence.make(None, commits=Commits(str(repo), "main", "work"), reach=NOWHERE)

    assert manifest == {"v": 1, "kind": "git", "uri": f"project#{head}", "repo": "project", "base": base, "head": head,
                        "format": 2, "changes_sha256": changes_of(repo, base, head)}  # fmt: skip
    assert text == manifest["uri"]
    for names in ((base, head), (base[:12], head[:12]), ("HEAD", "work"), ("work^", "refs/heads/work")):
        assert evidence.make(None, commits=Commits(str(repo), *names), reach=NOWHERE)[1] == manifest
    assert evidence.make(None, commits=Commits(f"file://{repo}", "main", "work"), reach=NOWHERE)[1] == manifest


@pytest.mark.parametrize(
    ("origin", "told"),
    [
        ("https://github.com/o/r.git", "https://github.com/o/r.git"), ("git@github.com:o/r.git", "https://github.com/o/r.git"),
        ("ssh://git@github.com/o/r", "https://github.com/o/r"), ("https://u:secret@github.com/o/r", "https://github.com/o/r"),
        ("/home/ada/private", "project"), ("ext::sh -c evil", "project"), ("http://a.example/x", "project"),
    ],
)  # fmt: skip
def test_a_repository_is_told_of_by_its_address_and_no_path_or_secret_leaves(
    repo: Path, origin: str, told: str
) -> None:
    git(repo, "config", "remote.origin.url", origin)

    _, manifest = evidence.make(None, commits=Commits(str(repo), "main", "work"), reach=NOWHERE)

    assert manifest["repo"] == told
    assert "secret" not in json.dumps(manifest)


def test_a_range_that_is_none_is_refused(repo: Path, tmp_path: Path) -> None:
    base, head = git(repo, "rev-parse", "main"), git(repo, "rev-parse", "work")
    commit(repo, "b.txt", "other\n")

    def of(*names: str, where: Path = repo) -> Any:
        return evidence.make(None, commits=Commits(str(where), *names), reach=NOWHERE)

    with pytest.raises(Refused, match="does not hold") as refused:
        of("main", "work")
    assert refused.value.hint is not None
    assert base in refused.value.hint
    with pytest.raises(Refused, match="nothing between"):
        of(head, "work")
    with pytest.raises(Refused, match="first commit"):
        of("", base)
    for name in ("none", "--upload-pack=touch", "a" * 40, "work:a.txt", "HEADX"):
        with pytest.raises(NotFound, match="has no commit"):
            of(base, name)
    with pytest.raises(NotFound, match="no repository"):
        of("main", "work", where=tmp_path / "none")
    with pytest.raises(Unreachable, match="cannot be read"):
        of("main", "work", where=tmp_path)
    for url in ("ssh://git@github.com/o/r", "ext::sh", "http://github.com/o/r", "git://github.com/o/r"):
        with pytest.raises((Usage, NotFound)):
            evidence.make(None, commits=Commits(url, "a", "b"), reach=NOWHERE)


def test_nothing_that_a_repository_configures_is_run(repo: Path, tmp_path: Path) -> None:
    base, head = git(repo, "rev-parse", "main"), git(repo, "rev-parse", "work")
    expected, patch = changes_of(repo, base, head), patch_of(repo, base, head)
    run = tmp_path / "ran"
    script = tmp_path / "evil.sh"
    script.write_text(f"#!/bin/sh\ntouch {run}\ncat\n")
    script.chmod(0o755)
    for key in ("core.fsmonitor", "diff.external", "filter.x.clean", "filter.x.smudge", "diff.x.textconv",
                "diff.x.command", "core.pager", "core.sshCommand", "uploadpack.packObjectsHook", "core.askPass",
                "credential.helper"):  # fmt: skip
        git(repo, "config", key, str(script))
    (repo / ".gitattributes").write_text("* filter=x diff=x\n")
    (repo / ".git" / "info" / "attributes").write_text("* filter=x diff=x\n")
    (repo / ".git" / "hooks").mkdir(exist_ok=True)
    for hook in ("post-checkout", "reference-transaction", "post-index-change", "pre-auto-gc", "update"):
        (repo / ".git" / "hooks" / hook).write_text(script.read_text())
        (repo / ".git" / "hooks" / hook).chmod(0o755)

    _, manifest = evidence.make(None, commits=Commits(str(repo), "main", "work"), reach=NOWHERE)

    assert manifest["changes_sha256"] == expected
    assert not run.exists()
    with gitread.scratch() as scratch:
        assert scratch.take(Source(str(repo)))
        assert scratch.patch_sha256(base, head) == patch
    assert not run.exists()


def test_attributes_that_a_branch_brings_do_not_change_what_is_signed(repo: Path) -> None:
    git(repo, "checkout", "-q", "work")
    commit(repo, ".gitattributes", "a.txt binary\n")
    head = git(repo, "rev-parse", "HEAD")
    git(repo, "clone", "-q", "--bare", ".", "bare.git")

    _, manifest = evidence.make(None, commits=Commits(str(repo / "bare.git"), "main", head), reach=NOWHERE)

    assert manifest["changes_sha256"] == changes_of(repo, "main", head)
    with gitread.scratch() as scratch:
        assert scratch.take(Source(str(repo)))
        assert scratch.patch_sha256(manifest["base"], head) == patch_of(repo / "bare.git", "main", head)


def test_no_setting_of_git_changes_what_is_signed(repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Renames, modes, line ends, links, names that are quoted: one digest, whatever the user and the repository set."""
    git(repo, "checkout", "-q", "work")
    for name, text in (("ü b.txt", "x\r\ny\n"), ("tab\there", "1\n"), ("d/e.c", "int f() {\n}\n" * 30), ("d.c", "")):
        (repo / name).parent.mkdir(exist_ok=True)
        (repo / name).write_bytes(text.encode())
    (repo / "link").symlink_to("a.txt")
    git(repo, "add", ".")
    git(repo, "mv", "a.txt", "moved.txt")
    (repo / "moved.txt").chmod(0o755)
    git(repo, "commit", "-qam", "all")
    git(repo, "rm", "-q", "d.c")
    (repo / "d.c").mkdir()
    commit(repo, "d.c/f", "a file is a folder now\n")
    given = Commits(str(repo), "main", "work")
    _, plain = evidence.make(None, commits=given, reach=NOWHERE)
    assert plain["changes_sha256"] == changes_of(repo, "main", "work")

    settings = ("core.autocrlf=true", "core.abbrev=5", "core.quotePath=false", "diff.algorithm=histogram",
                "diff.noprefix=true", "diff.mnemonicPrefix=true", "diff.renames=copies", "diff.context=9",
                "diff.ignoreSubmodules=all", "diff.relative=true", "diff.orderFile=/etc/passwd", "color.ui=always",
                "diff.wsErrorHighlight=all", "diff.suppressBlankEmpty=true", "core.compression=0",
                "core.fileMode=false", "core.ignoreCase=true")  # fmt: skip
    home = tmp_path / "set"
    (home / ".config" / "git").mkdir(parents=True)
    for one in settings:
        git(repo, "config", *one.split("=", 1))
        git(repo, "config", "--file", str(home / ".gitconfig"), *one.split("=", 1))
    (home / ".config" / "git" / "attributes").write_text("* -text diff=cpp eol=crlf\n")
    (repo / ".git" / "info" / "attributes").write_text("* binary\n")
    monkeypatch.setenv("HOME", str(home))
    for name, value in (("GIT_DIFF_OPTS", "-u1"), ("GIT_EXTERNAL_DIFF", "/bin/false"), ("GIT_CONFIG_COUNT", "x")):
        monkeypatch.setenv(name, value)

    assert evidence.make(None, commits=given, reach=NOWHERE)[1] == plain


def test_commits_of_a_shallow_clone_are_handed_in_or_it_is_said_that_it_is_one(repo: Path, tmp_path: Path) -> None:
    git(repo, "checkout", "-q", "work")
    commit(repo, "a.txt", "three\n")

    def of(depth: int, base: str) -> Any:
        copy = tmp_path / f"copy{depth}"
        if not copy.exists():
            git(tmp_path, "clone", "-q", "--depth", str(depth), f"file://{repo}", str(copy))
        return evidence.make(None, commits=Commits(str(copy), base, "HEAD"), reach=NOWHERE)[1]

    whole = evidence.make(None, commits=Commits(str(repo), "work~1", "work"), reach=NOWHERE)[1]
    for base in ("HEAD~1", ""):
        made = of(2, base)
        assert [made[name] for name in ("base", "head", "changes_sha256")] == [
            whole[name] for name in ("base", "head", "changes_sha256")
        ]
        with pytest.raises((NotFound, Refused), match="shallow clone, and its history is cut off") as refused:
            of(1, base)
        assert "--unshallow" in str(refused.value.hint)


def test_a_partial_clone_that_lacks_objects_is_said_to_be_one(repo: Path, tmp_path: Path) -> None:
    git(repo, "config", "uploadpack.allowFilter", "true")
    git(tmp_path, "clone", "-q", "--bare", "--filter=blob:none", f"file://{repo}", "part")

    with pytest.raises(Unreachable, match="partial clone, which lacks objects"):
        evidence.make(None, commits=Commits(str(tmp_path / "part"), "main", "work"), reach=NOWHERE)


def test_with_fetch_an_address_is_signed_by_what_it_answers(site: Site) -> None:
    site.pages["/report"] = (200, {"Content-Type": "text/plain; charset=utf-8"}, b"all green")

    _, manifest = evidence.make(site.url("/report"), load=True, reach=site.reach())

    assert manifest == {"v": 1, "kind": "url", "uri": site.url("/report"), "size": 9, "media_type": "text/plain",
                        "sha256": hashlib.sha256(b"all green").hexdigest()}  # fmt: skip
    with pytest.raises(NotFound, match="404"):
        evidence.make(site.url("/none"), load=True, reach=site.reach())
    with pytest.raises(Usage, match="only an address"):
        evidence.make("words", load=True, reach=site.reach())
    with pytest.raises(Refused, match="not one of the hosts"):
        evidence.make(site.url("/report"), load=True, reach=NOWHERE)
    with pytest.raises(Refused, match="only https"):
        evidence.make("http://github.com/x", load=True, reach=site.reach())


def test_with_fetch_the_address_of_a_commit_or_pull_request_is_read_with_git(repo: Path, site: Site) -> None:
    base, head = git(repo, "rev-parse", "main"), git(repo, "rev-parse", "work")
    url = published(repo, site)
    git(site.folder / "o" / "project.git", "update-ref", "refs/pull/7/head", head)

    _, manifest = evidence.make(f"{url}/commit/{head}", load=True, reach=site.reach())
    assert (manifest["kind"], manifest["base"], manifest["head"]) == ("git", base, head)
    assert manifest["changes_sha256"] == changes_of(repo, base, head)
    assert manifest["repo"] == url

    _, manifest = evidence.make(f"{url}/pull/7/files", load=True, reach=site.reach())
    assert manifest == {"v": 1, "kind": "url", "uri": f"{url}/pull/7/files", "repo": url, "head": head}
    with pytest.raises(NotFound, match=r"refs/pull/8/head"):
        evidence.make(f"{url}/pull/8", load=True, reach=site.reach())


def test_git_goes_to_the_address_that_was_checked_and_follows_no_redirect(repo: Path, site: Site) -> None:
    url = published(repo, site)
    with gitread.scratch() as scratch:
        assert scratch.refs(Source(url, f"{HOST}:{site.port}:127.0.0.1", site.folder / "cert.pem"))
        assert scratch.refs(Source(url, f"{HOST}:{site.port}:127.0.0.2", site.folder / "cert.pem")) is None
        assert scratch.refs(Source(url, "", site.folder / "cert.pem")) is None  # https only for what was checked
        assert scratch.refs(Source(str(repo), "a.example:443:127.0.0.1")) is None  # and then no path
        for path in ("/info/refs", "/info/refs?service=git-upload-pack"):
            site.pages[f"/moved{path}"] = (302, {"Location": f"{url}{path}"}, b"")
        assert (
            scratch.refs(Source(site.url("/moved"), f"{HOST}:{site.port}:127.0.0.1", site.folder / "cert.pem")) is None
        )


def test_a_page_that_is_no_repository_is_not_read_as_one(site: Site) -> None:
    for path in ("/r/info/refs?service=git-upload-pack", "/moved/info/refs?service=git-upload-pack"):
        site.pages[path] = (200, {"Content-Type": "text/plain"}, b"a" * 40 + b"\trefs/heads/main\n")
    site.pages["/moved/info/refs?service=git-upload-pack"] = (302, {"Location": "/r"}, b"")
    site.pages["/r"] = (200, {"Content-Type": "application/x-git-upload-pack-advertisement"}, b"")

    for path in ("/r", "/moved", "/r?x=1", "/r#x"):
        with pytest.raises((Unreachable, Refused)):
            evidence.make(None, commits=Commits(site.url(path), "a", "b"), reach=site.reach())
    assert not any("git/" in headers["User-Agent"] for _, headers in site.asked)


def test_a_repository_or_patch_over_the_limit_is_not_read(repo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    git(repo, "checkout", "-q", "work")
    (repo / "noise").write_bytes(os.urandom(300_000))
    git(repo, "add", "noise")
    git(repo, "commit", "-qm", "noise")

    monkeypatch.setattr(gitread, "LIMIT", 100_000)
    with pytest.raises(Unreachable, match="cannot be read"):
        evidence.make(None, commits=Commits(str(repo), "main", "work"), reach=NOWHERE)
    monkeypatch.setattr(gitread, "LIMIT", 310_000)
    evidence.make(None, commits=Commits(str(repo), "main", "work"), reach=NOWHERE)
    with gitread.scratch() as scratch:
        assert scratch.take(Source(str(repo)))
        with pytest.raises(Refused, match="larger than 310000 bytes"):
            scratch.patch_sha256("main", "work")
    monkeypatch.setattr(gitread, "LISTED", 170)
    with pytest.raises(Refused, match="not within 170 bytes"):
        evidence.make(None, commits=Commits(str(repo), "main", "work"), reach=NOWHERE)


def test_objects_that_no_honest_git_makes_are_not_taken(repo: Path) -> None:
    blob = git(repo, "hash-object", "-w", "a.txt")
    made = subprocess.run(["git", "mktree"], cwd=repo, env={"PATH": os.environ["PATH"], **WHO}, check=True,
                          input=f"100644 blob {blob}\t.git\n".encode(), capture_output=True)  # fmt: skip
    head = git(repo, "commit-tree", "-p", "main", "-m", "bad", made.stdout.decode().strip())
    git(repo, "branch", "bad", head)

    with pytest.raises(Unreachable, match="cannot be read"):
        evidence.make(None, commits=Commits(str(repo), "main", "bad"), reach=NOWHERE)


def test_a_repository_that_only_drips_ends_in_time(repo: Path, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    source = Source(published(repo, site), f"{HOST}:{site.port}:127.0.0.1", site.folder / "cert.pem")
    site.slow_head = 0.1
    monkeypatch.setattr(gitread, "TIMEOUT", 1)
    began = time.monotonic()

    with gitread.scratch() as scratch, pytest.raises(Unreachable, match="within 1 seconds"):
        scratch.refs(source)
    assert time.monotonic() - began < 4


# What is looked at again.


@contextmanager
def at(user: User) -> Iterator[Node]:
    node = open_node("acme/commons", Paths(user.home, user.home / ".config", user.home / ".local" / "share"))
    try:
        yield node
    finally:
        node.close()


@pytest.fixture(scope="module")
def poster(shared_world: World) -> User:
    return shared_world.create(mode="wild-west")


Submit = Callable[..., str]


@pytest.fixture
def submit(poster: User) -> Submit:
    """Post, claim and finish an item with evidence; its id."""

    def handed_in(text: str | None = None, **given: Any) -> str:
        with at(poster) as node:
            words, manifest = evidence.make(text, reach=given.pop("reach", NOWHERE), **given)
            return submitted(node, words, manifest)

    return handed_in


def submitted(node: Node, words: str, manifest: dict[str, Any]) -> str:
    item = board.post(node, {"title": "Do it"}).item.id
    board.claim(node, item)
    board.done(node, item, words, manifest=manifest)
    return item


def checked(user: User, what: str, **given: Any) -> Report:
    with at(user) as node:
        return evidence.check(node, what, **({"reach": NOWHERE} | given))


def states(report: Report) -> dict[str, str]:
    return {part.name: part.state.value for part in report.parts}


def test_text_is_the_same_while_its_row_is(poster: User, submit: Submit) -> None:
    item = submit("done, see the log")

    report = checked(poster, item)
    assert (report.exit_code, states(report)) == (0, {"signature": "same", "text": "same"})
    assert checked(poster, report.completion) == report

    with at(poster) as node, node.db.at("main").change("forged"):
        node.db.at("main").run("UPDATE completions SET evidence = 'else' WHERE wanted_id = :id", id=item)
    report = checked(poster, item)
    assert (report.exit_code, states(report)) == (1, {"signature": "changed", "text": "changed"})


def test_of_an_address_whose_words_are_signed_only_the_answer_can_be_told(
    poster: User, submit: Submit, site: Site
) -> None:
    site.pages["/pr"] = (200, {}, b"x")
    item = submit(site.url("/pr"))

    report = checked(poster, item, reach=site.reach())
    assert (report.exit_code, states(report)["address"]) == (3, "not checkable")
    assert "not signed" in report.parts[-1].detail
    site.pages["/pr"] = (410, {}, b"")
    report = checked(poster, item, reach=site.reach())
    assert (report.exit_code, states(report)["address"]) == (1, "gone")
    site.pages["/pr"] = (503, {}, b"")
    assert checked(poster, item, reach=site.reach()).exit_code == 3
    report = checked(poster, item)
    assert (report.exit_code, states(report)["address"]) == (3, "not checkable")
    assert "not one of the hosts" in report.parts[-1].detail


def test_what_an_address_answered_is_compared(poster: User, submit: Submit, site: Site) -> None:
    site.pages["/r"] = (200, {}, b"all green")
    item = submit(site.url("/r"), load=True, reach=site.reach())

    assert checked(poster, item, reach=site.reach()).exit_code == 0
    site.pages["/r"] = (200, {}, b"all gree!")
    report = checked(poster, item, reach=site.reach())
    assert (report.exit_code, states(report)["content"]) == (1, "changed")
    assert hashlib.sha256(b"all gree!").hexdigest() in "\n".join(report.lines())
    assert hashlib.sha256(b"all green").hexdigest() in "\n".join(report.lines())
    del site.pages["/r"]
    assert states(checked(poster, item, reach=site.reach()))["content"] == "gone"
    site.pages["/r"] = (302, {"Location": "https://other.example/"}, b"")
    report = checked(poster, item, reach=site.reach())
    assert (report.exit_code, states(report)["content"]) == (3, "not checkable")
    site.pages["/r"] = (200, {}, b"x" * 100)
    assert checked(poster, item, reach=site.reach(limit=10)).exit_code == 3


def test_a_file_is_compared_with_the_one_that_the_user_has(poster: User, submit: Submit, tmp_path: Path) -> None:
    file = tmp_path / "report"
    file.write_bytes(b"one")
    item = submit(file=file)

    assert states(checked(poster, item))["content"] == "not checkable"
    assert checked(poster, item).exit_code == 3
    assert checked(poster, item, file=file).exit_code == 0
    file.write_bytes(b"two")
    assert checked(poster, item, file=file).exit_code == 1
    with pytest.raises(Usage, match="names no commit"):
        checked(poster, item, repo=str(tmp_path))


def test_commits_are_compared_in_the_repository_that_the_user_names(poster: User, submit: Submit, repo: Path) -> None:
    item = submit(commits=Commits(str(repo), "main", "work"))
    names = ["signature", "text", "repository", "head", "history", "base", "changes"]

    report = checked(poster, item)
    assert (report.exit_code, states(report)["repository"]) == (3, "not checkable")
    report = checked(poster, item, repo=str(repo))
    assert (report.exit_code, states(report)) == (0, dict.fromkeys(names, "same"))
    with pytest.raises(Usage, match="no digest"):
        checked(poster, item, file=repo / "a.txt")
    with pytest.raises(NotFound, match="no repository"):
        checked(poster, item, repo=str(repo / "none"))
    with pytest.raises(NotFound, match="c-none"):
        checked(poster, "c-none")


def test_a_branch_that_was_rewritten_shows(poster: User, submit: Submit, repo: Path) -> None:
    item = submit(commits=Commits(str(repo), "main", "work"))
    git(repo, "checkout", "-q", "work")
    git(repo, "commit", "-q", "--amend", "-m", "rewritten")

    report = checked(poster, item, repo=str(repo))
    assert (report.exit_code, states(report)["head"], states(report)["history"]) == (1, "same", "changed")

    git(repo, "reflog", "expire", "--expire=now", "--all")
    git(repo, "gc", "-q", "--prune=now")
    report = checked(poster, item, repo=str(repo))
    assert (report.exit_code, states(report)["head"]) == (1, "gone")
    assert "changes" not in states(report)


def test_changes_that_are_not_those_that_were_signed_show(poster: User, repo: Path) -> None:
    _, manifest = evidence.make(None, commits=Commits(str(repo), "main", "work"), reach=NOWHERE)
    git(repo, "branch", "other", "work")
    base, head = manifest["base"], manifest["head"]
    with at(poster) as node:
        lied = submitted(node, manifest["uri"], manifest | {"changes_sha256": "0" * 64})
        turned = submitted(node, manifest["uri"], manifest | {"base": head, "head": base})
        lost = submitted(node, manifest["uri"], manifest | {"base": "0" * 40})

    report = checked(poster, lied, repo=str(repo))
    assert (report.exit_code, states(report)["changes"]) == (1, "changed")
    assert states(checked(poster, turned, repo=str(repo)))["base"] == "changed"
    assert states(checked(poster, lost, repo=str(repo)))["base"] == "gone"


def test_evidence_of_the_first_format_is_compared_and_another_gits_patch_is_no_change(poster: User, repo: Path) -> None:
    _, today = evidence.make(None, commits=Commits(str(repo), "main", "work"), reach=NOWHERE)
    old = {name: value for name, value in today.items() if name not in ("format", "changes_sha256")}
    with at(poster) as node:
        same = submitted(node, old["uri"], old | {"patch_sha256": patch_of(repo, old["base"], old["head"])})
        other = submitted(node, old["uri"], old | {"patch_sha256": "0" * 64})

    report = checked(poster, same, repo=str(repo))
    assert (report.exit_code, states(report)["patch"]) == (0, "same")
    report = checked(poster, other, repo=str(repo))
    assert (report.exit_code, states(report)["patch"]) == (3, "not checkable")
    assert "cannot be checked here: git version" in report.parts[-1].detail


def test_what_a_shallow_copy_lacks_is_not_called_gone(poster: User, submit: Submit, repo: Path, tmp_path: Path) -> None:
    git(repo, "checkout", "-q", "work")
    commit(repo, "a.txt", "three\n")
    commit(repo, "a.txt", "four\n")
    last = submit(commits=Commits(str(repo), "work~1", "work"))
    first = submit(commits=Commits(str(repo), "main", "work~1"))
    copies = {}
    for depth in (1, 2, 3):
        copies[depth] = str(tmp_path / f"copy{depth}")
        git(tmp_path, "clone", "-q", "--depth", str(depth), f"file://{repo}", copies[depth])

    assert checked(poster, last, repo=copies[2]).exit_code == 0
    for item, depth, name in ((last, 1, "base"), (first, 1, "head"), (first, 3, "base")):
        report = checked(poster, item, repo=copies[depth])
        assert (report.exit_code, states(report)[name]) == (3, "not checkable")
        assert "this copy is shallow: its history is cut off" in report.parts[-1].detail
    git(Path(copies[3]), "fetch", "-q", "origin", "refs/heads/main:refs/heads/main", "--depth=1")
    report = checked(poster, first, repo=copies[3])  # both commits, and nothing that joins them
    assert (report.exit_code, states(report)["base"], states(report)["changes"]) == (3, "not checkable", "same")


def test_a_repository_on_a_code_host_is_read_there(poster: User, submit: Submit, repo: Path, site: Site) -> None:
    url = published(repo, site)
    item = submit(commits=Commits(url, "main", "work"), reach=site.reach())
    other = submit(f"{url}/commit/{git(repo, 'rev-parse', 'work')}")

    for one in (item, other):
        assert checked(poster, one, reach=site.reach()).exit_code == 0
        report = checked(poster, one)
        assert (report.exit_code, states(report)["repository"]) == (3, "not checkable")
    site.addresses = [["127.0.0.1"], ["10.0.0.1"]]
    assert checked(poster, item, reach=site.reach()).exit_code == 0
    assert checked(poster, item, reach=site.reach()).exit_code == 3
    site.addresses = [["127.0.0.1"]]
    (site.folder / "o" / "project.git").rename(site.folder / "o" / "away.git")
    report = checked(poster, item, reach=site.reach())
    assert (report.exit_code, states(report)["repository"]) == (1, "gone")
    assert checked(poster, item, repo=str(repo)).exit_code == 0


@pytest.mark.parametrize("where", ["/etc", "file:///etc", "ssh://git@github.com/o/r", "ext::touch x", "http://a.example/r",
                                   "https://u:p@github.com/o/r", "https://127.0.0.1/r", "--upload-pack=x"])  # fmt: skip
def test_where_a_stranger_says_that_a_repository_is_nothing_is_opened(poster: User, where: str) -> None:
    manifest = {"v": 1, "kind": "git", "uri": "u", "repo": where, "base": "a" * 40, "head": "b" * 40,
                "patch_sha256": "0" * 64}  # fmt: skip
    with at(poster) as node:
        item = submitted(node, "u", manifest)

    report = checked(poster, item, reach=Reach(resolve=lambda host, port: pytest.fail("looked up")))
    assert (report.exit_code, states(report)["repository"]) == (3, "not checkable")


@pytest.mark.parametrize(
    "change", [{"more": 1}, {"size": "3"}, {"sha256": None}, {"kind": "tar"}, {"uri": "a\x1b[31m"}]
)
def test_a_manifest_that_is_none_is_refused_with_a_sentence(poster: User, change: dict[str, Any]) -> None:
    manifest = {"v": 1, "kind": "blob", "uri": "u", "sha256": "5" * 64, "size": 3} | change
    with at(poster) as node:
        item = submitted(node, "u", manifest)

    with pytest.raises(BadSignature, match="evidence manifest"):
        checked(poster, item)
    told = poster.wl("evidence", "check", item)
    assert told.code == 6
    assert told.err.startswith("wl: the evidence manifest")


def test_evidence_that_nobody_signed_is_said_to_be_so(poster: User, submit: Submit, site: Site) -> None:
    site.pages["/pr"] = (200, {}, b"x")
    item = submit(site.url("/pr"))
    with at(poster) as node, node.db.at("main").change("a peer's row"):
        node.db.at("main").run("DELETE FROM wl_attestations WHERE signer = :me", me=poster.name)
        node.db.at("main").run("UPDATE completions SET block_hash = NULL WHERE wanted_id = :id", id=item)

    report = checked(poster, item, reach=site.reach())
    assert (report.exit_code, report.kind) == (3, "unsigned")
    assert "unsigned" in report.parts[0].detail
    site.pages["/pr"] = (404, {}, b"")
    assert checked(poster, item, reach=site.reach()).exit_code == 1


SIGNATURES = "UPDATE wl_attestations SET signatures = :signatures WHERE payload_sha256 = :sha"


def test_what_somebody_else_signed_is_not_the_workers_word(poster: User, submit: Submit, tmp_path: Path) -> None:
    file = tmp_path / "report"
    file.write_bytes(b"one")
    item = submit(file=file)
    with at(poster) as node:
        db = node.db.at("main")
        sha = db.value("SELECT block_hash FROM completions WHERE wanted_id = :id", id=item)
        honest = db.value("SELECT signatures FROM wl_attestations WHERE payload_sha256 = :sha", sha=sha)
        forged = json.dumps([{"keyid": "", "sig": base64.b64encode(b"x" * 64).decode()}])
        with db.change("forged"):
            db.run(SIGNATURES, signatures=forged, sha=sha)

    report = checked(poster, item)
    assert (report.exit_code, report.kind, states(report)["signature"]) == (1, "unsigned", "changed")
    assert "content" not in states(report)
    assert not poster.json("evidence", "show", item)["signed"]

    with at(poster) as node, node.db.at("main").change("mended"):
        node.db.at("main").run(SIGNATURES, signatures=honest, sha=sha)
    assert checked(poster, item, file=file).exit_code == 0


# Commands.


def test_the_commands_hand_in_show_and_check(poster: User, repo: Path, tmp_path: Path) -> None:
    item = poster.json("post", "--title", "Do it")["item"]["id"]
    poster.ok("claim", item)
    assert poster.wl("done", item).code == 64
    assert poster.wl("done", item, "--repo", str(repo), "--base", "main").code == 64
    assert poster.wl("done", item, "--evidence", "words", "--fetch").code == 64
    poster.ok("done", item, "--repo", str(repo), "--base", "main", "--head", "work")

    shown = poster.json("evidence", "show", item)
    assert shown["manifest"] == checked_manifest(shown["manifest"])
    assert (shown["manifest"]["kind"], shown["signed"]) == ("git", True)
    assert shown["manifest"]["changes_sha256"] in poster.ok("evidence", "show", shown["completion"]["id"])

    same = poster.wl("evidence", "check", item, "--repo", str(repo)).ok()
    assert same.out.startswith("SAME  c-")
    unknown = poster.wl("evidence", "check", item, "--json")
    assert (unknown.code, json.loads(unknown.out)["exit_code"]) == (3, 3)
    git(repo, "branch", "-qD", "work")
    changed = poster.wl("evidence", "check", item, "--repo", str(repo))
    assert (changed.code, changed.out.split()[0]) == (1, "CHANGED")
    assert poster.wl("evidence", "check", "w-none").code == 4
    assert poster.wl("evidence", "check", item, "--repo", str(tmp_path / "none")).code == 4


def test_a_secret_in_an_address_reaches_no_row_signature_or_message(poster: User, repo: Path, tmp_path: Path) -> None:
    secret, at_host = "S3cretTokenOfBob", "https://bob:S3cretTokenOfBob@h.example/r"
    git(repo, "config", "remote.origin.url", f"{at_host}.git")
    report = tmp_path / "report.json"
    told = []

    def finish(*words: str, about: str = "Do it") -> dict[str, Any]:
        item = poster.json("post", "--title", "Do it", "--description", about)["item"]["id"]
        poster.ok("claim", item)
        if words[0] == "orders":
            report.write_text(json.dumps({
                "wanted_id": item, "outcome": "landed", "repo": at_host, "base": "a" * 40, "head": "b" * 40,
                "changes_sha256": "c" * 64, "schema_version": 2,
                "gates": [{"argv": ["fetch", at_host], "exit": 0, "log_sha256": "0" * 64}],
            }))  # fmt: skip
        done = poster.wl(words[0], *([] if words[0] == "orders" else [item]), *words[1:]).ok()
        shown = poster.json("evidence", "show", item)
        told.extend([done.out, done.err, poster.ok("status", item), json.dumps(shown)])
        assert poster.wl("verify", "completion", shown["completion"]["id"]).code == 0
        return dict(shown["manifest"])

    assert (
        finish("done", "--evidence", f"{at_host}/pull/7?token={secret}&w=1")["uri"] == "https://h.example/r/pull/7?w=1"
    )
    assert finish("done", "--evidence", f"see {at_host}", about=f"clone {at_host}")["kind"] == "text"
    by_path = finish(
        "done", "--repo", str(repo), "--base", "main", "--head", "work", "--evidence", f"ssh://git:{secret}@h.example/r"
    )
    assert (by_path["repo"], by_path["uri"]) == ("https://h.example/r.git", "ssh://git@h.example/r")
    by_report = finish("orders", "report", str(report))
    assert (by_report["repo"], by_report["gates"][0]["argv"]) == (
        "https://h.example/r",
        ["fetch", "https://h.example/r"],
    )
    item = poster.json("post", "--title", "Do it")["item"]["id"]
    poster.ok("claim", item)
    wrong = [["--repo", one, "--base", "a", "--head", "b"] for one in (
        at_host, f"ssh://bob:{secret}@h.example/r", f"bob:{secret}@h.example:r")]  # fmt: skip
    for words in (*wrong, ["--evidence", f"https://h.example/r?token={secret}", "--fetch"]):
        for how in ([], ["--json"]):
            refused = poster.wl("done", item, *words, *how)
            assert refused.code
            told += [refused.out, refused.err]
    with at(poster) as node:
        for table, column in (("completions", "evidence"), ("wanted", "description"), ("wl_attestations", "payload")):
            rows = node.db.at("main").rows(f"SELECT {column} AS said FROM {table}")
            told += [str(row["said"]) for row in rows]
    assert not [one for one in told if secret in one]


def test_paths_of_this_machine_are_published_on_request_only(
    poster: User, repo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def of(text: str, **given: Any) -> str:
        return evidence.make(text, reach=NOWHERE, **given)[0]

    monkeypatch.setenv("HOME", str(repo.parent / "home"))
    notes = repo.parent / "home" / "notes.txt"
    notes.parent.mkdir()
    notes.touch()
    head = git(repo, "rev-parse", "work")
    assert of(f"file://{repo}#{head}") == f"project#{head}"
    assert of(f"{repo}#work and (file://{repo}), {notes}") == "project#work and (project), notes.txt"
    for text in (f"see https://h.example{repo}", "run /bin/sh", f"{repo}/a.txt", "/ or //"):
        assert of(text) == text
    assert of(f"in {repo}", paths=True) == f"in {repo}"
    given = Commits(str(repo), "main", "work")
    assert of("x", commits=given, paths=True) == "x"
    _, manifest = evidence.make(None, commits=given, paths=True, reach=NOWHERE)
    assert (manifest["repo"], manifest["uri"]) == (str(repo), f"{repo}#{head}")

    for words, shown in ((["--publish-paths"], f"file://{repo}"), ([], "project")):
        item = poster.json("post", "--title", "Do it")["item"]["id"]
        poster.ok("claim", item)
        made = poster.json("done", item, "--evidence", f"file://{repo}", *words)
        assert made["completion"]["evidence"] == shown
        assert poster.json("evidence", "show", item)["signed"]


def test_a_completion_that_is_still_a_proposal_can_be_checked_by_its_worker(world: World, tmp_path: Path) -> None:
    poster = world.create()
    item = poster.json("post", "--title", "Do it")["item"]["id"]
    poster.ok("merge", f"wl/poster/{item}")
    worker = world.join("worker", by=poster)
    worker.ok("claim", item)
    file = tmp_path / "report.txt"
    file.write_text("all green")
    made = worker.json("done", item, "--file", str(file), "--evidence", "report.txt, by mail")

    for what in (item, made["completion"]["id"]):
        assert worker.wl("evidence", "check", what, "--file", str(file)).ok().out.startswith("SAME")
        assert worker.wl("evidence", "check", what).code == 3
    assert worker.json("verify", "completion", made["completion"]["id"])["verdict"] == "verified"


def test_hosts_that_the_user_added_are_asked_too(poster: User) -> None:
    with at(poster) as node:
        assert "github.com" in evidence.reach_of(node).hosts
        node.config.node["evidence_hosts"] = "git.example.org"
        assert {"github.com", "git.example.org"} <= evidence.reach_of(node).hosts
        for wrong in (5, "127.0.0.1"):
            node.config.node["evidence_hosts"] = wrong
            with pytest.raises(WastelandError):
                evidence.reach_of(node)
