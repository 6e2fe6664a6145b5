//! What Redis calls out: that there is news, that a key is done. It only saves waiting: whoever listens looks by itself,
//! too, so that nothing depends on a message that was lost.

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

/// What was called out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Message {
    channel: Channel,
    text: Arc<[u8]>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Channel {
    /// A replica has put up a notice.
    News,
    /// What was done under a key is over.
    Keys,
}

impl Channel {
    /// Its name, behind the prefix.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::News => "news",
            Self::Keys => "keys",
        }
    }
}

/// How many messages one who listens may be behind; after a loss it looks by itself.
const CAPACITY: usize = 1024;
/// How long until the next try where nobody answers.
const PAUSE: Duration = Duration::from_secs(1);
/// How often it is asked whether anybody is there: nothing else tells a network that is gone from one where all is quiet.
const PULSE: Duration = Duration::from_secs(10);
/// How long the making of a connection or the answer to that question may take.
const LIMIT: Duration = Duration::from_secs(2);

impl Listener {
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub(super) fn start(link: Arc<Link>, prefix: &str) -> Self {
        let messages = broadcast::Sender::new(CAPACITY);
        let names = [Channel::News, Channel::Keys].map(|channel| (format!("{prefix}{}", channel.name()), channel));
        let task = tokio::spawn(keep(link, names, messages.clone())).abort_handle();
        Self { messages, task }
    }

    /// Waits for a message, and never longer than this. A loss counts as one.
    pub(super) async fn hears(&self, channel: Channel, text: &[u8], at_most: Duration) {
        let mut messages = self.messages.subscribe();
        let heard = async {
            loop {
                match messages.recv().await {
                    Ok(message) if message.channel != channel || *message.text != *text => {}
                    Ok(_) | Err(RecvError::Lagged(_)) => return,
                    Err(RecvError::Closed) => std::future::pending().await,
                }
            }
        };
        let _ = timeout(at_most, heard).await;
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

/// Until the connection is gone.
async fn forward(connection: PubSub, names: &[(String, Channel)], messages: &broadcast::Sender<Message>) {
    let (mut sink, mut stream) = connection.split();
    loop {
        match timeout(PULSE, stream.next()).await {
            Ok(None) => return,
            Ok(Some(message)) => {
                let known = names.iter().find(|(name, _)| name == message.get_channel_name());
                if let Some((_, channel)) = known {
                    // An error says that nobody listens just now.
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
