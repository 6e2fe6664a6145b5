-- Unix milliseconds: when a place is over; empty for one that stays.
ALTER TABLE places ADD COLUMN until INTEGER;
CREATE INDEX places_until ON places (until) WHERE until IS NOT NULL;
