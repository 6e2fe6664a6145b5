-- Responses that callers may continue by an id. Times are Unix milliseconds.
CREATE TABLE responses (
    -- In the order in which they were kept.
    number INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    -- The name of the caller's key; empty without keys.
    owner TEXT NOT NULL,
    session TEXT,
    -- The id of the response that this one continues.
    previous TEXT,
    until INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    -- The provider's account that keeps the conversation too, and its own id.
    account TEXT,
    origin TEXT,
    -- In JSON, and last: the items of the request, and the response as the caller has it.
    input TEXT NOT NULL,
    response TEXT NOT NULL
);
CREATE INDEX responses_until ON responses (until);
CREATE INDEX responses_owner ON responses (owner, number, bytes);
CREATE INDEX responses_session ON responses (session) WHERE session IS NOT NULL;

-- Where an item is found by its id.
CREATE TABLE response_items (
    owner TEXT NOT NULL,
    item TEXT NOT NULL,
    response INTEGER NOT NULL REFERENCES responses (number) ON DELETE CASCADE,
    PRIMARY KEY (owner, item, response)
) WITHOUT ROWID;
CREATE INDEX response_items_response ON response_items (response);
