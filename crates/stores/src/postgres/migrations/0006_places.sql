-- The places of objects that providers keep for callers, such as files and batches.
CREATE TABLE steadfast_places (
    -- The provider's id.
    id text COLLATE "C" PRIMARY KEY,
    -- The name of the caller's key; empty without keys.
    owner text NOT NULL,
    tier text NOT NULL
);
CREATE INDEX steadfast_places_owner ON steadfast_places (owner);
