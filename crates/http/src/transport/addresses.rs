use std::{
    collections::BTreeMap, convert::Infallible, fmt, future::Future, io, net::IpAddr, pin::Pin, sync::Arc,
    time::Duration,
};

use futures_core::Stream;
use futures_util::stream;
use tokio::time::{sleep, timeout};
use tower::discover::Change;

use super::names::Names;

/// The addresses of a name, looked up again and again: each of them a deployment of a `Balance`.
///
/// For servers of one's own behind one name, such as a headless service of Kubernetes. A provider's public name is no
/// such case: its addresses are doors of one system, and one rate limit stands behind all.
///
/// An address that comes is a deployment at once. One that is missing from three answers in a row is removed: servers
/// of names give a part of many addresses in turns. A failed or empty lookup removes nothing.
///
/// # Example
///
/// ```no_run
/// use steadfast::{BalanceLayer, layers::balance::{Deployment, Deployments}};
/// use steadfast::providers::{OpenAi, transport::{Addresses, HttpClient}};
/// use tower::Layer;
///
/// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let leaf = |client: HttpClient| -> Result<_, steadfast::InvalidConfig> {
///     Ok(OpenAi::new("none").base_url("http://vllm.default.svc:8000/v1")?.model("llama").transport(client))
/// };
/// let addresses = Addresses::of("vllm.default.svc", 8000);
/// let first = addresses.look_up().await?;
/// let each = move |name, address| leaf(HttpClient::new().address(address)).map(|leaf| Deployment::new(name, leaf));
/// let deployments = first.into_iter().map(|address| each(address.to_string().into(), address));
/// let llm = BalanceLayer::new()
///     .layer(Deployments::new(deployments.collect::<Result<Vec<_>, _>>()?)?)
///     .discover(addresses.changes(move |name, address| each(name, address).expect("the URL was valid before")));
/// # drop(llm); Ok(()) }
/// ```
#[derive(Clone)]
pub struct Addresses {
    host: Arc<str>,
    port: u16,
    every: Duration,
    lookup: Lookup,
}

type Lookup = Arc<dyn Fn(Arc<str>, u16) -> Found + Send + Sync>;
type Found = Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send>>;

/// The default of [`Addresses::every`]: the usual lifetime of such records.
const EVERY: Duration = Duration::from_secs(30);
/// The longest lookup; the next one comes in its time.
const LONGEST: Duration = Duration::from_secs(10);
/// The answers in a row that an address may be missing from.
const MISSING: u32 = 3;
/// The most addresses of a name; those beyond are ignored.
const MOST: usize = 256;

impl Addresses {
    /// Creates the lookups of a name by the system's resolver.
    pub fn of(host: impl Into<Arc<str>>, port: u16) -> Self {
        // One of the lookups of all connections, which take no thread of the runtime's.
        Self::by(host, port, |host, _port| async move {
            let found = Names::of_system().look_up(&host, LONGEST).await?;
            Ok(found.into_iter().map(|address| address.ip()).collect())
        })
    }

    /// Creates the lookups of a name by a function, such as another resolver's.
    pub fn by<F>(
        host: impl Into<Arc<str>>,
        port: u16,
        lookup: impl Fn(Arc<str>, u16) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = io::Result<Vec<IpAddr>>> + Send + 'static,
    {
        let lookup: Lookup = Arc::new(move |host, port| Box::pin(lookup(host, port)));
        Self { host: host.into(), port, every: EVERY, lookup }
    }

    /// Sets the time from one lookup to the next, a second at least. Default: 30 seconds.
    #[must_use]
    pub fn every(mut self, time: Duration) -> Self {
        self.every = time.max(Duration::from_secs(1));
        self
    }

    /// Looks the addresses up once: sorted, each once, at most 256.
    ///
    /// # Errors
    ///
    /// Fails if the resolver does, within ten seconds, or if there is no address.
    pub async fn look_up(&self) -> io::Result<Vec<IpAddr>> {
        let found = timeout(LONGEST, (self.lookup)(self.host.clone(), self.port)).await;
        let mut found =
            found.map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "the name lookup takes too long"))??;
        found.sort_unstable();
        found.dedup();
        found.truncate(MOST);
        if found.is_empty() {
            return Err(io::Error::new(io::ErrorKind::NotFound, format!("the name {:?} has no address", self.host)));
        }
        Ok(found)
    }

    /// Returns the changes, for `Balance::discover`. The first lookup is due at once.
    /// `deployment` makes the deployment of an address; it gets the address as the name to give it.
    ///
    /// The stream does not end. It holds what it knows: dropping it loses nothing but that.
    pub fn changes<D>(
        self,
        deployment: impl Fn(Arc<str>, IpAddr) -> D + Send + 'static,
    ) -> impl Stream<Item = Result<Change<Arc<str>, D>, Infallible>> + Send + 'static
    where
        D: Send + 'static,
    {
        let known = Known { addresses: self, absent: BTreeMap::new(), due: Vec::new(), has_looked: false };
        stream::unfold((known, deployment), |(mut known, deployment)| async move {
            let change = match known.next().await {
                Change::Insert(name, address) => Change::Insert(name.clone(), deployment(name, address)),
                Change::Remove(name) => Change::Remove(name),
            };
            Some((Ok(change), (known, deployment)))
        })
    }
}

/// The addresses so far.
struct Known {
    addresses: Addresses,
    /// The answers in a row that each is missing from.
    absent: BTreeMap<IpAddr, u32>,
    /// The changes of the last lookup that were not yielded, the next one last.
    due: Vec<Change<Arc<str>, IpAddr>>,
    has_looked: bool,
}

impl Known {
    async fn next(&mut self) -> Change<Arc<str>, IpAddr> {
        loop {
            if let Some(change) = self.due.pop() {
                return change;
            }
            if self.has_looked {
                sleep(self.addresses.every).await;
            }
            self.has_looked = true;
            match self.addresses.look_up().await {
                Ok(found) => self.take(&found),
                Err(error) => {
                    tracing::warn!(host = %self.addresses.host, %error, "failed lookup of deployments; they stay")
                }
            }
        }
    }

    fn take(&mut self, found: &[IpAddr]) {
        for (address, absent) in &mut self.absent {
            *absent = if found.contains(address) { 0 } else { *absent + 1 };
        }
        let gone = self.absent.iter().filter(|(_, absent)| **absent >= MISSING);
        // The new ones come first, so that the last deployment of all can go.
        self.due.extend(gone.map(|(address, _)| Change::Remove(address.to_string().into())));
        self.absent.retain(|_, absent| *absent < MISSING);
        for address in found.iter().rev() {
            if self.absent.insert(*address, 0).is_none() {
                self.due.push(Change::Insert(address.to_string().into(), *address));
            }
        }
    }
}

impl fmt::Debug for Addresses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Addresses").field("host", &self.host).field("port", &self.port).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use steadfast::{
        BalanceLayer,
        layers::balance::{Deployment, Deployments},
        providers::Canned,
    };
    use tower::Layer as _;

    use super::*;

    /// A resolver whose answers a test sets; `None` fails.
    type Answers = Arc<Mutex<Option<Vec<u8>>>>;

    fn addresses(answers: &Answers) -> Addresses {
        let answers = answers.clone();
        Addresses::by("vllm", 8000, move |host, port| {
            assert_eq!((&*host, port), ("vllm", 8000));
            let answer = answers.lock().unwrap().clone();
            async move {
                sleep(Duration::from_millis(5)).await;
                let list = answer.ok_or_else(|| io::Error::other("no server of names"))?;
                Ok(list.into_iter().map(|last| IpAddr::from([10, 0, 0, last])).collect())
            }
        })
    }

    #[tokio::test(start_paused = true)]
    async fn deployments_follow_the_addresses_of_a_name() {
        let answers = Answers::default();
        let set = |list: Option<&[u8]>| *answers.lock().unwrap() = list.map(<[u8]>::to_vec);
        set(Some(&[1, 2, 2]));
        let each = |name: Arc<str>, address: IpAddr| {
            assert_eq!(*name, *address.to_string());
            Deployment::new(name, Canned::text("hello"))
        };
        let addresses = addresses(&answers);
        let first = addresses.look_up().await.unwrap();
        assert_eq!(first.len(), 2);
        let first = first.into_iter().map(|address| each(address.to_string().into(), address));
        let llm = BalanceLayer::new().layer(Deployments::new(first).unwrap()).discover(addresses.changes(each));
        let handle = llm.handle();
        let after = async |lookups: u32| {
            sleep(EVERY * lookups).await;
            let names = handle.deployments().into_iter().map(|it| it.name.rsplit_once('.').unwrap().1.to_owned());
            names.collect::<Vec<_>>().join(" ")
        };
        assert_eq!(after(1).await, "1 2");
        set(Some(&[2, 3]));
        assert_eq!(after(1).await, "1 2 3", "the new one at once, the missing one not yet");
        assert_eq!(after(3).await, "2 3");
        set(None);
        assert_eq!(after(9).await, "2 3", "a failed lookup says nothing");
        set(Some(&[]));
        assert_eq!(after(9).await, "2 3", "nor does an empty one");
        for turn in 0..12_u8 {
            set(Some(&[2 + turn % 2]));
            assert_eq!(after(1).await, "2 3", "a part of them in turns");
        }
        set(Some(&[7]));
        assert_eq!(after(4).await, "7", "all of them at once");
        drop((llm, handle));
        let before = Arc::strong_count(&answers);
        sleep(EVERY).await;
        assert!(Arc::strong_count(&answers) < before || before == 1, "the lookups end with the service");
    }

    #[tokio::test(start_paused = true)]
    async fn a_lookup_that_hangs_ends_and_names_no_secret() {
        let hangs = Addresses::by("vllm", 1, |_, _| std::future::pending());
        assert_eq!(hangs.look_up().await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        let none = Addresses::by("vllm", 1, |_, _| std::future::ready(Ok(Vec::new())));
        assert!(none.look_up().await.unwrap_err().to_string().contains("\"vllm\" has no address"));
    }

    #[tokio::test]
    async fn the_system_resolves_a_local_name() {
        let found = Addresses::of("localhost", 80).look_up().await.unwrap();
        assert!(found.iter().all(IpAddr::is_loopback));
    }
}
