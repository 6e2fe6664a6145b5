-- Responses that callers may continue by an id. Times are Unix milliseconds by `steadfast_now()`.
CREATE TABLE steadfast_responses (
    -- In the order in which they were kept.
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id text COLLATE "C" NOT NULL UNIQUE,
    -- The name of the caller's key; empty without keys.
    owner text NOT NULL,
    session text,
    -- The id of the response that this one continues.
    previous text COLLATE "C",
    until bigint NOT NULL,
    bytes bigint NOT NULL,
    -- The provider's account that keeps the conversation too, and its own id.
    account text,
    origin text,
    -- In JSON, and last: the items of the request, and the response as the caller has it.
    input text NOT NULL,
    response text NOT NULL
);
CREATE INDEX steadfast_responses_until ON steadfast_responses (until);
CREATE INDEX steadfast_responses_owner ON steadfast_responses (owner, number, bytes);
CREATE INDEX steadfast_responses_session ON steadfast_responses (session) WHERE session IS NOT NULL;

-- Where an item is found by its id.
CREATE TABLE steadfast_response_items (
    owner text NOT NULL,
    item text COLLATE "C" NOT NULL,
    response bigint NOT NULL REFERENCES steadfast_responses (number) ON DELETE CASCADE,
    PRIMARY KEY (owner, item, response)
);
CREATE INDEX steadfast_response_items_response ON steadfast_response_items (response);
