//! The bad manners of a server with its connections.

use std::{sync::Arc, time::Duration};

use tokio::{sync::Notify, time::sleep};

/// The treatment that a server gives each of its connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Manner {
    #[default]
    Good,
    /// It speaks HTTP/2 and announces that it allows no stream.
    NoStreams,
    /// It ends the connection after one answer, without a word.
    OneCall,
    /// It leaves with every answer: HTTP/2's GOAWAY, or HTTP/1.1's `connection: close`.
    Goaway,
    /// It resets every other connection at the first request.
    FirstWrite,
}

/// The manner of one connection.
#[derive(Clone, Debug)]
pub(crate) struct Manners {
    manner: Manner,
    is_odd: bool,
    due: Arc<Notify>,
}

/// An answer is read by then.
const READ: Duration = Duration::from_millis(50);

impl Manners {
    /// Returns those of a server's connection with this number.
    pub(crate) fn of(manner: Manner, number: usize) -> Self {
        Self { manner, is_odd: number % 2 == 1, due: Arc::default() }
    }

    /// Returns the number of streams that it announces.
    pub(crate) fn streams(&self) -> u32 {
        // That of common servers.
        if self.manner == Manner::NoStreams { 0 } else { 100 }
    }

    /// Lets a request be answered, or not.
    pub(crate) async fn answer<T>(&self, answer: impl Future<Output = T>) -> T {
        match self.manner {
            Manner::FirstWrite if self.is_odd => {
                self.due.notify_one();
                std::future::pending().await
            }
            Manner::OneCall | Manner::Goaway => {
                let answer = answer.await;
                self.due.notify_one();
                answer
            }
            Manner::Good | Manner::NoStreams | Manner::FirstWrite => answer.await,
        }
    }

    /// Waits until the connection must end; true if that is to be in good order.
    pub(crate) async fn ends(&self) -> bool {
        self.due.notified().await;
        if self.manner == Manner::OneCall {
            sleep(READ).await;
        }
        self.manner == Manner::Goaway
    }
}
