//! The findings about tiers, and the orders by hand: which of them serve.

mod handle;
mod kept_text;
mod orders;
mod ramp;
mod sessions;
mod state;
mod switch_reports;

pub use self::{handle::FallbackHandle, ramp::RampStep};
pub(super) use self::{
    handle::Steering,
    kept_text::KeptText,
    orders::Orders,
    state::{KnownTier, Passage, ServedChain, Settled, ShortWait, State, StateSettings},
};
