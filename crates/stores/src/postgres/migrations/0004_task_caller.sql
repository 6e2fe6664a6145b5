-- What a task's caller says of it.
ALTER TABLE steadfast_tasks ADD COLUMN caller text;
