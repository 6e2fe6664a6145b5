-- What replicas may spend under their caps: amounts in billionths of a dollar, `ends` in the database's Unix milliseconds.
CREATE TABLE steadfast_ledger_grants (
    replica text NOT NULL,
    -- Empty for a row that only tells that its replica runs.
    cap text NOT NULL,
    -- Empty for a cap that is not for each key.
    key text NOT NULL,
    -- The beginning of the cap's period, in seconds since 1970.
    since bigint NOT NULL,
    amount bigint NOT NULL,
    held bigint NOT NULL,
    ends bigint NOT NULL,
    PRIMARY KEY (replica, cap, key)
);
