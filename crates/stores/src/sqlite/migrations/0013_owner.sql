-- The deployment that the file belongs to, by its `stores.prefix`: one row at most.
CREATE TABLE owner (
    id INTEGER PRIMARY KEY NOT NULL CHECK (id = 1),
    name TEXT NOT NULL,
    -- Unix milliseconds.
    since INTEGER NOT NULL
);
