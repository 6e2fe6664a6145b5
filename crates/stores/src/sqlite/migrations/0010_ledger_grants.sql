-- What replicas may spend under their caps: amounts in billionths of a dollar, `ends` in Unix milliseconds.
CREATE TABLE ledger_grants (
    replica TEXT NOT NULL,
    -- Empty for a row that only tells that its replica runs.
    cap TEXT NOT NULL,
    -- Empty for a cap that is not for each key.
    key TEXT NOT NULL,
    -- The beginning of the cap's period, in seconds since 1970.
    since INTEGER NOT NULL,
    amount INTEGER NOT NULL,
    held INTEGER NOT NULL,
    ends INTEGER NOT NULL,
    PRIMARY KEY (replica, cap, key)
) WITHOUT ROWID;
