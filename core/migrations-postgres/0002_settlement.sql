-- What clients were told by other tiers, and what became of it. The same words as in ../migrations. An
-- older release runs beside this one and names none of the new columns: without a value each says what
-- such a release means.

ALTER TABLE decisions ADD COLUMN standing text;      -- applied, match, overridden, conflict; none: core decided
ALTER TABLE decisions ADD COLUMN released_by text;   -- the node that said what the client was told
ALTER TABLE decisions ADD COLUMN first_answer text;  -- JSON object: what core had decided before it heard of that

-- For the statement of a span of time. Decisions are appended nearly in the order of time, where a summary
-- of each range of pages serves as well as an index of rows, and costs an insert nothing. Making it reads
-- the table once, and nobody decides meanwhile.
CREATE INDEX decisions_by_time ON decisions USING brin (decided_at) WITH (pages_per_range = 32, autosummarize = on);

-- Where the books and what a client was told did not agree, a row for each advice that found it so. They
-- are few: one table holds them.
CREATE TABLE discrepancies (
    merchant text COLLATE "C" NOT NULL,
    id       text COLLATE "C" NOT NULL,
    node     text COLLATE "C" NOT NULL,  -- whose advice it was
    epoch    bigint NOT NULL,
    number   bigint NOT NULL,
    kind     text   NOT NULL,            -- what became of it: applied, overridden, conflict, refused
    answers  text   NOT NULL,            -- JSON object: what the client was told, and what the books said
    amount   bigint,                     -- minor units, of the request
    currency text,
    money_between bigint NOT NULL,       -- the money between the two answers
    why      text   NOT NULL,            -- what could not be moved, or why it was refused; or empty
    at       bigint NOT NULL,            -- when the client was told
    PRIMARY KEY (merchant, id, node, epoch, number)
);

-- Which advices of a node have arrived, so that a missing one is seen.
CREATE TABLE advice_sequences (
    node    text COLLATE "C" NOT NULL,
    epoch   bigint NOT NULL,
    upto    bigint NOT NULL,             -- every number from 1 to this one
    above   text   NOT NULL,             -- JSON array: runs of numbers above it, from and to
    version bigint NOT NULL,
    PRIMARY KEY (node, epoch)
) WITH (fillfactor = 50);
