-- How much a task takes, and whose it is: what new ones are measured against, in an index that has all of it.
ALTER TABLE tasks ADD COLUMN bytes INTEGER NOT NULL DEFAULT 0;
UPDATE tasks SET bytes = length(CAST(request AS BLOB)) + length(CAST(attempts AS BLOB));
CREATE INDEX tasks_taken ON tasks (tenant, bytes, expires_at, answered_at);
CREATE INDEX tasks_session ON tasks (session) WHERE session IS NOT NULL;
