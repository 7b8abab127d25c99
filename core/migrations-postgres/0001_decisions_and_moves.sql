-- Every decision, once per (merchant, id), and what decisions read and move. The same words as in
-- ../migrations, which is the SQLite file; here from the first release on.
--
-- Keys are compared byte by byte, COLLATE "C", whatever the order of the database's own language is.
--
-- Four hash partitions each: a vacuum takes one at a time, and growth is spread over four indexes. What
-- they cost is lost in the noise for sets of 16 and more; sixteen cost a set of one or two rows half as
-- much again, since a statement opens all that it may touch.

CREATE TABLE decisions (
    merchant       text COLLATE "C" NOT NULL,
    id             text COLLATE "C" NOT NULL,
    request_hash   bytea  NOT NULL,
    policy         text   NOT NULL,
    account        text   NOT NULL,
    amount         bigint,            -- minor units
    currency       text,
    event_at       bigint NOT NULL,   -- times are milliseconds since 1970
    attributes     text   NOT NULL,   -- JSON object; jsonb would be taken apart for nobody, and refuses \u0000
    decision       text   NOT NULL,
    reasons        text   NOT NULL,   -- JSON array
    score          bigint NOT NULL,
    decided_by     text   NOT NULL,
    cause          text,
    stack          text   NOT NULL,
    policy_version text   NOT NULL,
    effects        text   NOT NULL,   -- JSON object
    decided_at     bigint NOT NULL,
    history_keys   text   NOT NULL,   -- JSON array: the rows of history that count this decision
    fraud          boolean,           -- the label, once there is one
    moves          text,              -- JSON object; none: it moved nothing
    cancelled_by   text,              -- the decision that released what it moved
    PRIMARY KEY (merchant, id)
) PARTITION BY HASH (merchant, id);
CREATE TABLE decisions_0 PARTITION OF decisions FOR VALUES WITH (MODULUS 4, REMAINDER 0);
CREATE TABLE decisions_1 PARTITION OF decisions FOR VALUES WITH (MODULUS 4, REMAINDER 1);
CREATE TABLE decisions_2 PARTITION OF decisions FOR VALUES WITH (MODULUS 4, REMAINDER 2);
CREATE TABLE decisions_3 PARTITION OF decisions FOR VALUES WITH (MODULUS 4, REMAINDER 3);

-- A row is replaced at every event: room for the next version on the same page spares the index. Its
-- bytes are dense already, so that compressing them would be CPU for nothing.
CREATE TABLE history (
    merchant text COLLATE "C" NOT NULL,
    key      text COLLATE "C" NOT NULL,
    version  bigint NOT NULL,
    row      bytea  NOT NULL,        -- as backstop-engine encodes it
    PRIMARY KEY (merchant, key)
) PARTITION BY HASH (merchant, key);
CREATE TABLE history_0 PARTITION OF history FOR VALUES WITH (MODULUS 4, REMAINDER 0) WITH (fillfactor = 70, toast_tuple_target = 8160);
CREATE TABLE history_1 PARTITION OF history FOR VALUES WITH (MODULUS 4, REMAINDER 1) WITH (fillfactor = 70, toast_tuple_target = 8160);
CREATE TABLE history_2 PARTITION OF history FOR VALUES WITH (MODULUS 4, REMAINDER 2) WITH (fillfactor = 70, toast_tuple_target = 8160);
CREATE TABLE history_3 PARTITION OF history FOR VALUES WITH (MODULUS 4, REMAINDER 3) WITH (fillfactor = 70, toast_tuple_target = 8160);
ALTER TABLE history_0 ALTER row SET STORAGE EXTERNAL;
ALTER TABLE history_1 ALTER row SET STORAGE EXTERNAL;
ALTER TABLE history_2 ALTER row SET STORAGE EXTERNAL;
ALTER TABLE history_3 ALTER row SET STORAGE EXTERNAL;

CREATE TABLE stock (
    merchant  text COLLATE "C" NOT NULL,
    key       text COLLATE "C" NOT NULL,
    remaining bigint NOT NULL CHECK (remaining >= 0),
    version   bigint NOT NULL,
    PRIMARY KEY (merchant, key)
) PARTITION BY HASH (merchant, key);
CREATE TABLE stock_0 PARTITION OF stock FOR VALUES WITH (MODULUS 4, REMAINDER 0) WITH (fillfactor = 50);
CREATE TABLE stock_1 PARTITION OF stock FOR VALUES WITH (MODULUS 4, REMAINDER 1) WITH (fillfactor = 50);
CREATE TABLE stock_2 PARTITION OF stock FOR VALUES WITH (MODULUS 4, REMAINDER 2) WITH (fillfactor = 50);
CREATE TABLE stock_3 PARTITION OF stock FOR VALUES WITH (MODULUS 4, REMAINDER 3) WITH (fillfactor = 50);

-- All units of an account lie together.
CREATE TABLE balances (
    merchant text COLLATE "C" NOT NULL,
    account  text COLLATE "C" NOT NULL,
    unit     text COLLATE "C" NOT NULL,
    balance  bigint NOT NULL,         -- the sum of the ledger; below zero only where a cancel made it so
    version  bigint NOT NULL,
    PRIMARY KEY (merchant, account, unit)
) PARTITION BY HASH (merchant, account);
CREATE TABLE balances_0 PARTITION OF balances FOR VALUES WITH (MODULUS 4, REMAINDER 0) WITH (fillfactor = 50);
CREATE TABLE balances_1 PARTITION OF balances FOR VALUES WITH (MODULUS 4, REMAINDER 1) WITH (fillfactor = 50);
CREATE TABLE balances_2 PARTITION OF balances FOR VALUES WITH (MODULUS 4, REMAINDER 2) WITH (fillfactor = 50);
CREATE TABLE balances_3 PARTITION OF balances FOR VALUES WITH (MODULUS 4, REMAINDER 3) WITH (fillfactor = 50);

-- Double entry: each line takes from one account what it gives to another.
CREATE TABLE ledger (
    merchant text COLLATE "C" NOT NULL,
    id       text COLLATE "C" NOT NULL,  -- the decision that moved it
    seq      bigint GENERATED ALWAYS AS IDENTITY (CACHE 256),
    debit    text   NOT NULL,
    credit   text   NOT NULL,
    unit     text   NOT NULL,
    amount   bigint NOT NULL CHECK (amount > 0),
    at       bigint NOT NULL,         -- when it was decided
    PRIMARY KEY (merchant, id, seq)
) PARTITION BY HASH (merchant, id);
CREATE TABLE ledger_0 PARTITION OF ledger FOR VALUES WITH (MODULUS 4, REMAINDER 0);
CREATE TABLE ledger_1 PARTITION OF ledger FOR VALUES WITH (MODULUS 4, REMAINDER 1);
CREATE TABLE ledger_2 PARTITION OF ledger FOR VALUES WITH (MODULUS 4, REMAINDER 2);
CREATE TABLE ledger_3 PARTITION OF ledger FOR VALUES WITH (MODULUS 4, REMAINDER 3);

-- What others are yet to be told. Numbers are given before a commit and not in its order: a reader
-- takes rows and deletes what it took, or it would step over one that commits late.
CREATE TABLE outbox (
    seq      bigint GENERATED ALWAYS AS IDENTITY (CACHE 256) PRIMARY KEY,
    merchant text   NOT NULL,
    id       text   NOT NULL,
    kind     text   NOT NULL,
    at       bigint NOT NULL
);
