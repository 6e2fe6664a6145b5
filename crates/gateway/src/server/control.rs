//! The control thread: it receives signals, accepts connections and answers `/healthz`.
//!
//! No request runs on it. However busy the other threads are, it answers a probe and obeys a signal to stop.

use std::{future::pending, io, process, sync::Arc, thread};

use futures_util::future::BoxFuture;
use steadfast_internal::system::{ServerSignals, SignalAction};
use tokio::{
    runtime::{Builder, Handle, Runtime},
    sync::oneshot,
    time::timeout,
};

use super::{LAST_BYTES, LAST_CALLS};
use crate::{api::observe::Log, lifecycle::Lifecycle};

/// A runtime of one thread, which starts with [`Control::run`].
pub(crate) struct Control(Option<Runtime>);

impl Control {
    /// # Errors
    ///
    /// The system refuses the runtime's resources.
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self(Some(Builder::new_current_thread().enable_all().build()?)))
    }

    /// Makes a resource that belongs to this thread, such as a listener.
    pub(crate) fn make<T>(&self, make: impl FnOnce() -> T) -> T {
        let _entered = self.0.as_ref().map(Runtime::enter);
        make()
    }

    /// Runs these futures on a thread that lasts until the process ends. The receiver completes once `serving` has.
    ///
    /// # Errors
    ///
    /// The system refuses a thread.
    pub(crate) fn run(
        mut self,
        signals: impl Future<Output = ()> + Send + 'static,
        serving: impl Future<Output = ()> + Send + 'static,
    ) -> io::Result<oneshot::Receiver<()>> {
        let (done, ended) = oneshot::channel();
        let runtime = self.0.take();
        thread::Builder::new().name("control".to_owned()).spawn(move || {
            let Some(runtime) = runtime else { return };
            runtime.block_on(async {
                let _hearing = tokio::spawn(signals);
                serving.await;
                let _ = done.send(());
                pending::<()>().await;
            });
        })?;
        Ok(ended)
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        // A thread of requests must not block on the shutdown.
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// The order to stop.
pub(crate) enum Stop {
    /// Signals to the process.
    Signals(ServerSignals),
    /// The end of this future.
    Program(BoxFuture<'static, ()>),
}

impl Stop {
    /// Waits for the order, and passes it on to the server.
    pub(crate) async fn handle<R>(self, handler: StopHandler<R>)
    where
        R: Fn() + Clone + Send + 'static,
    {
        match self {
            Self::Signals(signals) => handler.follow(signals).await,
            Self::Program(stop) => {
                stop.await;
                handler.lifecycle.stop.cancel();
            }
        }
    }
}

/// The parts of the server that signals act on.
pub(crate) struct StopHandler<R> {
    pub(crate) lifecycle: Arc<Lifecycle>,
    /// The runtime of requests.
    pub(crate) requests: Handle,
    pub(crate) log: Log,
    /// Reads the files again.
    pub(crate) reload: R,
}

impl<R: Fn() + Clone + Send + 'static> StopHandler<R> {
    /// Reloads the files and stops the server at their signals. A second signal to stop ends the process at once, and
    /// so does the end of the time to stop.
    async fn follow(self, mut signals: ServerSignals) {
        let (name, _) = self.stop(&mut signals).await;
        tracing::info!(signal = name, "stopping: no new connections, open streams may finish");
        self.lifecycle.stop.cancel();
        let most = self.lifecycle.current.load().grace.saturating_add(LAST_BYTES + 3 * LAST_CALLS);
        let code = match timeout(most, self.stop(&mut signals)).await {
            Ok((name, code)) => {
                tracing::warn!(signal = name, "second signal to stop; ending at once");
                code
            }
            Err(_) => {
                tracing::error!("requests still in flight; ending without them");
                1
            }
        };
        self.log.flush();
        process::exit(code);
    }

    /// Waits for a signal to stop; returns its name and the exit code for it.
    async fn stop(&self, signals: &mut ServerSignals) -> (&'static str, i32) {
        loop {
            match signals.next().await {
                SignalAction::Stop(name, number) => return (name, 128 + number),
                SignalAction::Nothing(name) => tracing::info!(signal = name, "signal without a meaning here; ignored"),
                SignalAction::Reload => {
                    // Reading files blocks, so it runs on a blocking thread of the requests' runtime.
                    let reading = self.requests.spawn_blocking(self.reload.clone());
                    tokio::spawn(async {
                        if let Err(error) = reading.await {
                            tracing::error!(%error, "reload failed");
                        }
                    });
                }
            }
        }
    }
}
