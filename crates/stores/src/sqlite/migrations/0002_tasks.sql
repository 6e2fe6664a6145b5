-- Requests handed to people. Times are Unix milliseconds.
CREATE TABLE tasks (
    id TEXT PRIMARY KEY NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    feature TEXT,
    session TEXT,
    tenant TEXT,
    reason TEXT NOT NULL,
    preview TEXT NOT NULL,
    requires_human INTEGER NOT NULL,
    -- Whether a model may be asked again: 0 no, 1 yes, 2 it was asked for.
    redrive INTEGER NOT NULL,
    -- SHA-256 of whose request it is, of its key and of what it asks.
    same_as TEXT,
    -- Who is told of the answer, in JSON.
    callback TEXT,
    claim_kind TEXT,
    claim_name TEXT,
    claim_until INTEGER,
    answered_kind TEXT,
    answered_name TEXT,
    answered_at INTEGER,
    -- In JSON, and last: what is large is not read to see how far a task is. What was asked, what was tried, the answer.
    request TEXT NOT NULL,
    attempts TEXT NOT NULL,
    answer TEXT
);
CREATE UNIQUE INDEX tasks_same_as ON tasks (same_as) WHERE same_as IS NOT NULL;
CREATE INDEX tasks_open ON tasks (created_at, id) WHERE answered_at IS NULL;
CREATE INDEX tasks_over ON tasks (coalesce(answered_at, expires_at));

-- What is told about a task: written with what it tells, and sent until it has arrived.
CREATE TABLE task_deliveries (
    id TEXT PRIMARY KEY NOT NULL,
    task TEXT NOT NULL REFERENCES tasks (id) ON DELETE CASCADE,
    kind TEXT NOT NULL,
    url TEXT,
    state TEXT NOT NULL,
    attempts INTEGER NOT NULL,
    next_at INTEGER,
    problem TEXT
);
CREATE INDEX task_deliveries_task ON task_deliveries (task);
CREATE INDEX task_deliveries_next ON task_deliveries (next_at) WHERE next_at IS NOT NULL;
CREATE INDEX task_deliveries_dead ON task_deliveries (state) WHERE state = 'dead';
