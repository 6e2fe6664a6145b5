-- What calls cost: a row for each settled call or failed attempt. Times are Unix milliseconds, amounts billionths of a dollar.
CREATE TABLE ledger (
    -- The journal's writer and the row's number: a row that comes again is known by it.
    id TEXT PRIMARY KEY,
    at INTEGER NOT NULL,
    request_id TEXT,
    key TEXT,
    team TEXT,
    feature TEXT,
    session TEXT,
    tier TEXT,
    provider TEXT,
    asked_model TEXT,
    served_model TEXT,
    input INTEGER NOT NULL,
    cache_read INTEGER NOT NULL,
    cache_write INTEGER NOT NULL,
    output INTEGER NOT NULL,
    reasoning INTEGER NOT NULL,
    -- By the price table, and the provider's own figure.
    list INTEGER,
    own INTEGER,
    kind TEXT NOT NULL,
    degraded INTEGER NOT NULL,
    is_estimate INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX ledger_at ON ledger (at, id);

-- The sums of each hour since 1970, which stay for ever. A name that rows lack is empty.
CREATE TABLE ledger_hours (
    hour INTEGER NOT NULL,
    key TEXT NOT NULL,
    team TEXT NOT NULL,
    feature TEXT NOT NULL,
    tier TEXT NOT NULL,
    provider TEXT NOT NULL,
    model TEXT NOT NULL,
    rows INTEGER NOT NULL,
    requests INTEGER NOT NULL,
    input INTEGER NOT NULL,
    cache_read INTEGER NOT NULL,
    cache_write INTEGER NOT NULL,
    output INTEGER NOT NULL,
    reasoning INTEGER NOT NULL,
    cost INTEGER NOT NULL,
    list INTEGER NOT NULL,
    unpriced INTEGER NOT NULL,
    estimates INTEGER NOT NULL,
    PRIMARY KEY (hour, key, team, feature, tier, provider, model)
) WITHOUT ROWID;
