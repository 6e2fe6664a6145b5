-- The answers of a cache.
CREATE TABLE answers (
    -- In the order in which they were kept.
    number INTEGER PRIMARY KEY,
    -- SHA-256 of what was asked, and by whom.
    key BLOB NOT NULL UNIQUE,
    feature TEXT,
    -- Unix milliseconds: when nobody would be given it any more.
    until INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    -- The bytes of an `Answer`.
    answer BLOB NOT NULL
);
CREATE INDEX answers_until ON answers (until);
CREATE INDEX answers_bytes ON answers (bytes);
