-- The places of objects that providers keep for callers, such as files and batches.
CREATE TABLE places (
    -- The provider's id.
    id TEXT PRIMARY KEY,
    -- The name of the caller's key; empty without keys.
    owner TEXT NOT NULL,
    tier TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX places_owner ON places (owner);
