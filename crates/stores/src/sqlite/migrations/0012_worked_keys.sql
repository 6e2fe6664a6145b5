-- The providers' keys that have worked: a name has a circuit and a hash of its account, and never a key.
CREATE TABLE worked_keys (
    name TEXT PRIMARY KEY NOT NULL,
    -- Unix milliseconds: the last success, to the day.
    at INTEGER NOT NULL
) WITHOUT ROWID;
