-- The book. Amounts are nanoTON; a credit is positive, a debit negative. Times are Unix seconds.

-- +goose Up

-- Every holder of a balance: "tenant:…", "stake:…", "owner:…" and the network's own.
CREATE TABLE accounts (
    id      INTEGER PRIMARY KEY,
    name    TEXT    NOT NULL UNIQUE,
    balance INTEGER NOT NULL DEFAULT 0, -- the sum of its postings, kept so that reading is cheap
    since   INTEGER NOT NULL DEFAULT 0  -- when the balance last rose above zero
) STRICT;

-- Everything that ever happened to money. An entry's postings add up to zero.
CREATE TABLE entries (
    id    INTEGER PRIMARY KEY,
    kind  TEXT    NOT NULL,
    place INTEGER NOT NULL,             -- where it comes from: stream position of a job, logical time of a chain event, else 0
    at    INTEGER NOT NULL,
    ref   TEXT                          -- the idempotency key within its kind, NULL for jobs, whose key is in receipts
) STRICT;
CREATE UNIQUE INDEX entries_ref ON entries (kind, ref) WHERE ref IS NOT NULL;

CREATE TABLE postings (
    account INTEGER NOT NULL REFERENCES accounts,
    entry   INTEGER NOT NULL REFERENCES entries,
    amount  INTEGER NOT NULL CHECK (amount <> 0),
    PRIMARY KEY (account, entry)
) STRICT, WITHOUT ROWID;

CREATE TABLE tenants (
    id       TEXT    PRIMARY KEY,
    name     TEXT    NOT NULL,
    key      BLOB    NOT NULL,
    memo     TEXT    NOT NULL UNIQUE,
    account  INTEGER NOT NULL UNIQUE REFERENCES accounts,
    stake    INTEGER NOT NULL UNIQUE REFERENCES accounts,
    target   INTEGER NOT NULL,          -- how much stake is kept
    created  INTEGER NOT NULL
) STRICT;

CREATE TABLE holds (
    job     BLOB    PRIMARY KEY,
    tenant  TEXT    NOT NULL REFERENCES tenants,
    amount  INTEGER NOT NULL CHECK (amount > 0),
    expires INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX holds_tenant ON holds (tenant);
CREATE INDEX holds_expires ON holds (expires);

CREATE TABLE catalogues (version INTEGER PRIMARY KEY, body BLOB NOT NULL, added INTEGER NOT NULL) STRICT;
CREATE TABLE broker_keys (id TEXT PRIMARY KEY, key BLOB NOT NULL, added INTEGER NOT NULL) STRICT;

CREATE TABLE workers (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE) STRICT;
CREATE TABLE models (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE) STRICT;

-- One row per job that cost money or could have: what was counted and how it was priced.
CREATE TABLE receipts (
    seq        INTEGER PRIMARY KEY,     -- position in the outcome stream
    entry      INTEGER NOT NULL REFERENCES entries,
    job        BLOB    NOT NULL,
    tenant     INTEGER NOT NULL REFERENCES accounts,
    owner      INTEGER NOT NULL REFERENCES accounts,
    worker     INTEGER NOT NULL REFERENCES workers,
    number     INTEGER NOT NULL,        -- the worker's own count
    model      INTEGER NOT NULL REFERENCES models,
    class      TEXT    NOT NULL,
    catalogue  INTEGER NOT NULL,
    multiplier INTEGER NOT NULL,
    prompt     INTEGER NOT NULL,
    cached     INTEGER NOT NULL,
    completion INTEGER NOT NULL,
    reasoning  INTEGER NOT NULL,
    total      INTEGER NOT NULL CHECK (total >= 0),
    fee        INTEGER NOT NULL CHECK (fee >= 0 AND fee <= total),
    hash       BLOB    NOT NULL,        -- of the compact JWS
    finished   INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX receipts_job ON receipts (job);
CREATE UNIQUE INDEX receipts_number ON receipts (worker, number);

-- Outcomes that claimed money and got none.
CREATE TABLE rejections (
    seq     INTEGER PRIMARY KEY,
    job     TEXT    NOT NULL,
    tenant  TEXT    NOT NULL,
    reason  TEXT    NOT NULL,
    detail  TEXT    NOT NULL,
    grant_jws   TEXT NOT NULL,
    receipt_jws TEXT NOT NULL,
    at      INTEGER NOT NULL
) STRICT;

-- How far streams were read.
CREATE TABLE positions (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT;

-- Wallets whose history is followed.
CREATE TABLE wallets (
    id         INTEGER PRIMARY KEY,
    address    TEXT    NOT NULL UNIQUE,
    role       TEXT    NOT NULL CHECK (role IN ('treasury', 'deposits')),
    cursor     TEXT    NOT NULL DEFAULT '',
    next_query INTEGER NOT NULL DEFAULT 0,
    stopped    TEXT    NOT NULL DEFAULT '', -- why payouts are stopped, '' while they run
    forced     INTEGER NOT NULL DEFAULT 0, -- the next round pays everything
    explained  INTEGER NOT NULL DEFAULT 0   -- the next difference to the chain is written off
) STRICT;

CREATE TABLE deposits (
    hash    TEXT    PRIMARY KEY,        -- of the transaction
    wallet  INTEGER NOT NULL REFERENCES wallets,
    lt      INTEGER NOT NULL,
    sender  TEXT    NOT NULL,
    amount  INTEGER NOT NULL CHECK (amount > 0),
    memo    TEXT    NOT NULL,
    tenant  TEXT    REFERENCES tenants, -- NULL: in suspense
    entry   INTEGER NOT NULL REFERENCES entries
) STRICT;

-- Worker owners: where earnings go and how far they are covered by payouts.
CREATE TABLE owners (
    account    INTEGER PRIMARY KEY REFERENCES accounts,
    address    TEXT    NOT NULL UNIQUE,
    minimum    INTEGER NOT NULL DEFAULT 0,
    flagged    TEXT    NOT NULL DEFAULT '',
    paid       INTEGER NOT NULL DEFAULT 0, -- the sum of its paid items, kept so that reading is cheap
    returned   INTEGER NOT NULL DEFAULT 0, -- payouts that came back, less payments that were adopted
    paid_entry INTEGER NOT NULL DEFAULT 0, -- entries up to here are covered
    paid_seq   INTEGER NOT NULL DEFAULT 0, -- receipts up to this stream position are covered
    paid_lt    INTEGER NOT NULL DEFAULT 0  -- chain events up to this logical time are covered
) STRICT;

-- Payments out that somebody asked for: refunds and the operator's fees.
CREATE TABLE withdrawals (
    id        TEXT    PRIMARY KEY,
    source    TEXT    NOT NULL,         -- name of the account the money came from
    address   TEXT    NOT NULL,
    amount    INTEGER NOT NULL CHECK (amount > 0),
    purpose   TEXT    NOT NULL CHECK (purpose IN ('refund', 'fee')),
    requested INTEGER NOT NULL,
    state     TEXT    NOT NULL CHECK (state IN ('pending', 'batched', 'paid', 'cancelled'))
) STRICT;

CREATE TABLE batches (
    number     INTEGER PRIMARY KEY,
    wallet     INTEGER NOT NULL REFERENCES wallets,
    state      TEXT    NOT NULL CHECK (state IN ('signed', 'accepted', 'done', 'expired')),
    query      INTEGER NOT NULL,
    created    INTEGER NOT NULL,        -- chain time
    body       BLOB    NOT NULL UNIQUE,
    record     BLOB    NOT NULL,        -- everything that was signed, as published
    published  INTEGER NOT NULL DEFAULT 0,
    cost       INTEGER NOT NULL,
    message_lt INTEGER NOT NULL DEFAULT 0,
    root       TEXT    NOT NULL,           -- of the statement, in hex
    settled_lt INTEGER NOT NULL DEFAULT 0, -- of the transaction that settled it
    settled_tx TEXT    NOT NULL DEFAULT ''
) STRICT;
CREATE INDEX batches_open ON batches (state) WHERE state IN ('signed', 'accepted');

CREATE TABLE items (
    batch         INTEGER NOT NULL REFERENCES batches,
    position      INTEGER NOT NULL,
    account       INTEGER NOT NULL REFERENCES accounts,
    address       TEXT    NOT NULL,
    amount        INTEGER NOT NULL CHECK (amount > 0),
    purpose       TEXT    NOT NULL,
    withdrawal    TEXT    REFERENCES withdrawals,
    from_entry    INTEGER NOT NULL, from_seq    INTEGER NOT NULL, from_lt    INTEGER NOT NULL,
    through_entry INTEGER NOT NULL, through_seq INTEGER NOT NULL, through_lt INTEGER NOT NULL,
    state         TEXT    NOT NULL CHECK (state IN ('open', 'paid', 'owed')),
    recalled      INTEGER NOT NULL DEFAULT 0, -- read back from the journal after a restore
    out_lt        INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (batch, position)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX items_open ON items (address) WHERE state = 'open' AND recalled = 0;
CREATE INDEX items_address ON items (address) WHERE state = 'open';
CREATE INDEX items_account ON items (account, batch);

-- What the treasury did without us.
CREATE TABLE strangers (
    wallet     INTEGER NOT NULL REFERENCES wallets,
    lt         INTEGER NOT NULL,
    hash       TEXT    NOT NULL,
    message_lt INTEGER NOT NULL,
    outs       BLOB    NOT NULL,        -- JSON, null until they are known
    state      TEXT    NOT NULL CHECK (state IN ('accepted', 'executed', 'adopted')),
    PRIMARY KEY (wallet, lt)
) STRICT, WITHOUT ROWID;

CREATE TABLE alerts (
    id      INTEGER PRIMARY KEY,
    kind    TEXT    NOT NULL,
    subject TEXT    NOT NULL,
    detail  TEXT    NOT NULL,
    at      INTEGER NOT NULL,
    UNIQUE (kind, subject)
) STRICT;

-- What is written stays written.
-- +goose StatementBegin
CREATE TRIGGER accounts_kept   BEFORE DELETE ON accounts   BEGIN SELECT RAISE(ABORT, 'append-only'); END;
CREATE TRIGGER entries_fixed   BEFORE UPDATE ON entries    BEGIN SELECT RAISE(ABORT, 'append-only'); END;
CREATE TRIGGER entries_kept    BEFORE DELETE ON entries    BEGIN SELECT RAISE(ABORT, 'append-only'); END;
CREATE TRIGGER postings_fixed  BEFORE UPDATE ON postings   BEGIN SELECT RAISE(ABORT, 'append-only'); END;
CREATE TRIGGER postings_kept   BEFORE DELETE ON postings   BEGIN SELECT RAISE(ABORT, 'append-only'); END;
CREATE TRIGGER receipts_fixed  BEFORE UPDATE ON receipts   BEGIN SELECT RAISE(ABORT, 'append-only'); END;
CREATE TRIGGER receipts_kept   BEFORE DELETE ON receipts   BEGIN SELECT RAISE(ABORT, 'append-only'); END;
CREATE TRIGGER rejects_fixed   BEFORE UPDATE ON rejections BEGIN SELECT RAISE(ABORT, 'append-only'); END;
CREATE TRIGGER rejects_kept    BEFORE DELETE ON rejections BEGIN SELECT RAISE(ABORT, 'append-only'); END;
CREATE TRIGGER deposits_fixed  BEFORE UPDATE ON deposits   BEGIN SELECT RAISE(ABORT, 'append-only'); END;
CREATE TRIGGER deposits_kept   BEFORE DELETE ON deposits   BEGIN SELECT RAISE(ABORT, 'append-only'); END;
CREATE TRIGGER catalogue_fixed BEFORE UPDATE ON catalogues BEGIN SELECT RAISE(ABORT, 'append-only'); END;
CREATE TRIGGER catalogue_kept  BEFORE DELETE ON catalogues BEGIN SELECT RAISE(ABORT, 'append-only'); END;
CREATE TRIGGER batches_kept    BEFORE DELETE ON batches    BEGIN SELECT RAISE(ABORT, 'append-only'); END;
CREATE TRIGGER batches_fixed   BEFORE UPDATE OF number, wallet, query, created, body, record, root, cost ON batches
                                                           BEGIN SELECT RAISE(ABORT, 'append-only'); END;
CREATE TRIGGER items_kept      BEFORE DELETE ON items      BEGIN SELECT RAISE(ABORT, 'append-only'); END;
-- +goose StatementEnd
