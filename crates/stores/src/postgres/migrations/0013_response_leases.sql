-- The responses that a process still makes. Without a row here a response has ended.
CREATE TABLE steadfast_response_leases (
    response bigint PRIMARY KEY REFERENCES steadfast_responses (number) ON DELETE CASCADE,
    -- Unix milliseconds by `steadfast_now()`: after them the process has stopped.
    until bigint NOT NULL
);
