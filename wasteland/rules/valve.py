"""The valve between a company's wasteland and the one it was forked from: what comes in, what goes up.  Pure.

    rules = Rules.parse(tomllib.loads(text))
    rules.comes_in("wanted", row)     # the row as it may be written here, or None
    rules.goes_up("wanted", row)      # the columns that may leave, or None
    rules.leaks(row)                  # what must not leave at all, whatever the rules say

Without rules nothing goes up, and the open items of all projects come in.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Any

from wasteland.errors import Misconfigured
from wasteland.models import CONTENT, KEYS, loaded
from wasteland.rules.leaks import Leak, Watch, checked_pattern
from wasteland.text import show
from wasteland.trust.statements import COMPLETION_FIELDS, WANTED_FIELDS
from wasteland.values import dataclass

ALL = frozenset({"*"})
STATUSES = ("open", "claimed", "in_review", "completed", "withdrawn")
INWARD = ("rigs", "wanted", "completions", "stamps")
# Columns without which a row is none.
NEEDED = {
    "rigs": frozenset({"handle"}),
    "wanted": frozenset({"id", "title"}),
    "completions": frozenset({"id", "wanted_id", "completed_by"}),
    "stamps": frozenset({"id", "author", "subject", "valence", "context_id"}),
}
# Columns that signatures bind: without them, what was signed in the parent does not verify here.
SIGNED = {
    "wanted": frozenset(WANTED_FIELDS),
    "completions": frozenset({*COMPLETION_FIELDS, "stamp_id", "block_hash", "completed_at"}),
    "stamps": frozenset({
        "id", "author", "subject", "valence", "confidence", "severity", "context_id", "context_type", "skill_tags",
        "message", "prev_stamp_hash", "block_hash", "created_at",
    }),
}  # fmt: skip
LIMIT = 500  # entries of a list, characters of an entry

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Way:
    """What passes in one direction.

    `projects` and `tags` name what may pass, "*" for all; an empty project is
    that of items which have none.  What a deny list names never passes.
    """

    tables: frozenset[str]
    projects: frozenset[str] = ALL
    deny_projects: frozenset[str] = frozenset()
    tags: frozenset[str] = ALL
    deny_tags: frozenset[str] = frozenset()
    statuses: frozenset[str] = frozenset({"open"})
    columns: Mapping[str, frozenset[str]] = field(default_factory=dict)
    deny_columns: Mapping[str, frozenset[str]] = field(default_factory=dict)
    blank: Mapping[str, frozenset[str]] = field(default_factory=dict)

    def stops(self, table: str, row: Row, *, any_status: bool = False) -> str | None:
        """Why a row does not pass, as a sentence; None where it does."""
        if table not in self.tables:
            return f"the rules let no {table} pass"
        if table != "wanted":
            return None
        project = _folded(row.get("project") or "")
        if project in self.deny_projects or not _named(project, self.projects):
            return f"the rules do not let project {show(row.get('project') or '(none)')} pass"
        carried = tags_of(row)
        if carried is None:
            return "its tags are no list of words"
        tags = frozenset(map(_folded, carried))
        if denied := sorted(tags & self.deny_tags):
            return f"the rules stop the tag {show(denied[0])}"
        if "*" not in self.tags and not tags & self.tags:
            return "it has none of the tags that the rules let pass"
        if not any_status and row.get("status") not in self.statuses:
            return f"it is {show(row.get('status'))}, and the rules let only {', '.join(sorted(self.statuses))} pass"
        return None

    def passes(self, table: str, column: str) -> bool:
        """Whether a column passes at all."""
        allowed = self.columns.get(table)
        return (allowed is None or column in allowed) and column not in self.deny_columns.get(table, ())

    def cut(self, table: str, row: Row) -> dict[str, Any]:
        """The columns of a row that pass; those to be blanked are None."""
        empty = self.blank.get(table, frozenset())
        found = {c: None if c in empty else value for c, value in row.items() if self.passes(table, c)}
        if table == "wanted" and found.get("tags") is not None and "*" not in self.tags:
            found["tags"] = [tag for tag in tags_of(row) or [] if _folded(tag) in self.tags]
        return found


@dataclass(frozen=True)
class Rules:
    """A company's rules: both ways, and what it watches for."""

    inward: Way = field(default_factory=lambda: Way(frozenset({"wanted"})))
    upward: Way = field(
        default_factory=lambda: Way(
            frozenset({"wanted"}), projects=frozenset(), columns={"wanted": frozenset({"id", *CONTENT})}
        )
    )
    watch: Watch = field(default_factory=Watch)

    @classmethod
    def parse(cls, found: Mapping[str, Any]) -> Rules:
        """The rules that a file holds; Misconfigured, with one sentence, for what is none."""
        _closed(found, ("in", "up", "leaks"), "the rules")
        made = cls()
        inward = _way(_table(found, "in"), "in", INWARD, made.inward)
        upward = _way(_table(found, "up"), "up", ("wanted",), made.upward)
        _refuse_unsigned(inward)
        return cls(inward, upward, _watch(_table(found, "leaks"), upward))

    def comes_in(self, table: str, row: Row, *, known: bool = False) -> dict[str, Any] | None:
        """The row as it may be written here, or None; one that is `known` here is followed whatever its status."""
        if self.inward.stops(table, row, any_status=known) is not None:
            return None
        return self.inward.cut(table, row)

    def goes_up(self, table: str, row: Row) -> dict[str, Any] | None:
        """What of a row may leave, or None.  The rules come first; what is left must still have no `leaks`."""
        if self.upward.stops(table, row) is not None:
            return None
        return self.upward.cut(table, row)

    def leaks(self, row: Row) -> list[Leak]:
        """What in a row must not leave, by column."""
        return self.watch.look(row)


def tags_of(row: Row) -> list[str] | None:
    """The tags of an item; None where the column holds something else."""
    found = loaded(row.get("tags"))
    if found is None:
        return []
    return found if isinstance(found, list) and all(isinstance(one, str) for one in found) else None


def _folded(word: object) -> str:
    return str(word).casefold()


def _named(word: str, words: frozenset[str]) -> bool:
    return "*" in words or word in words


def _way(found: Mapping[str, Any], name: str, tables: tuple[str, ...], default: Way) -> Way:
    """One direction, from its table; what it does not say is as in `default`."""
    closed = ["tables", "projects", "deny_projects", "tags", "deny_tags", "columns", "deny_columns", "blank"]
    _closed(found, (*closed, "statuses") if name == "in" else closed, f"[{name}]")
    words: dict[str, Any] = {
        key: frozenset(map(_folded, _words(found[key], f"{name}.{key}")))
        for key in ("projects", "deny_projects", "tags", "deny_tags")
        if key in found
    }
    for key, known in (("tables", tables), ("statuses", STATUSES)):
        if key in found:
            words[key] = frozenset(_words(found[key], f"{name}.{key}", known))
    for key in ("columns", "deny_columns", "blank"):
        if key in found:
            words[key] = _columns(found[key], f"{name}.{key}", tables, default if name == "up" else None)
    made = Way(**({name: getattr(default, name) for name in Way.__dataclass_fields__} | words))
    for table in tables:
        for column in sorted(NEEDED[table]):
            if not made.passes(table, column) or column in made.blank.get(table, ()):
                raise Misconfigured(f"{name}: {table} cannot pass without its {column}", about=f"{name}.{table}")
    return made


def _columns(found: Any, where: str, tables: tuple[str, ...], limit: Way | None) -> dict[str, frozenset[str]]:
    """Lists of columns, by table; a list of what passes always holds the key, and upwards nothing past `limit`."""
    if not isinstance(found, Mapping):
        raise Misconfigured(f"{where} must be a table of lists, as {where}.wanted = []", about=where)
    _closed(found, tables, where)
    made = {}
    for table, value in found.items():
        known = sorted(limit.columns[table] - {KEYS.get(table, "id")}) if limit else None
        words = frozenset(_words(value, f"{where}.{table}", known))
        made[table] = words | {KEYS.get(table, "id")} if where.endswith(".columns") else words
    return made


def _watch(found: Mapping[str, Any], upward: Way) -> Watch:
    """What to watch for; a project that may not go up is not to be named either."""
    known = ("words", "patterns", "private_projects", "private_domains", "private_hosts", "allowed")
    _closed(found, known, "[leaks]")
    said = {key: tuple(_words(found.get(key, []), f"leaks.{key}")) for key in known}
    for key in ("words", "private_projects"):
        for word in said[key]:
            if len(word.strip()) < 2:
                raise Misconfigured(f"leaks.{key}: {word!r} is too short to be looked for", about=f"leaks.{key}")
    for key in ("private_domains", "private_hosts"):
        for word in said[key]:
            if not word.isascii() or "." not in word or set(word) & set(" @/:*"):
                raise Misconfigured(f"leaks.{key}: {show(word)!r} is no domain, as acme.example", about=f"leaks.{key}")
    projects = {*said["private_projects"], *(word for word in upward.deny_projects if len(word) > 1)}
    domains, hosts = (tuple(w.strip(".").lower() for w in said[k]) for k in ("private_domains", "private_hosts"))
    patterns = tuple(checked_pattern(text) for text in said["patterns"])
    return Watch(said["words"], patterns, tuple(sorted(projects)), domains, hosts, frozenset(said["allowed"]))


def _refuse_unsigned(inward: Way) -> None:
    """Misconfigured where stamps or completions would come in and not verify, for want of a column that they bind."""
    if not inward.tables & {"completions", "stamps"}:
        return
    for table, columns in SIGNED.items():
        for column in sorted(columns):
            if not inward.passes(table, column) or column in inward.blank.get(table, ()):
                raise Misconfigured(
                    f"in: without {table}.{column} no stamp or completion that comes in can be verified",
                    about="in.columns", hint="let the column pass, or let no completions and stamps in",
                )  # fmt: skip
    if "*" not in inward.tags:
        raise Misconfigured("in: tags are signed, so they cannot be cut where completions or stamps come in")


def _table(found: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = found.get(name, {})
    if not isinstance(value, Mapping):
        raise Misconfigured(f"{name} must be a table: [{name}]", about=name)
    return value


def _closed(found: Mapping[str, Any], known: Any, where: str) -> None:
    for key in found:
        if key not in known:
            raise Misconfigured(
                f"{where}: there is no {show(str(key)[:60])!r}; known are {', '.join(known)}", about=str(key)[:60]
            )


def _words(value: Any, where: str, known: Any = None) -> list[str]:
    """A list of words; Misconfigured where it is none, is too long, or holds one that is not `known`."""
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise Misconfigured(f'{where} must be a list of words: ["one", "two"]', about=where)
    if len(value) > LIMIT or any(len(one) > LIMIT for one in value):
        raise Misconfigured(f"{where} has more than {LIMIT} words, or one of more than {LIMIT} characters", about=where)
    for one in value:
        if known is not None and one not in known:
            raise Misconfigured(f"{where}: {show(one)!r} is not one of {', '.join(known)}", about=where)
    return value
