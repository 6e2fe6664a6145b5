-- Requests handed to people. Times are Unix milliseconds by `steadfast_now()`.
CREATE TABLE steadfast_tasks (
    id text COLLATE "C" PRIMARY KEY,
    created_at bigint NOT NULL,
    expires_at bigint NOT NULL,
    feature text,
    session text,
    tenant text,
    reason text NOT NULL,
    preview text NOT NULL,
    requires_human bigint NOT NULL,
    -- Whether a model may be asked again: 0 no, 1 yes, 2 it was asked for.
    redrive bigint NOT NULL,
    -- SHA-256 of whose request it is, of its key and of what it asks.
    same_as text,
    -- Who is told of the answer, in JSON.
    callback text,
    claim_kind text,
    claim_name text,
    claim_until bigint,
    answered_kind text,
    answered_name text,
    answered_at bigint,
    -- In JSON, and last: what is large is not read to see how far a task is. What was asked, what was tried, the answer.
    request text NOT NULL,
    attempts text NOT NULL,
    answer text
);
CREATE UNIQUE INDEX steadfast_tasks_same_as ON steadfast_tasks (same_as) WHERE same_as IS NOT NULL;
CREATE INDEX steadfast_tasks_open ON steadfast_tasks (created_at, id) WHERE answered_at IS NULL;
CREATE INDEX steadfast_tasks_over ON steadfast_tasks ((coalesce(answered_at, expires_at)));

-- What is told about a task: written with what it tells, and sent until it has arrived.
CREATE TABLE steadfast_task_deliveries (
    id text COLLATE "C" PRIMARY KEY,
    task text COLLATE "C" NOT NULL REFERENCES steadfast_tasks (id) ON DELETE CASCADE,
    kind text NOT NULL,
    url text,
    state text NOT NULL,
    attempts bigint NOT NULL,
    next_at bigint,
    problem text
);
CREATE INDEX steadfast_task_deliveries_task ON steadfast_task_deliveries (task);
CREATE INDEX steadfast_task_deliveries_next ON steadfast_task_deliveries (next_at) WHERE next_at IS NOT NULL;
CREATE INDEX steadfast_task_deliveries_dead ON steadfast_task_deliveries (state) WHERE state = 'dead';
