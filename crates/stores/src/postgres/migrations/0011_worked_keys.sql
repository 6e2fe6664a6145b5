-- The providers' keys that have worked: a name has a circuit and a hash of its account, and never a key.
CREATE TABLE steadfast_worked_keys (
    name text COLLATE "C" PRIMARY KEY,
    -- Unix milliseconds by `steadfast_now()`: the last success, to the day.
    at bigint NOT NULL
);
