//! The load of a balancer for tower's own, and the end of an answer for tower's counts: the feature `load`.

use tokio::time::Instant;
use tower::load::{Load, TrackCompletion};

use super::{Balance, time::Time};
use crate::LlmResponse;

/// Tells tower's [`Load`](tower::load)s that a call is complete when its answer ends, not when it begins.
///
/// A streamed answer is a response from its first token on. tower's own
/// [`CompleteOnResponse`](tower::load::CompleteOnResponse) counts the call until then. With this, `PendingRequests`
/// counts a stream until its end, or until the caller drops it. `PeakEwma` then measures the time of the whole answer,
/// whose length is the prompt's doing: for the time to the first token, use [`Balance`]'s own load.
///
/// # Example
///
/// ```
/// use steadfast::{LlmError, LlmRequest, layers::balance::BodyCompletion, providers::Simulated};
/// use tower::{ServiceExt, balance::p2c::Balance, discover::ServiceList, load::PendingRequests};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), tower::BoxError> {
/// let leaf = |name| PendingRequests::new(Simulated::new(name), BodyCompletion);
/// let services = ServiceList::new::<LlmRequest>([leaf("east"), leaf("west")]);
/// let mut llm = Balance::new(services);
///
/// let first = llm.ready().await?;
/// let answer = tower::Service::call(first, LlmRequest::prompt("hi").with_stream(true)).await?;
/// // The other one is chosen as long as this stream lasts.
/// let other = tower::Service::call(llm.ready().await?, LlmRequest::prompt("hi")).await?;
/// assert_ne!(answer.served_by().model, None::<&str>);
/// # drop(other);
/// answer.text().await?;
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct BodyCompletion;

impl<H: Send + 'static> TrackCompletion<H, LlmResponse> for BodyCompletion {
    type Output = LlmResponse;

    fn track_completion(&self, handle: H, mut response: LlmResponse) -> LlmResponse {
        response.hold(move |_| drop(handle));
        response
    }
}

/// The time to a first token that is assumed before the first answer. It is short, so that a new one is tried.
const UNKNOWN: f32 = 0.1;

/// The cost of one more request at its cheapest deployment: the seconds to the first token, times the requests in
/// flight for each unit of weight and one more, times a factor for failures. It is infinite while none serves.
///
/// A balancer of one deployment so is the wrapper that tower's p2c needs around a stack or a leaf. It costs a look at
/// each deployment: keep those within tower's balancer small.
///
/// # Example
///
/// ```
/// use steadfast::{BalanceLayer, ErrorKind, LlmError, LlmRequest, LlmResponse, provider_fn};
/// use steadfast::layers::balance::{Deployment, Deployments};
/// use tower::{Layer, Service, ServiceExt, balance::p2c, discover::ServiceList};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), tower::BoxError> {
/// let server = |name: &'static str, works: bool| {
///     let leaf = provider_fn(move |_request| async move {
///         if works { Ok(LlmResponse::from_text("hello")) } else { Err(LlmError::new(ErrorKind::Server, "down")) }
///     });
///     Ok::<_, tower::BoxError>(BalanceLayer::new().layer(Deployments::new([Deployment::new(name, leaf)])?))
/// };
/// let servers = [server("east", true)?, server("west", false)?, server("north", true)?];
/// let [_, west, _] = &servers;
/// let west = west.handle();
/// let mut llm = p2c::Balance::new(ServiceList::new::<LlmRequest>(servers));
/// let mut answered = 0;
/// for _ in 0..100 {
///     answered += u32::from(llm.ready().await?.call(LlmRequest::prompt("hi")).await.is_ok());
/// }
/// assert!(answered >= 90, "failures are fast, and attract nothing");
/// assert_eq!(west.deployments()[0].failed, u64::from(100 - answered));
/// # Ok(()) }
/// ```
impl<S> Load for Balance<S> {
    type Metric = f64;

    fn load(&self) -> f64 {
        let common = &self.shared.common;
        let now = Time::new(Instant::now(), common.begun);
        let members = self.shared.members();
        let cost = members.list.iter().filter(|member| member.is_available(now)).map(|member| {
            let quote = |stream| member.state.quote(member.share, stream, common.settings.slow_start, now);
            let (streamed, whole) = (quote(true), quote(false));
            let time = streamed.time.or(whole.time).unwrap_or(UNKNOWN);
            f64::from(time) * f64::from(streamed.load) * f64::from(streamed.penalty)
        });
        cost.fold(f64::INFINITY, f64::min)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::FutureExt as _;
    use tower::{Layer, Service, ServiceExt as _, load::PendingRequests};

    use super::*;
    use crate::{
        BalanceLayer, LlmRequest,
        layers::balance::{Deployment, Deployments},
        providers::Simulated,
    };

    #[tokio::test(start_paused = true)]
    async fn a_stream_is_pending_until_it_ends_or_is_dropped() {
        let leaf = Simulated::new("m").latency(Duration::from_secs(1)).reply("one two");
        let mut counted = PendingRequests::new(leaf, BodyCompletion);
        let idle = counted.load();
        let ask = || LlmRequest::prompt("hi").with_stream(true);
        for read in [true, false] {
            let answer = counted.call(ask()).await.unwrap();
            assert!(counted.load() > idle);
            if read {
                drop(answer.text().await.unwrap())
            } else {
                drop(answer)
            }
            assert!(counted.load() <= idle);
        }
        let call = counted.call(ask());
        assert!(counted.load() > idle);
        drop(call);
        assert!(counted.load() <= idle);
    }

    #[tokio::test(start_paused = true)]
    async fn the_load_of_a_balancer_grows_with_time_and_calls_and_is_infinite_without_service() {
        let of = |seconds| {
            let leaf = Simulated::new("m").latency(Duration::from_secs(seconds));
            BalanceLayer::new().layer(Deployments::new([Deployment::new("m", leaf)]).unwrap())
        };
        let (fast, slow) = (of(1), of(9));
        for llm in [&fast, &slow] {
            llm.clone().oneshot(LlmRequest::prompt("hi")).await.unwrap();
        }
        assert!((0.9..=1.1).contains(&fast.load()) && slow.load() > 8.0 * fast.load());
        let mut call = Box::pin(fast.clone().oneshot(LlmRequest::prompt("hi")));
        assert!((&mut call).now_or_never().is_none());
        assert!(fast.load() > 1.8);
        fast.handle().drain("m");
        assert_eq!(fast.load(), f64::INFINITY);
    }
}
