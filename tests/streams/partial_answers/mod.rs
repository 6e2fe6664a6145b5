//! A cut answer is recorded with what was delivered and never acted on; a restart is one signal; an action is done
//! once.

mod actions;
mod reading;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use futures_util::future::BoxFuture;
use steadfast::chat::ToolCall;
use tokio::time::sleep;
use tower::BoxError;

const SECOND: Duration = Duration::from_secs(1);

/// A tool that counts how often it was used, and takes a second for it.
#[derive(Clone, Default)]
struct Tool {
    begun: Arc<AtomicUsize>,
    done: Arc<AtomicUsize>,
}

impl Tool {
    fn uses(&self) -> impl Fn(ToolCall) -> BoxFuture<'static, Result<String, BoxError>> + use<> {
        let tool = self.clone();
        move |call| {
            let tool = tool.clone();
            Box::pin(async move {
                let number = tool.begun.fetch_add(1, SeqCst) + 1;
                sleep(SECOND).await;
                tool.done.fetch_add(1, SeqCst);
                Ok(format!("{} number {number}", call.name))
            })
        }
    }

    fn counts(&self) -> (usize, usize) {
        (self.begun.load(SeqCst), self.done.load(SeqCst))
    }
}
