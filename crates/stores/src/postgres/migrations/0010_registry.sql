-- The callers' keys and teams. A document is JSON, which has hashes of keys and never a key.
CREATE TABLE steadfast_registry (
    kind text NOT NULL,
    name text COLLATE "C" NOT NULL,
    document text NOT NULL,
    revision bigint NOT NULL,
    PRIMARY KEY (kind, name)
);
-- Who changed what: `at` in the database's Unix milliseconds, the documents before and after.
CREATE TABLE steadfast_registry_changes (
    revision bigint PRIMARY KEY,
    at bigint NOT NULL,
    actor text NOT NULL,
    action text NOT NULL,
    kind text NOT NULL,
    name text COLLATE "C" NOT NULL,
    before text,
    after text
);
CREATE INDEX steadfast_registry_changes_by_name ON steadfast_registry_changes (kind, name, revision);
