//! The control thread: it receives signals, accepts connections and answers `/healthz`.
//!
//! No request runs on it. However busy the other threads are, it answers a probe and obeys a signal to stop.

use std::{future::pending, io, process, sync::Arc, thread};

use futures_util::future::BoxFuture;
#[cfg(unix)]
use tokio::signal::unix::{Signal, SignalKind, signal};
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
    Signals(Signals),
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
            Self::Signals(signals) => signals.handle(handler).await,
            Self::Program(stop) => {
                stop.await;
                handler.lifecycle.stop.cancel();
            }
        }
    }
}

/// The signals that the server handles.
pub(crate) struct Signals {
    #[cfg(unix)]
    terminate: Signal,
    #[cfg(unix)]
    interrupt: Signal,
    #[cfg(unix)]
    hang_up: Signal,
    #[cfg(unix)]
    quit: Signal,
    /// Signals that would end the process, and ask for nothing here: log rotation sends them.
    #[cfg(unix)]
    others: [(&'static str, Signal); 3],
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

impl Signals {
    /// Registers the signals, on the current runtime.
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self {
            #[cfg(unix)]
            terminate: signal(SignalKind::terminate())?,
            #[cfg(unix)]
            interrupt: signal(SignalKind::interrupt())?,
            #[cfg(unix)]
            hang_up: signal(SignalKind::hangup())?,
            #[cfg(unix)]
            quit: signal(SignalKind::quit())?,
            #[cfg(unix)]
            others: [
                ("SIGUSR1", signal(SignalKind::user_defined1())?),
                ("SIGUSR2", signal(SignalKind::user_defined2())?),
                ("SIGALRM", signal(SignalKind::alarm())?),
            ],
        })
    }

    /// Reloads the files on SIGHUP and stops the server on SIGTERM, SIGQUIT or Ctrl-C. A second such signal ends the
    /// process at once, and so does the end of the time to stop.
    pub(crate) async fn handle<R>(mut self, handler: StopHandler<R>)
    where
        R: Fn() + Clone + Send + 'static,
    {
        let StopHandler { lifecycle, requests, log, reload } = handler;
        let (name, _) = self.stop(&requests, &reload).await;
        tracing::info!(signal = name, "stopping: no new connections, open streams may finish");
        lifecycle.stop.cancel();
        let most = lifecycle.current.load().grace.saturating_add(LAST_BYTES + 3 * LAST_CALLS);
        let code = match timeout(most, self.stop(&requests, &reload)).await {
            Ok((name, code)) => {
                tracing::warn!(signal = name, "second signal to stop; ending at once");
                code
            }
            Err(_) => {
                tracing::error!("requests still in flight; ending without them");
                1
            }
        };
        log.flush();
        process::exit(code);
    }

    /// Waits for a signal to stop; returns its name and the exit code for it.
    async fn stop<R>(&mut self, requests: &Handle, reload: &R) -> (&'static str, i32)
    where
        R: Fn() + Clone + Send + 'static,
    {
        loop {
            match self.next().await {
                SignalAction::Stop(name, number) => return (name, 128 + number),
                SignalAction::Nothing(name) => tracing::info!(signal = name, "signal without a meaning here; ignored"),
                SignalAction::Reload => {
                    // Reading files blocks, so it runs on a blocking thread of the requests' runtime.
                    let reading = requests.spawn_blocking(reload.clone());
                    tokio::spawn(async {
                        if let Err(error) = reading.await {
                            tracing::error!(%error, "reload failed");
                        }
                    });
                }
            }
        }
    }

    #[cfg(unix)]
    async fn next(&mut self) -> SignalAction {
        let [(one, first), (two, second), (three, third)] = &mut self.others;
        tokio::select! {
            _ = self.quit.recv() => SignalAction::Stop("SIGQUIT", 3),
            _ = first.recv() => SignalAction::Nothing(one),
            _ = second.recv() => SignalAction::Nothing(two),
            _ = third.recv() => SignalAction::Nothing(three),
            _ = self.terminate.recv() => SignalAction::Stop("SIGTERM", 15),
            _ = self.interrupt.recv() => SignalAction::Stop("SIGINT", 2),
            _ = self.hang_up.recv() => SignalAction::Reload,
        }
    }

    #[cfg(not(unix))]
    async fn next(&mut self) -> SignalAction {
        // An error means that the signal cannot be received, so it never comes.
        if tokio::signal::ctrl_c().await.is_err() {
            pending::<()>().await;
        }
        SignalAction::Stop("Ctrl-C", 2)
    }
}

/// The action that a signal asks for.
#[derive(Debug, PartialEq, Eq)]
enum SignalAction {
    /// Stops the server; has the signal's name and number.
    Stop(&'static str, i32),
    #[cfg_attr(not(unix), allow(dead_code, reason = "nothing there asks for it"))]
    Reload,
    /// Asks for nothing; has the signal's name.
    #[cfg_attr(not(unix), allow(dead_code, reason = "nothing there asks for it"))]
    Nothing(&'static str),
}

#[cfg(all(test, unix))]
mod tests {
    use rustix::process::{Signal, getpid, kill_process};

    use super::*;

    #[tokio::test]
    async fn no_signal_of_a_tool_for_logs_ends_the_process_and_a_quit_stops_it_with_grace() {
        let mut signals = Signals::new().unwrap();
        for (signal, expected) in [
            (Signal::USR1, SignalAction::Nothing("SIGUSR1")),
            (Signal::USR2, SignalAction::Nothing("SIGUSR2")),
            (Signal::ALARM, SignalAction::Nothing("SIGALRM")),
            (Signal::QUIT, SignalAction::Stop("SIGQUIT", 3)),
            (Signal::TERM, SignalAction::Stop("SIGTERM", 15)),
            (Signal::HUP, SignalAction::Reload),
        ] {
            kill_process(getpid(), signal).unwrap();
            assert_eq!(signals.next().await, expected);
        }
    }
}
