//! Polling for a change that no one reports.

use std::{future::Future, time::Duration};

use tokio::time::{Instant, sleep, timeout_at};

/// The first wait, which doubles up to the longest.
const FIRST: Duration = Duration::from_millis(10);
const LONGEST: Duration = Duration::from_millis(160);

/// Polls until the record is no longer processing under the same ticket, or the time is over.
///
/// A failed poll counts as no change: the caller calls the store next and gets the error there.
pub(super) async fn wait_for_change<F, E>(at_most: Duration, mut processing: impl FnMut() -> F)
where
    F: Future<Output = Result<Option<i64>, E>>,
{
    let Some(ends) = Instant::now().checked_add(at_most) else { return };
    // A single poll may take longer than that.
    let _ = timeout_at(ends, poll(ends, &mut processing)).await;
}

async fn poll<F, E>(ends: Instant, processing: &mut impl FnMut() -> F)
where
    F: Future<Output = Result<Option<i64>, E>>,
{
    let mut first = None;
    let mut wait = FIRST;
    loop {
        match (processing().await, first) {
            (Ok(None), _) => return,
            (Ok(Some(ticket)), Some(before)) if ticket != before => return,
            (Ok(ticket), None) => first = ticket,
            _ => {}
        }
        let left = ends.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        sleep(wait.min(left)).await;
        wait = (wait * 2).min(LONGEST);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn took(at_most: u64, said: &[Result<Option<i64>, ()>]) -> u128 {
        let begun = Instant::now();
        let mut said = said.iter().chain(said.last().into_iter().cycle());
        wait_for_change(Duration::from_millis(at_most), || std::future::ready(*said.next().unwrap())).await;
        begun.elapsed().as_millis()
    }

    #[tokio::test(start_paused = true)]
    async fn it_wakes_with_the_change_and_at_the_latest_at_its_end() {
        assert_eq!(took(500, &[Ok(None)]).await, 0);
        assert_eq!(took(500, &[Ok(Some(1))]).await, 500);
        assert_eq!(took(500, &[Ok(Some(1)), Ok(Some(1)), Ok(None)]).await, 10 + 20);
        assert_eq!(took(500, &[Ok(Some(1)), Ok(Some(2))]).await, 10, "another has taken it over");
        assert_eq!(took(500, &[Err(()), Ok(Some(1)), Ok(None)]).await, 10 + 20);
        assert_eq!(took(500, &[Err(())]).await, 500);
        assert_eq!(took(0, &[Ok(Some(1))]).await, 0);
    }
}
