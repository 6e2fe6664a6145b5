-- The callers' keys and teams. A document is JSON, which has hashes of keys and never a key.
CREATE TABLE registry (
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    document TEXT NOT NULL,
    revision INTEGER NOT NULL,
    PRIMARY KEY (kind, name)
) WITHOUT ROWID;
-- Who changed what: `at` in Unix milliseconds, the documents before and after.
CREATE TABLE registry_changes (
    revision INTEGER PRIMARY KEY,
    at INTEGER NOT NULL,
    actor TEXT NOT NULL,
    action TEXT NOT NULL,
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    before TEXT,
    after TEXT
);
CREATE INDEX registry_changes_by_name ON registry_changes (kind, name, revision);
