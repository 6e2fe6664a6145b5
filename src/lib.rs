//! steadfast keeps language-model calls alive.

#[cfg(test)]
#[path = "layers/circuit_breaker/mod.rs"]
mod circuit_breaker;
