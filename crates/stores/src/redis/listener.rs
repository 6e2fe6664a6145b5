//! Messages that Redis publishes: there is news, or a key is done. They only shorten waits: every listener also polls,
//! so that a lost message changes nothing.

use std::{sync::Arc, time::Duration};

use futures_util::StreamExt as _;
use redis::{RedisResult, aio::PubSub};
use tokio::{
    sync::broadcast::{self, error::RecvError},
    task::AbortHandle,
    time::{sleep, timeout},
};

use super::link::Link;

/// A connection of its own, in a task that ends with this.
pub(super) struct Listener {
    messages: broadcast::Sender<Message>,
    task: AbortHandle,
}

/// A published message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Message {
    channel: Channel,
    text: Arc<[u8]>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Channel {
    /// A replica has posted a notice.
    News,
    /// The work under a key has ended.
    Keys,
}

impl Channel {
    /// Returns its name, behind the prefix.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::News => "news",
            Self::Keys => "keys",
        }
    }
}

/// The number of messages by which a listener may lag; after a loss it polls.
const CAPACITY: usize = 1024;
/// The time until the next try if no server answers.
const PAUSE: Duration = Duration::from_secs(1);
/// The interval of pings. Only they distinguish a dead network from a quiet one.
const PULSE: Duration = Duration::from_secs(10);
/// The time limit of connecting, and of the reply to a ping.
const LIMIT: Duration = Duration::from_secs(2);

impl Listener {
    /// # Panics
    ///
    /// Panics outside of a tokio runtime.
    pub(super) fn start(link: Arc<Link>, prefix: &str) -> Self {
        let messages = broadcast::Sender::new(CAPACITY);
        let names = [Channel::News, Channel::Keys].map(|channel| (format!("{prefix}{}", channel.name()), channel));
        let task = tokio::spawn(keep(link, names, messages.clone())).abort_handle();
        Self { messages, task }
    }

    /// Waits for a message, at most this long. A loss counts as a message.
    pub(super) async fn wait_for(&self, channel: Channel, text: &[u8], at_most: Duration) {
        let mut messages = self.messages.subscribe();
        let received = async {
            loop {
                match messages.recv().await {
                    Ok(message) if message.channel != channel || *message.text != *text => {}
                    Ok(_) | Err(RecvError::Lagged(_)) => return,
                    Err(RecvError::Closed) => std::future::pending().await,
                }
            }
        };
        let _ = timeout(at_most, received).await;
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn keep(link: Arc<Link>, names: [(String, Channel); 2], messages: broadcast::Sender<Message>) {
    loop {
        if let Ok(Ok(connection)) = timeout(LIMIT, subscribe(&link, &names)).await {
            forward(connection, &names, &messages).await;
        }
        sleep(PAUSE).await;
    }
}

async fn subscribe(link: &Link, names: &[(String, Channel)]) -> RedisResult<PubSub> {
    let mut connection = PubSub::new(&link.target.login, link.target.connect().await?).await?;
    for (name, _) in names {
        connection.subscribe(name).await?;
    }
    Ok(connection)
}

/// Forwards messages until the connection ends.
async fn forward(connection: PubSub, names: &[(String, Channel)], messages: &broadcast::Sender<Message>) {
    let (mut sink, mut stream) = connection.split();
    loop {
        match timeout(PULSE, stream.next()).await {
            Ok(None) => return,
            Ok(Some(message)) => {
                let known = names.iter().find(|(name, _)| name == message.get_channel_name());
                if let Some((_, channel)) = known {
                    // An error means that there is no listener just now.
                    let _ = messages.send(Message { channel: *channel, text: message.get_payload_bytes().into() });
                }
            }
            Err(_) => match timeout(LIMIT, sink.ping::<redis::Value>()).await {
                Ok(Ok(_)) => {}
                _ => return,
            },
        }
    }
}
