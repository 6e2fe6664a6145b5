-- One record for each idempotency key: what is being done (no answer), and what was answered.
CREATE TABLE idempotency (
    -- Never given twice, not even after its record is gone.
    ticket INTEGER PRIMARY KEY AUTOINCREMENT,
    -- SHA-256 of whose key it is and of the key.
    key BLOB NOT NULL UNIQUE,
    -- SHA-256 of what was asked.
    input BLOB NOT NULL,
    -- Unix milliseconds: when the lease, or the answer's time, is over.
    until INTEGER NOT NULL,
    -- Unix milliseconds: when the answer was kept.
    kept INTEGER,
    bytes INTEGER NOT NULL DEFAULT 0,
    -- The bytes of an `Answer`.
    answer BLOB
);
CREATE INDEX idempotency_until ON idempotency (until);
CREATE INDEX idempotency_kept ON idempotency (kept, bytes) WHERE kept IS NOT NULL;
