//! One call for each key: whoever repeats a request gets the answer that was made, also when nobody waited for it any
//! more.

mod answers;
mod leaving;
mod slow;
mod stores;
mod streams;
mod told;

use std::time::Duration;

use steadfast::LlmRequest;

const SECOND: Duration = Duration::from_secs(1);

fn ask() -> LlmRequest {
    LlmRequest::prompt("hello").with_idempotency_key("k-1")
}

fn stream() -> LlmRequest {
    ask().with_stream(true)
}
