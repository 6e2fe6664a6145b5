//! Promises of the journal: what was settled is counted once, whatever ends or fails meanwhile.

mod bounds;
mod cut;
mod killed;
mod outage;
mod place;
mod processes;
mod rounds;
