-- Unix milliseconds by `steadfast_now()`: when a place is over; empty for one that stays.
ALTER TABLE steadfast_places ADD COLUMN until bigint;
CREATE INDEX steadfast_places_until ON steadfast_places (until) WHERE until IS NOT NULL;
