-- What decisions move: stock, and units in accounts. An older release runs beside this one and names
-- none of these columns, so each has a default that says what such a release means.

ALTER TABLE decisions ADD COLUMN moves TEXT;         -- JSON object; none: it moved nothing
ALTER TABLE decisions ADD COLUMN cancelled_by TEXT;  -- the decision that released what it moved
ALTER TABLE history ADD COLUMN version INTEGER NOT NULL DEFAULT 1;

CREATE TABLE stock (
    merchant  TEXT    NOT NULL,
    key       TEXT    NOT NULL,
    remaining INTEGER NOT NULL CHECK (remaining >= 0),
    version   INTEGER NOT NULL,
    PRIMARY KEY (merchant, key)
) STRICT, WITHOUT ROWID;

CREATE TABLE balances (
    merchant TEXT    NOT NULL,
    account  TEXT    NOT NULL,
    unit     TEXT    NOT NULL,
    balance  INTEGER NOT NULL,        -- the sum of the ledger; below zero only where a cancel made it so
    version  INTEGER NOT NULL,
    PRIMARY KEY (merchant, account, unit)
) STRICT, WITHOUT ROWID;

-- Double entry: each line takes from one account what it gives to another.
CREATE TABLE ledger (
    seq      INTEGER PRIMARY KEY,
    merchant TEXT    NOT NULL,
    id       TEXT    NOT NULL,        -- the decision that moved it
    debit    TEXT    NOT NULL,
    credit   TEXT    NOT NULL,
    unit     TEXT    NOT NULL,
    amount   INTEGER NOT NULL CHECK (amount > 0),
    at       INTEGER NOT NULL         -- when it was decided
) STRICT;

-- What others are yet to be told. A number is never given again: readers remember the last they saw.
CREATE TABLE outbox (
    seq      INTEGER PRIMARY KEY AUTOINCREMENT,
    merchant TEXT    NOT NULL,
    id       TEXT    NOT NULL,
    kind     TEXT    NOT NULL,
    at       INTEGER NOT NULL
) STRICT;

-- No decision without its row, whichever release makes it.
CREATE TRIGGER decisions_to_outbox AFTER INSERT ON decisions BEGIN
    INSERT INTO outbox (merchant, id, kind, at) VALUES (new.merchant, new.id, 'decided', new.decided_at);
END;
