//! The balancer over strict services.
