-- What each worker earned, hour by hour: sums over receipts, written in the commit that books them, so that a chart costs
-- a look at a few rows however large the book has grown.

-- +goose Up

CREATE TABLE earnings (
    worker     BIGINT  NOT NULL REFERENCES workers,
    hour       BIGINT  NOT NULL,        -- the Unix time at which it starts; a receipt counts in the hour it finished
    receipts   BIGINT  NOT NULL,
    prompt     BIGINT  NOT NULL,
    cached     BIGINT  NOT NULL,
    completion BIGINT  NOT NULL,
    reasoning  BIGINT  NOT NULL,
    charged    BIGINT  NOT NULL,        -- what tenants paid
    earned     BIGINT  NOT NULL,        -- the worker's share of it
    PRIMARY KEY (worker, hour)
);
CREATE INDEX earnings_hour ON earnings (hour);

INSERT INTO earnings (worker, hour, receipts, prompt, cached, completion, reasoning, charged, earned)
    SELECT worker, finished / 3600 * 3600, COUNT(*), SUM(prompt), SUM(cached), SUM(completion), SUM(reasoning), SUM(total), SUM(total - fee)
    FROM receipts GROUP BY worker, finished / 3600 * 3600;
