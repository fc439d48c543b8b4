-- What we add to a commons: signatures, key logs, roles, leases of claims, the transparency log.
-- No table of the protocol changes, and peers that do not know these leave them alone.

-- Signed stamps and completions, one link of their signer's chain each.
-- All but payload and signatures is an index over the payload.
CREATE TABLE wl_attestations (
  payload_sha256 CHAR(64) PRIMARY KEY,
  predicate_type VARCHAR(255) NOT NULL,
  subject_table VARCHAR(32) NOT NULL,
  subject_id VARCHAR(64) NOT NULL,
  signer VARCHAR(255) NOT NULL,
  key_id VARCHAR(128) NOT NULL,
  chain_seq INT NOT NULL,
  chain_prev CHAR(64) NOT NULL,
  payload LONGTEXT NOT NULL,      -- the exact signed bytes, a JSON column would rewrite them
  signatures LONGTEXT NOT NULL,   -- the "signatures" array of the DSSE envelope
  created_at TIMESTAMP NOT NULL,
  KEY ix_chain (signer, chain_seq),  -- not UNIQUE: two open pull requests may meet, and equivocation must be showable
  KEY ix_subject (subject_table, subject_id)
);

-- The key log of each handle: inception, then rotations and revocations.
CREATE TABLE wl_key_events (
  event_sha256 CHAR(64) PRIMARY KEY,
  handle VARCHAR(255) NOT NULL,
  seq INT NOT NULL,
  prev CHAR(64) NOT NULL,
  kind VARCHAR(16) NOT NULL,
  key_id VARCHAR(128) NOT NULL,
  payload LONGTEXT NOT NULL,
  signatures LONGTEXT NOT NULL,
  created_at TIMESTAMP NOT NULL,
  UNIQUE KEY uq_seq (handle, seq)
);

-- Who may do what here: each version is signed by a root of the one before.
CREATE TABLE wl_roles (
  version INT PRIMARY KEY,
  payload LONGTEXT NOT NULL,
  signatures LONGTEXT NOT NULL
);

-- Until when each claim holds: while its item is claimed by `rig`; a row of any other time or rig means nothing.
CREATE TABLE wl_leases (
  wanted_id VARCHAR(64) PRIMARY KEY,
  rig VARCHAR(255) NOT NULL,
  claimed_at TIMESTAMP NOT NULL,
  renewed_at TIMESTAMP NOT NULL,
  expires_at TIMESTAMP NOT NULL
);

-- Payloads in merge order: the leaves of the transparency log.
CREATE TABLE wl_log (
  idx INT PRIMARY KEY,
  payload_sha256 CHAR(64) NOT NULL UNIQUE
);

-- Signed notes over the log, at most one of each signer for a size.
CREATE TABLE wl_checkpoints (
  size INT NOT NULL,
  signer VARCHAR(255) NOT NULL,
  note TEXT NOT NULL,
  PRIMARY KEY (size, signer)
);
