//! Name lookups: one at a time for each name, on few threads of their own.

use std::{
    collections::{HashMap, VecDeque, hash_map::Entry},
    io, mem,
    net::{SocketAddr, ToSocketAddrs},
    sync::{Arc, OnceLock},
    thread,
    time::Duration,
};

use tokio::{
    sync::oneshot,
    time::{Instant, timeout},
};

use super::error::LocalFailure;
use crate::internal::sync::{Mutex, lock};

/// The lookups of a process, and the last good addresses of each name.
///
/// The system's resolver blocks a thread for as long as a name server hangs. So all who want a name wait for one lookup
/// of it, and all names together take a few threads, which nothing else uses. A name that was found within the last ten
/// minutes keeps its addresses while a new lookup fails, or takes longer than a second.
#[derive(Clone)]
pub(super) struct Names(Arc<Shared>);

struct Shared {
    resolve: Resolve,
    state: Mutex<State>,
}

type Resolve = Box<dyn Fn(&str) -> io::Result<Vec<SocketAddr>> + Send + Sync>;
type Kept = Option<Arc<[SocketAddr]>>;
type Found = Result<Arc<[SocketAddr]>, Arc<io::Error>>;

#[derive(Default)]
struct State {
    names: HashMap<Box<str>, Name>,
    /// The names that wait for a thread.
    queue: VecDeque<Box<str>>,
    threads: usize,
}

#[derive(Default)]
struct Name {
    good: Option<(Instant, Arc<[SocketAddr]>)>,
    is_wanted: bool,
    waiting: Vec<oneshot::Sender<Found>>,
}

impl Name {
    fn good(&self) -> Kept {
        let (since, addresses) = self.good.as_ref()?;
        (since.elapsed() < LONGEST_KEPT).then(|| addresses.clone())
    }
}

impl Names {
    /// Returns the lookups by the system's resolver.
    pub(super) fn of_system() -> Self {
        static SYSTEM: OnceLock<Names> = OnceLock::new();
        SYSTEM.get_or_init(|| Self::by(|name| Ok((name, 0).to_socket_addrs()?.collect()))).clone()
    }

    fn by(resolve: impl Fn(&str) -> io::Result<Vec<SocketAddr>> + Send + Sync + 'static) -> Self {
        Self(Arc::new(Shared { resolve: Box::new(resolve), state: Mutex::default() }))
    }

    /// Looks a name up, for no longer than the limit.
    pub(super) async fn look_up(&self, name: &str, limit: Duration) -> io::Result<Vec<SocketAddr>> {
        let (kept, found) = self.0.ask(name)?;
        let wait = if kept.is_some() { limit.min(PATIENCE) } else { limit };
        let found = match timeout(wait, found).await {
            Ok(Ok(found)) => found.map_err(|error| io::Error::new(error.kind(), error)),
            Ok(Err(_)) => Err(io::Error::other("the lookup was given up")),
            Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, format!("the lookup takes longer than {wait:?}"))),
        };
        match (found, kept) {
            (Ok(found), _) => Ok(found.to_vec()),
            (Err(error), Some(kept)) => {
                tracing::debug!(name, %error, "failed name lookup; the last addresses stay");
                Ok(kept.to_vec())
            }
            (Err(error), None) => Err(io::Error::new(error.kind(), LocalFailure::lookup(error))),
        }
    }
}

impl Shared {
    /// Returns the last good addresses of a name, and the end of its lookup.
    fn ask(self: &Arc<Self>, name: &str) -> io::Result<(Kept, oneshot::Receiver<Found>)> {
        let (tell, told) = oneshot::channel();
        let mut state = lock(&self.state);
        if state.names.len() >= MOST_KEPT && !state.names.contains_key(name) {
            state.names.retain(|_, name| name.is_wanted);
        }
        let entry = state.names.entry(name.into()).or_default();
        let kept = entry.good();
        entry.waiting.retain(|waiting| !waiting.is_closed());
        entry.waiting.push(tell);
        if !mem::replace(&mut entry.is_wanted, true) {
            state.queue.push_back(name.into());
            if state.threads < MOST_THREADS {
                let shared = self.clone();
                let begun = thread::Builder::new().name("name lookup".into()).spawn(move || shared.work());
                state.threads += usize::from(begun.is_ok());
                if state.threads == 0 {
                    // Nobody would look it up.
                    state.names.remove(name);
                    state.queue.clear();
                    begun?;
                }
            }
        }
        Ok((kept, told))
    }

    /// Looks names up until none is wanted.
    fn work(&self) {
        let mut state = lock(&self.state);
        while let Some(name) = state.queue.pop_front() {
            drop(state);
            let found: Found = match (self.resolve)(&name) {
                Ok(found) if found.is_empty() => Err(Arc::new(io::Error::other("the name has no address"))),
                Ok(found) => Ok(found.into()),
                Err(error) => Err(Arc::new(error)),
            };
            state = lock(&self.state);
            let Entry::Occupied(mut entry) = state.names.entry(name) else { continue };
            let known = entry.get_mut();
            known.is_wanted = false;
            let waiting = mem::take(&mut known.waiting);
            match &found {
                Ok(found) => known.good = Some((Instant::now(), found.clone())),
                Err(_) if known.good().is_none() => drop(entry.remove()),
                Err(_) => {}
            }
            drop(state);
            for waiting in waiting {
                let _gone = waiting.send(found.clone());
            }
            state = lock(&self.state);
        }
        state.threads -= 1;
    }
}

/// The age up to which addresses stand in for those that cannot be looked up.
const LONGEST_KEPT: Duration = Duration::from_secs(600);
/// The wait for a lookup where there are such addresses.
const PATIENCE: Duration = Duration::from_secs(1);
/// The names that are kept; those that nobody waits for are forgotten beyond.
const MOST_KEPT: usize = 1000;
/// The threads of all lookups.
const MOST_THREADS: usize = 8;

#[cfg(test)]
mod tests {
    use std::sync::{
        atomic::{AtomicUsize, Ordering::SeqCst},
        mpsc,
    };

    use super::*;

    fn address(last: u8) -> SocketAddr {
        ([10, 0, 0, last], 0).into()
    }

    const LIMIT: Duration = Duration::from_secs(5);

    #[tokio::test]
    async fn all_who_want_a_name_wait_for_one_lookup_and_others_pass_by_one_that_hangs() {
        let (release, hangs) = mpsc::channel::<()>();
        let (hangs, lookups) = (Mutex::new(hangs), Arc::new(AtomicUsize::new(0)));
        let count = lookups.clone();
        let names = Names::by(move |name| {
            if name == "slow" {
                count.fetch_add(1, SeqCst);
                let _released = lock(&hangs).recv();
            }
            Ok(vec![address(1)])
        });
        let wanted: Vec<_> = (0..600)
            .map(|_| {
                let names = names.clone();
                tokio::spawn(async move { names.look_up("slow", LIMIT).await })
            })
            .collect();
        while lookups.load(SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(names.look_up("other", LIMIT).await.unwrap(), [address(1)]);
        release.send(()).unwrap();
        for found in wanted {
            assert_eq!(found.await.unwrap().unwrap(), [address(1)]);
        }
        assert!(lookups.load(SeqCst) < 10, "{lookups:?}");
    }

    #[tokio::test]
    async fn the_last_good_addresses_stay_while_a_lookup_fails_or_hangs() {
        let turn = Arc::new(AtomicUsize::new(0));
        let now = turn.clone();
        let (release, hangs) = mpsc::channel::<()>();
        let hangs = Mutex::new(hangs);
        let names = Names::by(move |_| match now.fetch_add(1, SeqCst) {
            0 => Ok(vec![address(1)]),
            1 => Err(io::Error::other("no name server")),
            2 => {
                let _released = lock(&hangs).recv();
                Ok(vec![address(2)])
            }
            _ => Ok(vec![address(3)]),
        });
        for _ in 0..3 {
            assert_eq!(names.look_up("a", LIMIT).await.unwrap(), [address(1)]);
        }
        let late = tokio::spawn({
            let names = names.clone();
            async move { names.look_up("a", LIMIT).await }
        });
        tokio::task::yield_now().await;
        release.send(()).unwrap();
        assert_eq!(late.await.unwrap().unwrap(), [address(2)], "the late answer counts for those who still wait");
        assert_eq!(names.look_up("a", LIMIT).await.unwrap(), [address(3)]);
    }

    #[tokio::test]
    async fn a_name_that_was_never_found_fails_as_this_machines_network() {
        let (_release, hangs) = mpsc::channel::<()>();
        let hangs = Mutex::new(hangs);
        let names = Names::by(move |name| match name {
            "hangs" => lock(&hangs).recv().map(|()| Vec::new()).map_err(io::Error::other),
            "empty" => Ok(Vec::new()),
            _ => Err(io::Error::other("no such name")),
        });
        for name in ["hangs", "empty", "absent"] {
            let error = names.look_up(name, Duration::from_millis(50)).await.unwrap_err();
            assert!(error.get_ref().is_some_and(|inner| inner.is::<LocalFailure>()), "{error:?}");
        }
        assert!(lock(&names.0.state).names.len() <= 1, "what failed is not kept");
    }
}
