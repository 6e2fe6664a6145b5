-- How much a task takes, and whose it is: what new ones are measured against, in an index that has all of it.
ALTER TABLE steadfast_tasks ADD COLUMN bytes bigint NOT NULL DEFAULT 0;
UPDATE steadfast_tasks SET bytes = octet_length(request) + octet_length(attempts);
CREATE INDEX steadfast_tasks_taken ON steadfast_tasks (tenant, bytes, expires_at, answered_at);
CREATE INDEX steadfast_tasks_session ON steadfast_tasks (session) WHERE session IS NOT NULL;
