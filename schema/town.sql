-- The state of a town (SQLite).  The supervisor is the only writer of engine
-- rows; clients insert into `request`, `gt rig add` into `rig`.

CREATE TABLE meta (
    key   TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT;

CREATE TABLE rig (
    name           TEXT PRIMARY KEY,
    origin         TEXT NOT NULL,
    public         TEXT NOT NULL,
    branch         TEXT NOT NULL,
    agent          TEXT NOT NULL,                 -- JSON array: argv
    gates          TEXT NOT NULL,                 -- JSON array of argv
    binds          TEXT NOT NULL,                 -- JSON array of absolute paths
    allow          TEXT NOT NULL,                 -- JSON array of kinds of path
    budget_seconds INTEGER NOT NULL CHECK (budget_seconds > 0),
    max_attempts   INTEGER NOT NULL CHECK (max_attempts > 0),
    added_at       TEXT NOT NULL
) STRICT;

CREATE TABLE bead (
    id             TEXT PRIMARY KEY,
    rig            TEXT NOT NULL REFERENCES rig (name),
    title          TEXT NOT NULL,
    description    TEXT NOT NULL,
    author         TEXT NOT NULL,
    phase          TEXT NOT NULL CHECK (phase IN
                     ('ready', 'working', 'review', 'held', 'landing', 'landed', 'stuck', 'cancelled')),
    reason         TEXT NOT NULL DEFAULT '',
    attempts       INTEGER NOT NULL DEFAULT 0,
    losses         INTEGER NOT NULL DEFAULT 0,
    budget_seconds INTEGER NOT NULL CHECK (budget_seconds > 0),
    sandbox        TEXT NOT NULL CHECK (sandbox IN ('required', 'boxed', 'accepted')),
    hold           INTEGER NOT NULL CHECK (hold IN (0, 1)),
    held_for       TEXT NOT NULL DEFAULT '' CHECK (held_for IN ('', 'approval', 'budget')),
    approved_head  TEXT,
    wanted_id      TEXT UNIQUE,
    reported_at    TEXT,
    created_at     TEXT NOT NULL,
    updated_at     TEXT NOT NULL,
    -- Work from the board never runs without a box.
    CHECK (wanted_id IS NULL OR sandbox = 'required')
) STRICT;

CREATE TABLE run (
    id             TEXT PRIMARY KEY,
    bead           TEXT NOT NULL REFERENCES bead (id),
    state          TEXT NOT NULL CHECK (state IN ('starting', 'working', 'done', 'failed', 'lost', 'killed')),
    base           TEXT NOT NULL,
    head           TEXT,
    level          TEXT NOT NULL,
    budget_seconds INTEGER NOT NULL CHECK (budget_seconds > 0),
    pid            INTEGER,
    ticks          INTEGER,
    boot           TEXT,
    started_at     TEXT NOT NULL,
    ended_at       TEXT,
    wall_seconds   INTEGER NOT NULL DEFAULT 0,
    why            TEXT NOT NULL DEFAULT '',
    CHECK ((ended_at IS NULL) = (state IN ('starting', 'working')))
) STRICT;

-- One live run per bead, whatever the program believes.
CREATE UNIQUE INDEX run_live ON run (bead) WHERE ended_at IS NULL;

CREATE TABLE merge (
    id           INTEGER PRIMARY KEY,
    bead         TEXT NOT NULL REFERENCES bead (id),
    run          TEXT NOT NULL UNIQUE REFERENCES run (id),
    head         TEXT NOT NULL,
    state        TEXT NOT NULL CHECK (state IN ('queued', 'landing', 'merged', 'rejected')),
    base         TEXT,
    target       TEXT,
    green        INTEGER NOT NULL DEFAULT 0 CHECK (green IN (0, 1)),
    gates        TEXT NOT NULL DEFAULT '[]',      -- JSON array of {argv, exit, log_sha256, level}
    patch_sha256 TEXT,
    why          TEXT NOT NULL DEFAULT '',
    -- Nothing is on its way to main, or on it, without a green gate of its own.
    CHECK (state NOT IN ('landing', 'merged') OR (green = 1 AND target IS NOT NULL AND base IS NOT NULL))
) STRICT;

CREATE UNIQUE INDEX merge_open ON merge (bead) WHERE state IN ('queued', 'landing');
CREATE UNIQUE INDEX merge_once ON merge (bead) WHERE state = 'merged';

CREATE TABLE request (
    id     INTEGER PRIMARY KEY,
    at     TEXT NOT NULL,
    who    TEXT NOT NULL,
    verb   TEXT NOT NULL,
    args   TEXT NOT NULL,                         -- JSON object
    state  TEXT NOT NULL DEFAULT 'new' CHECK (state IN ('new', 'done', 'refused')),
    answer TEXT NOT NULL DEFAULT ''
) STRICT;

CREATE TABLE event (
    seq    INTEGER PRIMARY KEY,
    at     TEXT NOT NULL,
    kind   TEXT NOT NULL,
    ref    TEXT NOT NULL,
    body   TEXT NOT NULL,                         -- JSON object
    prev   TEXT NOT NULL,
    sha256 TEXT NOT NULL
) STRICT;

CREATE TRIGGER event_no_update BEFORE UPDATE ON event
BEGIN SELECT RAISE(ABORT, 'the log is append-only'); END;

CREATE TRIGGER event_no_delete BEFORE DELETE ON event
BEGIN SELECT RAISE(ABORT, 'the log is append-only'); END;
