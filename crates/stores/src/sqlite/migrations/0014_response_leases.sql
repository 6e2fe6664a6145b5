-- The responses that a process still makes. Without a row here a response has ended.
CREATE TABLE response_leases (
    response INTEGER PRIMARY KEY REFERENCES responses (number) ON DELETE CASCADE,
    -- Unix milliseconds: after them the process has stopped.
    until INTEGER NOT NULL
);
