-- Every decision, once per (merchant, id), and the history that policies read.
-- Rows are longer than 200 bytes, where SQLite's WITHOUT ROWID begins to cost more than it saves:
-- decisions are appended in the order they are made, and only the small key index is written at random.

CREATE TABLE decisions (
    merchant       TEXT    NOT NULL,
    id             TEXT    NOT NULL,
    request_hash   BLOB    NOT NULL,
    policy         TEXT    NOT NULL,
    account        TEXT    NOT NULL,
    amount         INTEGER,           -- minor units
    currency       TEXT,
    event_at       INTEGER NOT NULL,  -- times are milliseconds since 1970
    attributes     TEXT    NOT NULL,  -- JSON object
    decision       TEXT    NOT NULL,
    reasons        TEXT    NOT NULL,  -- JSON array
    score          INTEGER NOT NULL,
    decided_by     TEXT    NOT NULL,
    cause          TEXT,
    stack          TEXT    NOT NULL,
    policy_version TEXT    NOT NULL,
    effects        TEXT    NOT NULL,  -- JSON object
    decided_at     INTEGER NOT NULL,
    history_keys   TEXT    NOT NULL,  -- JSON array: the rows of history that count this decision
    fraud          INTEGER,           -- the label, once there is one
    PRIMARY KEY (merchant, id)
) STRICT;

CREATE TABLE history (
    merchant TEXT NOT NULL,
    key      TEXT NOT NULL,
    row      BLOB NOT NULL,           -- as backstop-engine encodes it
    PRIMARY KEY (merchant, key)
) STRICT;
