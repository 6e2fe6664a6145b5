//! Stops calling a provider that is down, and finds out by itself when it is back.

#[cfg(all(test, steadfast_loom))]
mod loom_tests;
mod settings;
mod state;
#[cfg(all(test, not(steadfast_loom)))]
mod state_tests;
mod storm;
mod sync;
mod window;
mod word;
