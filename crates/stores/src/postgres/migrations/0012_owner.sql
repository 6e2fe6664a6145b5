-- The deployment that the database belongs to, by its `stores.prefix`: one row at most.
CREATE TABLE steadfast_owner (
    id integer PRIMARY KEY CHECK (id = 1),
    name text NOT NULL,
    -- Unix milliseconds by `steadfast_now()`.
    since bigint NOT NULL
);
