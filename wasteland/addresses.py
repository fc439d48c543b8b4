"""Addresses in a text, without what is secret in them: passwords, tokens, signatures.  Pure.

Who writes down where something is may write the key to it down as well.  Every
text that is stored, signed or said goes through here.  The expressions are
linear or bounded: strangers' text is read too.
"""

from __future__ import annotations

import functools
import re

# Words by whose form alone one knows them to be secret, with their kind.
TOKENS = (
    ("AWS key", r"(?<![A-Za-z0-9])(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}(?![A-Za-z0-9])"),
    ("GitHub token", r"(?<![A-Za-z0-9])gh[pousr]_[A-Za-z0-9]{16,255}"),
    ("GitHub token", r"(?<![A-Za-z0-9])github_pat_[A-Za-z0-9_]{16,255}"),
    ("GitLab token", r"(?<![A-Za-z0-9])glpat-[A-Za-z0-9_-]{16,255}"),
    ("Slack token", r"(?<![A-Za-z0-9])xox[a-z]-[A-Za-z0-9-]{10,255}"),
    ("DoltHub token", r"(?<![A-Za-z0-9])dhat\.v1\.[A-Za-z0-9._-]{8,255}"),
    ("API key", r"(?<![A-Za-z0-9])sk-[A-Za-z0-9_-]{20,255}"),
    ("API key", r"(?<![A-Za-z0-9])AIza[A-Za-z0-9_-]{30,60}"),
    ("JSON web token", r"eyJ[A-Za-z0-9_-]{6,4096}\.eyJ[A-Za-z0-9_-]{2,4096}(?:\.[A-Za-z0-9_-]{0,4096})?"),
)
ADDRESS = re.compile(
    r"(?P<scheme>(?:(?<![A-Za-z0-9+.-])[A-Za-z][A-Za-z0-9+.-]{0,30}:)?//)(?P<rest>\S+)"
    r"|(?<![\w.+-])(?!mailto:|xmpp:)(?P<user>[\w.+-]{1,64}):[^\s/@:]{1,256}@(?=[\w.-]{1,253}[:/])"
)
# A colon that no port follows: a password with a `/`, `?` or `#` in it that somebody forgot to escape.
UNESCAPED = re.compile(r"[^\[\]/?#@:]+:(?!\d*(?:[/?#]|\Z))[^/?#@]*\Z")
KEEPS_USER = re.compile(r"(?:[a-z0-9+.-]*\+)?(?:ssh|sftp|scp|rsync)://", re.IGNORECASE)
NAMES = re.compile(
    "token|secret|passw|passphrase|apikey|accesskey|privatekey|signature|credential|authoriz|bearer|jwt|session"
    "|xamz|xgoog"
)
SHORT_NAMES = frozenset({"auth", "key", "pass", "pwd", "pw", "sas", "sid", "sig"})
MATRIX = re.compile(r";([A-Za-z0-9_.-]{1,64})=[^;/?#]*")
FILE = re.compile(r"(?<![A-Za-z0-9+.-])(?:git\+)?file:(/[^\s#?\"'<>]*)([^\s\"'<>]*)", re.IGNORECASE)
TAIL = re.compile(r"[)\]>}'\",.;:!]*\Z")
NESTED = 3  # an address in the query of an address, and so on


def without_secrets(text: str, mark: str = "", depth: int = NESTED) -> str:
    """`text` with the addresses in it as anybody may read them.

    Names and passwords before a host go, of ssh only the password; parameters
    that are secret by their name or form go; where a path holds a token, `…`
    stands for it.  With `mark`, that stands for everything that went.
    """
    if "//" not in text and "@" not in text:
        return text
    return ADDRESS.sub(lambda found: _address(found, mark, depth), text)


def without_places(text: str) -> str:
    """`text` with addresses of files, which name folders of one machine, cut to the last part: `r.git#main`."""
    return FILE.sub(lambda found: last_part(found[1]) + found[2], text)


def last_part(path: str) -> str:
    """The name at the end of a path; `repository` where there is none."""
    return path.rstrip("/").rpartition("/")[2] or "repository"


def _address(found: re.Match[str], mark: str, depth: int) -> str:
    if found["user"] is not None:
        return f"{found['user']}:{mark}@" if mark else f"{found['user']}@"
    scheme, rest = found["scheme"], found["rest"]
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    if "@" not in authority and UNESCAPED.match(authority) and "@" in rest:
        authority = rest[: rest.rindex("@") + 1]
        authority += re.split(r"[/?#]", rest[len(authority) :], maxsplit=1)[0]
    after = rest[len(authority) :]
    known, at, host = authority.rpartition("@")
    before = _user(scheme, known, mark) if at else ""
    path, question, query = after.partition("?")
    if not question:
        path, hash_, fragment = after.partition("#")
    else:
        query, hash_, fragment = query.partition("#")
    if "#" in path and question:  # the question mark is one of the fragment's
        path, hash_, fragment = after.partition("#")
        question = query = ""
    made = scheme + before + _plain(host, "…") + _path(path, mark)
    made += _parameters(question, query, mark, depth)
    return made + _fragment(hash_, fragment, mark, depth)


def _user(scheme: str, known: str, mark: str) -> str:
    user, colon, _ = known.partition(":")
    if KEEPS_USER.match(scheme) and user and not _tokens().search(user):
        return f"{user}:{mark}@" if mark and colon else f"{user}@"
    return f"{mark}@" if mark else ""


def _path(path: str, mark: str) -> str:
    shown = MATRIX.sub(lambda one: (f";{one[1]}={mark}" if mark else "") if _secret_name(one[1]) else one[0], path)
    return _plain(shown, "…")


def _plain(text: str, mark: str) -> str:
    return _tokens().sub(mark, text)


def _parameters(question: str, query: str, mark: str, depth: int) -> str:
    if not question:
        return ""
    kept, tail = [], ""
    for one in query.split("&"):
        tail = ""
        if _secret(one, depth):
            tail = TAIL.search(one)[0]  # type: ignore[index]
            if mark:
                kept.append(f"{one.partition('=')[0]}={mark}" if "=" in one else mark)
        else:
            kept.append(one)
    return (question + "&".join(kept) if kept else "") + tail


def _fragment(hash_: str, fragment: str, mark: str, depth: int) -> str:
    head, question, query = fragment.partition("?")
    if question:
        return hash_ + _plain(head, "…") + _parameters(question, query, mark, depth)
    if "=" in fragment:
        return _parameters(hash_, fragment, mark, depth)
    return hash_ + _plain(fragment, "…")


def _secret(parameter: str, depth: int) -> bool:
    from urllib.parse import unquote

    name, equals, value = unquote(parameter).partition("=")
    if (equals and _secret_name(name)) or _tokens().search(unquote(parameter)):
        return True
    return depth > 0 and without_secrets(value, "", depth - 1) != value


def _secret_name(name: str) -> bool:
    plain = re.sub("[^a-z0-9]", "", name.lower())
    return plain in SHORT_NAMES or NAMES.search(plain) is not None


@functools.cache
def _tokens() -> re.Pattern[str]:
    return re.compile("|".join(f"(?:{pattern})" for _, pattern in TOKENS))
