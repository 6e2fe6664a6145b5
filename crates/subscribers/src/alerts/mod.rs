//! Alerts: reports to people when a condition begins and when it ends.
//!
//! [`Alerts`] follows the [`Events`](steadfast::Events) in its own task, outside of any request's way. It checks them
//! against [`Rules`] and passes each [`Alert`] to the named sinks: a function, or (feature `alerts`) a `Webhook`. Each
//! alert is sent once when it begins and once when it ends.
//!
//! An [`AlertEngine`] is the rules without the task.
//!
//! # Example
//!
//! ```
//! use steadfast::{Event, Events};
//! use steadfast_subscribers::alerts::{Alert, Alerts, Rules};
//! use tokio::{sync::mpsc, time::Instant};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() {
//! let events = Events::new(); // give clones of it to the layers
//! let (send, mut received) = mpsc::unbounded_channel();
//! let _subscription = Alerts::new(Rules::new())
//!     .to(move |alert: &Alert| drop(send.send(alert.summary.clone())))
//!     .follow(&events);
//!
//! let source = "the AWS profile `work`".into();
//! let problem = "AWS STS cannot be reached".into();
//! events.send(Event::CredentialsFailed { source, problem, usable: true, at: Instant::now() });
//! assert_eq!(received.recv().await.unwrap(), "the credentials of the AWS profile `work` are not renewed");
//! # }
//! ```

mod alert;
mod board;
mod causes;
mod counts;
mod engine;
mod follow;
mod origin;
mod rules;
mod template;
#[cfg(test)]
mod tests;
#[cfg(feature = "alerts")]
pub mod webhook;

#[cfg(feature = "alerts")]
pub use self::webhook::{Webhook, WebhookHandle};
pub use self::{
    alert::{Alert, AlertState, Rule, Severity},
    engine::AlertEngine,
    follow::{AlertSink, Alerts},
    origin::Origin,
    rules::{
        FAILOVERS, FALLBACK_SHARE, FallbackShare, Frequency, RATE, Rate, Rules, SLOWNESS, Slowness, TOTAL_FAILURE,
        TotalFailure,
    },
    template::{Flaw, PLACEHOLDERS, Template},
};
