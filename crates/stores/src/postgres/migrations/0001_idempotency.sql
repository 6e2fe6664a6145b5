-- The one clock of all processes, in Unix milliseconds.
CREATE FUNCTION steadfast_now() RETURNS bigint LANGUAGE sql VOLATILE
    AS $$ SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint $$;

-- Never given twice, not even after its record is gone.
CREATE SEQUENCE steadfast_ticket;

-- One record for each idempotency key: what is being done (no answer), and what was answered.
CREATE TABLE steadfast_idempotency (
    -- SHA-256 of whose key it is and of the key.
    key bytea PRIMARY KEY,
    -- SHA-256 of what was asked.
    input bytea NOT NULL,
    ticket bigint NOT NULL,
    -- Unix milliseconds: when the lease, or the answer's time, is over.
    until bigint NOT NULL,
    -- Unix milliseconds: when the answer was kept.
    kept bigint,
    bytes bigint NOT NULL DEFAULT 0,
    -- The bytes of an `Answer`.
    answer bytea
);
CREATE INDEX steadfast_idempotency_until ON steadfast_idempotency (until);
CREATE INDEX steadfast_idempotency_kept ON steadfast_idempotency (kept, bytes) WHERE kept IS NOT NULL;
