//! steadfast keeps language-model calls alive.
