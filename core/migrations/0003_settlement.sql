-- What clients were told by other tiers, and what became of it. An older release runs beside this one and
-- names none of the new columns: without a value each says what such a release means.

ALTER TABLE decisions ADD COLUMN standing TEXT;      -- applied, match, overridden, conflict; none: core decided
ALTER TABLE decisions ADD COLUMN released_by TEXT;   -- the node that said what the client was told
ALTER TABLE decisions ADD COLUMN first_answer TEXT;  -- JSON object: what core had decided before it heard of that

-- Where the books and what a client was told did not agree, a row for each advice that found it so.
-- A statement of a span of time reads all decisions of its merchant here: SQLite serves one machine, and
-- an index by time would be one more to write for every decision.
CREATE TABLE discrepancies (
    merchant TEXT    NOT NULL,
    id       TEXT    NOT NULL,
    node     TEXT    NOT NULL,        -- whose advice it was
    epoch    INTEGER NOT NULL,
    number   INTEGER NOT NULL,
    kind     TEXT    NOT NULL,        -- what became of it: applied, overridden, conflict, refused
    answers  TEXT    NOT NULL,        -- JSON object: what the client was told, and what the books said
    amount   INTEGER,                 -- minor units, of the request
    currency TEXT,
    money_between INTEGER NOT NULL,   -- the money between the two answers
    why      TEXT    NOT NULL,        -- what could not be moved, or why it was refused; or empty
    at       INTEGER NOT NULL,        -- when the client was told
    PRIMARY KEY (merchant, id, node, epoch, number)
) STRICT, WITHOUT ROWID;

-- Which advices of a node have arrived, so that a missing one is seen.
CREATE TABLE advice_sequences (
    node    TEXT    NOT NULL,
    epoch   INTEGER NOT NULL,
    upto    INTEGER NOT NULL,         -- every number from 1 to this one
    above   TEXT    NOT NULL,         -- JSON array: runs of numbers above it, from and to
    version INTEGER NOT NULL,
    PRIMARY KEY (node, epoch)
) STRICT, WITHOUT ROWID;
