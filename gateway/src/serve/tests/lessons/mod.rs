//! What users of other gateways complain of does not happen here.

mod claude_code;
mod conversations;
mod failures;
mod house;
mod outages;
mod streams;
mod wire;

use super::harness::{CHAT, MESSAGES, PATHS, hello};
