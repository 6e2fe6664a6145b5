//! Name lookups: one at a time for each name, on few threads of their own.

use std::{
    collections::{HashMap, VecDeque},
    io, mem,
    net::{SocketAddr, ToSocketAddrs},
    sync::{Arc, OnceLock},
    thread,
    time::Duration,
};

use tokio::{
    sync::oneshot,
    time::{Instant, timeout_at},
};

use super::error::LocalFailure;
use crate::internal::sync::{Mutex, lock};

/// The lookups of a process, and the last good addresses of each name.
///
/// The system's resolver blocks a thread for as long as a name server hangs. So all who want a name wait for one lookup
/// of it, and all names together take a few threads, which nothing else uses. A name that was found within the last ten
/// minutes keeps its addresses while a new lookup fails, or takes longer than a second.
///
/// A name that hangs delays no other: see [`Queue`].
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
    queue: Queue,
}

#[derive(Default)]
struct Name {
    good: Option<(Instant, Arc<[SocketAddr]>)>,
    /// True if its last lookup hung.
    hangs: bool,
    is_wanted: bool,
    waiting: Vec<oneshot::Sender<Found>>,
}

impl Name {
    fn good(&self) -> Kept {
        let (since, addresses) = self.good.as_ref()?;
        (since.elapsed() < LONGEST_KEPT).then(|| addresses.clone())
    }

    fn rank(&self) -> Rank {
        match self.good {
            _ if self.hangs => Rank::Hanging,
            Some(_) => Rank::Found,
            None => Rank::New,
        }
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
        let (kept, mut found) = self.0.ask(name)?;
        let wait = if kept.is_some() { limit.min(PATIENCE) } else { limit };
        let end = Instant::now() + wait;
        let found = loop {
            match timeout_at(end.min(Instant::now() + YOUNG), &mut found).await {
                Ok(Ok(found)) => break found.map_err(|error| io::Error::new(error.kind(), error)),
                Ok(Err(_)) => break Err(io::Error::other("the lookup was given up")),
                Err(_) if Instant::now() < end => self.0.start(),
                Err(_) => {
                    let message = format!("the lookup takes longer than {wait:?}");
                    break Err(io::Error::new(io::ErrorKind::TimedOut, message));
                }
            }
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
        let (kept, rank) = (entry.good(), entry.rank());
        entry.waiting.retain(|waiting| !waiting.is_closed());
        entry.waiting.push(tell);
        if !mem::replace(&mut entry.is_wanted, true) {
            state.queue.push(name.into(), rank);
        }
        drop(state);
        self.start();
        Ok((kept, told))
    }

    /// Begins the lookups that may begin, each on a thread.
    fn start(self: &Arc<Self>) {
        loop {
            let Some(name) = lock(&self.state).queue.next(Instant::now()) else { return };
            let (shared, its) = (self.clone(), name.clone());
            let begun = thread::Builder::new().name("name lookup".into()).spawn(move || shared.work(its));
            if let Err(error) = begun {
                self.end(&name, Err(Arc::new(error)));
                return;
            }
        }
    }

    /// Looks names up until none may begin.
    fn work(&self, first: Box<str>) {
        let mut next = Some(first);
        while let Some(name) = next {
            let found = match (self.resolve)(&name) {
                Ok(found) if found.is_empty() => Err(Arc::new(io::Error::other("the name has no address"))),
                Ok(found) => Ok(found.into()),
                Err(error) => Err(Arc::new(error)),
            };
            self.end(&name, found);
            next = lock(&self.state).queue.next(Instant::now());
        }
    }

    /// Tells those who wait for a name.
    fn end(&self, name: &str, found: Found) {
        let now = Instant::now();
        let mut state = lock(&self.state);
        let hangs = state.queue.end(name, now);
        let Some(known) = state.names.get_mut(name) else { return };
        (known.is_wanted, known.hangs) = (false, hangs);
        let waiting = mem::take(&mut known.waiting);
        match &found {
            Ok(found) => known.good = Some((now, found.clone())),
            Err(_) if known.good().is_none() && !hangs => drop(state.names.remove(name)),
            Err(_) => {}
        }
        drop(state);
        for waiting in waiting {
            let _gone = waiting.send(found.clone());
        }
    }
}

/// The knowledge of a name before its lookup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rank {
    /// It was found last time.
    Found,
    New,
    /// Its last lookup hung.
    Hanging,
}

/// The names that wait for a thread, and those that have one.
///
/// Names that were found before have threads of their own, which no other name takes. Of the others the newest begins
/// first. While many hang, one begins every half second: so a thread is free for a name that answers, whatever hangs
/// before it. Those that hung the last time come last.
#[derive(Default)]
struct Queue {
    found: VecDeque<Box<str>>,
    new: Vec<Box<str>>,
    hanging: VecDeque<Box<str>>,
    running: HashMap<Box<str>, (Rank, Instant)>,
}

impl Queue {
    fn push(&mut self, name: Box<str>, rank: Rank) {
        match rank {
            Rank::Found => self.found.push_back(name),
            Rank::New => self.new.push(name),
            Rank::Hanging => self.hanging.push_back(name),
        }
    }

    /// Returns the next name whose lookup may begin, which has begun thereby.
    fn next(&mut self, now: Instant) -> Option<Box<str>> {
        let others = self.running.values().filter(|(rank, _)| *rank != Rank::Found);
        let (mut young, mut old, mut again) = (0, 0, 0);
        for (rank, begun) in others {
            let count = if now.saturating_duration_since(*begun) < YOUNG { &mut young } else { &mut old };
            *count += 1;
            again += usize::from(*rank == Rank::Hanging);
        }
        let may_begin = young < if old < MOST_AT_ONCE { MOST_AT_ONCE } else { 1 } && young + old < MOST_OTHERS;
        let (name, rank) = if self.running.len() < MOST_THREADS
            && let Some(name) = self.found.pop_front()
        {
            (name, Rank::Found)
        } else if !may_begin {
            return None;
        } else if let Some(name) = self.new.pop() {
            (name, Rank::New)
        } else if again < MOST_AGAIN {
            (self.hanging.pop_front()?, Rank::Hanging)
        } else {
            return None;
        };
        self.running.insert(name.clone(), (rank, now));
        Some(name)
    }

    /// Ends the lookup of a name. Returns true if it hung.
    fn end(&mut self, name: &str, now: Instant) -> bool {
        self.running.remove(name).is_some_and(|(_, begun)| now.saturating_duration_since(begun) >= PATIENCE)
    }
}

/// The age up to which addresses stand in for those that cannot be looked up.
const LONGEST_KEPT: Duration = Duration::from_secs(600);
/// The wait for a lookup where there are such addresses; a lookup that takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(1);
/// The time after which another name may begin beside one that has not ended.
const YOUNG: Duration = Duration::from_millis(500);
/// The names that are kept; those that nobody waits for are forgotten beyond.
const MOST_KEPT: usize = 1000;
/// The threads of all lookups.
const MOST_THREADS: usize = 64;
/// The threads of names that were not found last time.
const MOST_OTHERS: usize = 56;
/// The threads of names that hung last time.
const MOST_AGAIN: usize = 28;
/// The other names that begin at once while few hang.
const MOST_AT_ONCE: usize = 8;

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

    /// Names by their lookups' times, in tens of milliseconds, from the moment they are asked for.
    struct Model {
        queue: Queue,
        begun: Instant,
        ends: Vec<(u64, Box<str>)>,
        most: usize,
    }

    impl Model {
        fn new() -> Self {
            Self { queue: Queue::default(), begun: Instant::now(), ends: Vec::new(), most: 0 }
        }

        fn at(&self, time: u64) -> Instant {
            self.begun + Duration::from_millis(10 * time)
        }

        /// Lets lookups begin and end at a time. Returns the names that end.
        fn turn(&mut self, time: u64, takes: impl Fn(&str) -> u64) -> Vec<Box<str>> {
            let (over, ends) = mem::take(&mut self.ends).into_iter().partition::<Vec<_>, _>(|(end, _)| *end <= time);
            self.ends = ends;
            for (_, name) in &over {
                self.queue.end(name, self.at(time));
            }
            while let Some(name) = self.queue.next(self.at(time)) {
                self.ends.push((time + takes(&name), name));
            }
            self.most = self.most.max(self.ends.len());
            over.into_iter().map(|(_, name)| name).collect()
        }
    }

    #[test]
    fn seven_hundred_names_that_hang_delay_none_that_answers() {
        // A resolver gives a name up after 5 to 20 seconds.
        for hang in [500, 1000, 2000] {
            for rank in [Rank::Found, Rank::New] {
                for asked in [0, 30, 110, 490, 990, 1500, 2500] {
                    let mut model = Model::new();
                    for number in 0..700 {
                        model.queue.push(format!("hangs-{number}").into(), Rank::New);
                    }
                    let takes = |name: &str| if name == "answers" { 2 } else { hang };
                    let mut answered = None;
                    for time in 0..asked + 1000 {
                        if time == asked {
                            model.queue.push("answers".into(), rank);
                        }
                        if model.turn(time, takes).iter().any(|name| **name == *"answers") {
                            answered = Some(time - asked);
                            break;
                        }
                    }
                    let longest = if rank == Rank::Found { 2 } else { 60 };
                    assert!(answered.is_some_and(|took| took <= longest), "{rank:?} {hang} {asked}: {answered:?}");
                    assert!(model.most <= MOST_THREADS, "{} threads", model.most);
                }
            }
        }
    }

    #[test]
    fn names_that_hung_before_come_last_and_have_their_turn() {
        let mut model = Model::new();
        for number in 0..100 {
            model.queue.push(format!("hung-{number}").into(), Rank::Hanging);
        }
        model.queue.push("new".into(), Rank::New);
        assert!(model.turn(0, |_| 100).is_empty());
        assert!(model.ends.iter().any(|(_, name)| **name == *"new"));
        let ended: usize = (1..2000).map(|time| model.turn(time, |_| 100).len()).sum();
        assert_eq!(ended, 101);
    }
}
