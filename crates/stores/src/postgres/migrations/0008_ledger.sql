-- What calls cost: a row for each settled call or failed attempt. Times are Unix milliseconds by the processes' clocks, amounts
-- billionths of a dollar.
CREATE TABLE steadfast_ledger (
    -- The journal's writer and the row's number: a row that comes again is known by it.
    id text COLLATE "C" PRIMARY KEY,
    at bigint NOT NULL,
    request_id text,
    key text,
    team text,
    feature text,
    session text,
    tier text,
    provider text,
    asked_model text,
    served_model text,
    input bigint NOT NULL,
    cache_read bigint NOT NULL,
    cache_write bigint NOT NULL,
    output bigint NOT NULL,
    reasoning bigint NOT NULL,
    -- By the price table, and the provider's own figure.
    list bigint,
    own bigint,
    kind text NOT NULL,
    degraded boolean NOT NULL,
    is_estimate boolean NOT NULL
);
CREATE INDEX steadfast_ledger_at ON steadfast_ledger (at, id);

-- The sums of each hour since 1970, which stay for ever. A name that rows lack is empty.
CREATE TABLE steadfast_ledger_hours (
    hour bigint NOT NULL,
    key text COLLATE "C" NOT NULL,
    team text COLLATE "C" NOT NULL,
    feature text COLLATE "C" NOT NULL,
    tier text COLLATE "C" NOT NULL,
    provider text COLLATE "C" NOT NULL,
    model text COLLATE "C" NOT NULL,
    rows bigint NOT NULL,
    requests bigint NOT NULL,
    input bigint NOT NULL,
    cache_read bigint NOT NULL,
    cache_write bigint NOT NULL,
    output bigint NOT NULL,
    reasoning bigint NOT NULL,
    cost bigint NOT NULL,
    list bigint NOT NULL,
    unpriced bigint NOT NULL,
    estimates bigint NOT NULL,
    PRIMARY KEY (hour, key, team, feature, tier, provider, model)
);
