-- What a fork of a wasteland keeps of its parent: signatures made there, and what came through the valve.
-- Rows of these tables are for maintainers, on main; no pull request may hold any.

-- wl_attestations of a parent.  `wasteland` is the id that the statements name.
CREATE TABLE IF NOT EXISTS wl_parent_attestations (
  wasteland VARCHAR(64) NOT NULL,
  payload_sha256 CHAR(64) NOT NULL,
  predicate_type VARCHAR(255) NOT NULL,
  subject_table VARCHAR(32) NOT NULL,
  subject_id VARCHAR(64) NOT NULL,
  signer VARCHAR(255) NOT NULL,
  key_id VARCHAR(128) NOT NULL,
  chain_seq INT NOT NULL,
  chain_prev CHAR(64) NOT NULL,
  payload LONGTEXT NOT NULL,
  signatures LONGTEXT NOT NULL,
  created_at TIMESTAMP NOT NULL,
  PRIMARY KEY (wasteland, payload_sha256),
  KEY ix_parent_chain (wasteland, signer, chain_seq),
  KEY ix_parent_subject (subject_table, subject_id)
);

-- wl_key_events of a parent.
CREATE TABLE IF NOT EXISTS wl_parent_key_events (
  wasteland VARCHAR(64) NOT NULL,
  event_sha256 CHAR(64) NOT NULL,
  handle VARCHAR(255) NOT NULL,
  seq INT NOT NULL,
  prev CHAR(64) NOT NULL,
  kind VARCHAR(16) NOT NULL,
  key_id VARCHAR(128) NOT NULL,
  payload LONGTEXT NOT NULL,
  signatures LONGTEXT NOT NULL,
  created_at TIMESTAMP NOT NULL,
  PRIMARY KEY (wasteland, event_sha256),
  KEY ix_parent_seq (wasteland, handle, seq)  -- not UNIQUE: two events in one place must be showable
);

-- Rows as they came through the valve, so that one which was changed here is known.
CREATE TABLE IF NOT EXISTS wl_parent_rows (
  subject_table VARCHAR(32) NOT NULL,
  subject_id VARCHAR(255) NOT NULL,
  row_sha256 CHAR(64) NOT NULL,
  PRIMARY KEY (subject_table, subject_id)
);
