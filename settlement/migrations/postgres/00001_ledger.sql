-- The book. Amounts are nanoTON; a credit is positive, a debit negative. Times are Unix seconds.

-- +goose Up

-- Every holder of a balance: "tenant:…", "stake:…", "owner:…" and the network's own.
CREATE TABLE accounts (
    id      BIGINT  PRIMARY KEY,
    name    TEXT    NOT NULL UNIQUE,
    balance BIGINT  NOT NULL DEFAULT 0, -- the sum of its postings, kept so that reading is cheap
    since   BIGINT  NOT NULL DEFAULT 0  -- when the balance last rose above zero
);

-- Everything that ever happened to money. An entry's postings add up to zero.
CREATE TABLE entries (
    id    BIGINT  PRIMARY KEY,
    kind  TEXT    NOT NULL,
    place BIGINT  NOT NULL,             -- where it comes from: stream position of a job, logical time of a chain event, else 0
    at    BIGINT  NOT NULL,
    ref   TEXT                          -- the idempotency key within its kind, NULL for jobs, whose key is in receipts
);
CREATE UNIQUE INDEX entries_ref ON entries (kind, ref) WHERE ref IS NOT NULL;

CREATE TABLE postings (
    account BIGINT  NOT NULL REFERENCES accounts,
    entry   BIGINT  NOT NULL REFERENCES entries,
    amount  BIGINT  NOT NULL CHECK (amount <> 0),
    PRIMARY KEY (account, entry)
);

CREATE TABLE tenants (
    id       TEXT    PRIMARY KEY,
    name     TEXT    NOT NULL,
    key      BYTEA   NOT NULL,
    memo     TEXT    NOT NULL UNIQUE,
    account  BIGINT  NOT NULL UNIQUE REFERENCES accounts,
    stake    BIGINT  NOT NULL UNIQUE REFERENCES accounts,
    target   BIGINT  NOT NULL,          -- how much stake is kept
    created  BIGINT  NOT NULL
);

CREATE TABLE holds (
    job     BYTEA   PRIMARY KEY,
    tenant  TEXT    NOT NULL REFERENCES tenants,
    amount  BIGINT  NOT NULL CHECK (amount > 0),
    expires BIGINT  NOT NULL
);
CREATE INDEX holds_tenant ON holds (tenant);
CREATE INDEX holds_expires ON holds (expires);

CREATE TABLE catalogues (version BIGINT PRIMARY KEY, body BYTEA NOT NULL, added BIGINT  NOT NULL);
CREATE TABLE broker_keys (id TEXT PRIMARY KEY, key BYTEA NOT NULL, added BIGINT  NOT NULL);

CREATE TABLE workers (id BIGINT  PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE models (id BIGINT  PRIMARY KEY, name TEXT NOT NULL UNIQUE);

-- One row per job that cost money or could have: what was counted and how it was priced.
CREATE TABLE receipts (
    seq        BIGINT  PRIMARY KEY,     -- position in the outcome stream
    entry      BIGINT  NOT NULL REFERENCES entries,
    job        BYTEA   NOT NULL,
    tenant     BIGINT  NOT NULL REFERENCES accounts,
    owner      BIGINT  NOT NULL REFERENCES accounts,
    worker     BIGINT  NOT NULL REFERENCES workers,
    number     BIGINT  NOT NULL,        -- the worker's own count
    model      BIGINT  NOT NULL REFERENCES models,
    class      TEXT    NOT NULL,
    catalogue  BIGINT  NOT NULL,
    multiplier BIGINT  NOT NULL,
    prompt     BIGINT  NOT NULL,
    cached     BIGINT  NOT NULL,
    completion BIGINT  NOT NULL,
    reasoning  BIGINT  NOT NULL,
    total      BIGINT  NOT NULL CHECK (total >= 0),
    fee        BIGINT  NOT NULL CHECK (fee >= 0 AND fee <= total),
    hash       BYTEA   NOT NULL,        -- of the compact JWS
    finished   BIGINT  NOT NULL
);
CREATE UNIQUE INDEX receipts_job ON receipts (job);
CREATE UNIQUE INDEX receipts_number ON receipts (worker, number);

-- Outcomes that claimed money and got none.
CREATE TABLE rejections (
    seq     BIGINT  PRIMARY KEY,
    job     TEXT    NOT NULL,
    tenant  TEXT    NOT NULL,
    reason  TEXT    NOT NULL,
    detail  TEXT    NOT NULL,
    grant_jws   TEXT NOT NULL,
    receipt_jws TEXT NOT NULL,
    at      BIGINT  NOT NULL
);

-- How far streams were read.
CREATE TABLE positions (name TEXT PRIMARY KEY, value BIGINT  NOT NULL);

-- Wallets whose history is followed.
CREATE TABLE wallets (
    id         BIGINT  PRIMARY KEY,
    address    TEXT    NOT NULL UNIQUE,
    role       TEXT    NOT NULL CHECK (role IN ('treasury', 'deposits')),
    cursor     TEXT    NOT NULL DEFAULT '',
    next_query BIGINT  NOT NULL DEFAULT 0,
    stopped    TEXT    NOT NULL DEFAULT '', -- why payouts are stopped, '' while they run
    forced     BIGINT NOT NULL DEFAULT 0, -- the next round pays everything
    explained  BIGINT NOT NULL DEFAULT 0   -- the next difference to the chain is written off
);

CREATE TABLE deposits (
    hash    TEXT    PRIMARY KEY,        -- of the transaction
    wallet  BIGINT  NOT NULL REFERENCES wallets,
    lt      BIGINT  NOT NULL,
    sender  TEXT    NOT NULL,
    amount  BIGINT  NOT NULL CHECK (amount > 0),
    memo    TEXT    NOT NULL,
    tenant  TEXT    REFERENCES tenants, -- NULL: in suspense
    entry   BIGINT  NOT NULL REFERENCES entries
);

-- Worker owners: where earnings go and how far they are covered by payouts.
CREATE TABLE owners (
    account    BIGINT  PRIMARY KEY REFERENCES accounts,
    address    TEXT    NOT NULL UNIQUE,
    minimum    BIGINT  NOT NULL DEFAULT 0,
    flagged    TEXT    NOT NULL DEFAULT '',
    paid       BIGINT NOT NULL DEFAULT 0, -- the sum of its paid items, kept so that reading is cheap
    returned   BIGINT NOT NULL DEFAULT 0, -- payouts that came back, less payments that were adopted
    paid_entry BIGINT  NOT NULL DEFAULT 0, -- entries up to here are covered
    paid_seq   BIGINT  NOT NULL DEFAULT 0, -- receipts up to this stream position are covered
    paid_lt    BIGINT  NOT NULL DEFAULT 0  -- chain events up to this logical time are covered
);

-- Payments out that somebody asked for: refunds and the operator's fees.
CREATE TABLE withdrawals (
    id        TEXT    PRIMARY KEY,
    source    TEXT    NOT NULL,         -- name of the account the money came from
    address   TEXT    NOT NULL,
    amount    BIGINT  NOT NULL CHECK (amount > 0),
    purpose   TEXT    NOT NULL CHECK (purpose IN ('refund', 'fee')),
    requested BIGINT  NOT NULL,
    state     TEXT    NOT NULL CHECK (state IN ('pending', 'batched', 'paid', 'cancelled'))
);

CREATE TABLE batches (
    number     BIGINT  PRIMARY KEY,
    wallet     BIGINT  NOT NULL REFERENCES wallets,
    state      TEXT    NOT NULL CHECK (state IN ('signed', 'accepted', 'done', 'expired')),
    query      BIGINT  NOT NULL,
    created    BIGINT  NOT NULL,        -- chain time
    body       BYTEA   NOT NULL UNIQUE,
    record     BYTEA   NOT NULL,        -- everything that was signed, as published
    published  BIGINT  NOT NULL DEFAULT 0,
    cost       BIGINT  NOT NULL,
    message_lt BIGINT  NOT NULL DEFAULT 0,
    root       TEXT    NOT NULL,           -- of the statement, in hex
    settled_lt BIGINT  NOT NULL DEFAULT 0, -- of the transaction that settled it
    settled_tx TEXT    NOT NULL DEFAULT ''
);
CREATE INDEX batches_open ON batches (state) WHERE state IN ('signed', 'accepted');

CREATE TABLE items (
    batch         BIGINT  NOT NULL REFERENCES batches,
    position      BIGINT  NOT NULL,
    account       BIGINT  NOT NULL REFERENCES accounts,
    address       TEXT    NOT NULL,
    amount        BIGINT  NOT NULL CHECK (amount > 0),
    purpose       TEXT    NOT NULL,
    withdrawal    TEXT    REFERENCES withdrawals,
    from_entry    BIGINT  NOT NULL, from_seq    BIGINT  NOT NULL, from_lt    BIGINT  NOT NULL,
    through_entry BIGINT  NOT NULL, through_seq BIGINT  NOT NULL, through_lt BIGINT  NOT NULL,
    state         TEXT    NOT NULL CHECK (state IN ('open', 'paid', 'owed')),
    recalled      BIGINT NOT NULL DEFAULT 0, -- read back from the journal after a restore
    out_lt        BIGINT  NOT NULL DEFAULT 0,
    PRIMARY KEY (batch, position)
);
CREATE UNIQUE INDEX items_open ON items (address) WHERE state = 'open' AND recalled = 0;
CREATE INDEX items_address ON items (address) WHERE state = 'open';
CREATE INDEX items_account ON items (account, batch);

-- What the treasury did without us.
CREATE TABLE strangers (
    wallet     BIGINT  NOT NULL REFERENCES wallets,
    lt         BIGINT  NOT NULL,
    hash       TEXT    NOT NULL,
    message_lt BIGINT  NOT NULL,
    outs       BYTEA   NOT NULL,        -- JSON, null until they are known
    state      TEXT    NOT NULL CHECK (state IN ('accepted', 'executed', 'adopted')),
    PRIMARY KEY (wallet, lt)
);

CREATE TABLE alerts (
    id      BIGINT  PRIMARY KEY,
    kind    TEXT    NOT NULL,
    subject TEXT    NOT NULL,
    detail  TEXT    NOT NULL,
    at      BIGINT  NOT NULL,
    UNIQUE (kind, subject)
);

-- What is written stays written.
-- +goose StatementBegin
CREATE FUNCTION append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'append-only' USING ERRCODE = 'integrity_constraint_violation';
END $$;
-- +goose StatementEnd

-- +goose StatementBegin
DO $$
DECLARE
    t TEXT;
BEGIN
    FOREACH t IN ARRAY ARRAY['entries', 'postings', 'receipts', 'rejections', 'deposits', 'catalogues'] LOOP
        EXECUTE format('CREATE TRIGGER %I BEFORE UPDATE OR DELETE ON %I FOR EACH ROW EXECUTE FUNCTION append_only()', t || '_fixed', t);
    END LOOP;
    FOREACH t IN ARRAY ARRAY['accounts', 'batches', 'items'] LOOP
        EXECUTE format('CREATE TRIGGER %I BEFORE DELETE ON %I FOR EACH ROW EXECUTE FUNCTION append_only()', t || '_kept', t);
    END LOOP;
    FOREACH t IN ARRAY ARRAY['accounts', 'entries', 'postings', 'receipts', 'rejections', 'deposits', 'catalogues', 'batches', 'items'] LOOP
        EXECUTE format('CREATE TRIGGER %I BEFORE TRUNCATE ON %I EXECUTE FUNCTION append_only()', t || '_whole', t);
    END LOOP;
END $$;
-- +goose StatementEnd
CREATE TRIGGER batches_fixed BEFORE UPDATE OF number, wallet, query, created, body, record, root, cost ON batches
    FOR EACH ROW EXECUTE FUNCTION append_only();
