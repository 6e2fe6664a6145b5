//! Replicas that share what they know: over a store in memory, and over a real Redis where `STEADFAST_TEST_REDIS` names
//! one.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "a real server keeps real time")]
#![allow(unreachable_pub, reason = "one crate, in parts")]

/// Runs each promise over a store in memory and over a real Redis, where there is one.
macro_rules! over_each_store {
    ($memory:ident, $what:literal: $($promise:ident),* $(,)?) => {$(
        mod $promise {
            #[tokio::test]
            async fn in_memory() {
                super::$promise(&super::$memory::new()).await;
            }

            #[tokio::test]
            async fn in_redis() {
                let test = concat!($what, "-", stringify!($promise));
                if let Some(redis) = crate::replicas::server::shared(test) {
                    super::$promise(&redis).await;
                }
            }
        }
    )*};
}

mod answers;
mod exchange;
mod headroom;
mod limits;
mod outage;
mod server;
mod stacks;
mod wrong;
