-- What a task's caller says of it.
ALTER TABLE tasks ADD COLUMN caller TEXT;
