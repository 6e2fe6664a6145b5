//! Stacks over stores: what a restart and a reload keep, and what a store that is away costs.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::SeqCst},
};

use steadfast::{LlmError, LlmRequest, LlmResponse, provider_fn};
use steadfast_stack::{Config, Format, Stack};
use tower::ServiceExt as _;

use crate::testing::Folder;

/// A stack whose one tier answers each call differently.
struct Program {
    stack: Stack,
    calls: Arc<AtomicUsize>,
}

fn config(stores: &str) -> Config {
    let text = format!("tiers: [{{ name: main, provider: simulated }}]\nidempotency: {{}}\nstores: {stores}");
    Config::from_str(&text, Format::Yaml).unwrap()
}

fn in_file(folder: &Folder, name: &str) -> String {
    format!("{{ durable: 'sqlite:{}' }}", folder.path().join(name).display())
}

impl Program {
    fn start(stores: &str) -> Self {
        let calls = Arc::new(AtomicUsize::new(0));
        let counted = calls.clone();
        let leaf = provider_fn(move |_| {
            let call = counted.fetch_add(1, SeqCst) + 1;
            async move { Ok::<_, LlmError>(LlmResponse::from_text(format!("answer {call}"))) }
        });
        let stack = Stack::builder().leaf("main", leaf).build(config(stores)).unwrap();
        Self { stack, calls }
    }

    async fn asks(&self, key: &str) -> String {
        let request = LlmRequest::prompt("hello").with_idempotency_key(key);
        self.stack.service().oneshot(request).await.unwrap().text().await.unwrap()
    }

    fn calls(&self) -> usize {
        self.calls.load(SeqCst)
    }
}

#[tokio::test]
async fn an_answer_outlives_the_process() {
    let folder = Folder::new("stack-restart");
    let first = Program::start(&in_file(&folder, "a.db"));
    assert_eq!(first.asks("k").await, "answer 1");
    first.stack.handle().check_stores().await.unwrap();
    drop(first);
    let second = Program::start(&in_file(&folder, "a.db"));
    assert_eq!((&*second.asks("k").await, second.calls()), ("answer 1", 0));
    assert_eq!((&*second.asks("k-2").await, second.calls()), ("answer 1", 1));
}

#[tokio::test]
async fn a_reload_keeps_a_store_that_is_named_as_before() {
    let folder = Folder::new("stack-reload");
    let program = Program::start(&in_file(&folder, "a.db"));
    let handle = program.stack.handle();
    assert_eq!(program.asks("k").await, "answer 1");
    handle.reload(config(&in_file(&folder, "a.db"))).unwrap();
    assert_eq!((&*program.asks("k").await, program.calls()), ("answer 1", 1));
    // Another file, then none.
    handle.reload(config(&in_file(&folder, "b.db"))).unwrap();
    assert_eq!(program.asks("k").await, "answer 2");
    handle.reload(config("{}")).unwrap();
    assert_eq!(program.asks("k").await, "answer 3");
    handle.reload(config(&in_file(&folder, "a.db"))).unwrap();
    assert_eq!((&*program.asks("k").await, program.calls()), ("answer 1", 3));
}

#[tokio::test]
async fn a_file_that_cannot_be_opened_is_an_error_at_the_start_and_a_refused_reload() {
    let folder = Folder::new("stack-wrong");
    let nowhere = config(&in_file(&folder, "no/such/folder.db"));
    let error = Stack::from_config(nowhere.clone()).unwrap_err().to_string();
    assert!(error.contains("stores.durable") && error.contains("folder.db"), "{error}");
    let program = Program::start(&in_file(&folder, "a.db"));
    assert_eq!(program.asks("k").await, "answer 1");
    assert!(program.stack.handle().reload(nowhere).is_err());
    assert_eq!((&*program.asks("k").await, program.calls()), ("answer 1", 1));
}

#[tokio::test]
async fn a_store_of_another_deployment_is_refused_at_the_start_and_by_a_reload() {
    let folder = Folder::new("stack-owner");
    let named = |names: &str| {
        let file = folder.file();
        config(&format!("{{ durable: 'sqlite:{}', {names} }}", file.display()))
    };
    // Nobody knows whose a store without a name is.
    drop(Stack::from_config(named("")).unwrap());
    let shop = Stack::from_config(named("prefix: 'shop:'")).unwrap();
    drop(Stack::from_config(named("prefix: 'shop:'")).unwrap());
    drop(Stack::from_config(named("")).unwrap());
    let error = Stack::from_config(named("prefix: 'blog:'")).unwrap_err().to_string();
    for part in ["stores.durable", "\"shop:\"", "\"blog:\"", "another file", "replicas", "former_prefix"] {
        assert!(error.contains(part), "{error}");
    }
    let handle = shop.handle();
    assert!(handle.reload(named("prefix: 'blog:'")).unwrap_err().to_string().contains("\"shop:\""));
    assert_eq!(handle.config().stores.prefix.as_deref(), Some("shop:"));
    // It may be renamed while it runs.
    handle.reload(named("prefix: 'blog:', former_prefix: 'shop:'")).unwrap();
    handle.check_stores().await.unwrap();
    drop(Stack::from_config(named("prefix: 'blog:'")).unwrap());
    assert!(Stack::from_config(named("prefix: 'shop:'")).is_err());
    handle.reload(named("")).unwrap();
    assert!(handle.reload(named("prefix: 'shop:'")).is_err());
    handle.reload(named("prefix: 'blog:'")).unwrap();
}

#[test]
fn a_name_needs_a_store() {
    let refused = |stores: &str| {
        let text = format!("tiers: [{{ name: main, provider: simulated }}]\nstores: {stores}");
        Config::from_str(&text, Format::Yaml).unwrap_err().to_string()
    };
    assert!(refused("{ prefix: 'shop:' }").contains("`prefix` applies only to a store"));
    for stores in
        ["{ durable: 'sqlite:a.db', former_prefix: a }", "{ shared: 'redis://h', prefix: b, former_prefix: a }"]
    {
        assert!(refused(stores).contains("name both, or leave it out"));
    }
    assert!(refused("{ durable: 'sqlite:a.db', prefix: b, former_prefix: '' }").contains("1 to 100 bytes"));
}

mod postgres {
    use std::time::Duration;

    use steadfast::{Event, store::StoreErrorKind};
    use tokio::{
        io::copy_bidirectional,
        net::{TcpListener, TcpStream},
        sync::watch,
        time::{Instant, sleep, timeout},
    };

    use super::Program;
    use crate::{contract::SECOND, testing::Schema};

    /// A proxy before a server, so that a test can stop and start it.
    struct Server {
        address: String,
        up: watch::Sender<bool>,
    }

    impl Server {
        async fn of(there: String) -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap().to_string();
            let (up, is_up) = watch::channel(true);
            tokio::spawn(async move {
                while let Ok((mut here, _)) = listener.accept().await {
                    let (there, mut is_up) = (there.clone(), is_up.clone());
                    tokio::spawn(async move {
                        if !*is_up.borrow() {
                            return;
                        }
                        let mut there = TcpStream::connect(there).await.unwrap();
                        tokio::select! {
                            _ = copy_bidirectional(&mut here, &mut there) => {}
                            _ = is_up.wait_for(|up| !up) => {}
                        }
                    });
                }
            });
            Self { address, up }
        }
    }

    /// The host and port of a URL.
    fn address(url: &str) -> &str {
        let rest = url.split_once("://").unwrap().1;
        let rest = rest.split_once('@').map_or(rest, |(_, rest)| rest);
        &rest[..rest.find('/').unwrap()]
    }

    fn stores(url: &str) -> String {
        format!("{{ durable: '{url}' }}")
    }

    /// Asks until the two share an answer. Returns its key, and the answer.
    ///
    /// A store that does not answer in time is passed by, and on a busy machine any may not.
    async fn share(one: &Program, other: &Program, when: &str) -> (String, String) {
        let shared = async {
            let mut number = 0;
            loop {
                let key = format!("{when} {number}");
                let (answer, calls) = (one.asks(&key).await, other.calls());
                if other.asks(&key).await == answer && other.calls() == calls {
                    return (key, answer);
                }
                number += 1;
                sleep(Duration::from_millis(50)).await;
            }
        };
        timeout(60 * SECOND, shared).await.unwrap_or_else(|_| panic!("they share answers {when}"))
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_server_that_is_stopped_and_started_in_the_middle_fails_nobody() {
        let Some(schema) = Schema::new("stopped").await else { return };
        let server = Server::of(address(schema.url()).to_owned()).await;
        let url = schema.url().replace(address(schema.url()), &server.address);
        let (one, other) = (Program::start(&stores(&url)), Program::start(&stores(&url)));
        let (before, kept) = share(&one, &other, "before").await;
        let mut heard = one.stack.handle().events().subscribe();

        server.up.send_replace(false);
        for number in 0..20 {
            let begun = Instant::now();
            let answer = one.asks(&format!("during {number}")).await;
            assert_eq!(one.asks(&format!("during {number}")).await, answer, "it knows what it sees itself");
            assert!(begun.elapsed() < 5 * SECOND, "{:?}", begun.elapsed());
        }
        server.up.send_replace(true);
        share(&one, &other, "after").await;
        let calls = other.calls();
        assert_eq!((other.asks(&before).await, other.calls()), (kept, calls), "what they shared is still there");
        let mut told = Vec::new();
        while let Ok(event) = heard.try_recv() {
            if let Event::StoreChanged { available, .. } = event {
                told.push(available);
            }
        }
        // A call that began before the server was there may fail after another that found it.
        let changes: Vec<bool> =
            told.iter().zip([false, true].into_iter().cycle()).map(|(told, is)| *told == is).collect();
        assert!(told.last() == Some(&true) && changes.iter().all(|is| *is), "each change is said once: {told:?}");
        schema.ends().await;
    }

    fn named(url: &str, names: &str) -> String {
        format!("{{ durable: '{url}', {names} }}")
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_database_of_another_deployment_is_refused_also_once_it_is_back() {
        let Some(schema) = Schema::new("stack_owner").await else { return };
        let url = schema.url();
        let shop = Program::start(&named(url, "prefix: 'shop:'"));
        shop.stack.handle().check_stores().await.unwrap();
        for (names, may) in [("prefix: 'shop:'", true), ("", true), ("prefix: 'blog:'", false)] {
            let checked = Program::start(&named(url, names)).stack.handle().check_stores().await;
            assert_eq!(checked.is_ok(), may, "{names}");
            if let Err(error) = checked {
                let text = error.to_string();
                assert!(!error.heals() && error.kind() == StoreErrorKind::Misconfigured, "{text}");
                let parts = ["\"shop:\"", "\"blog:\"", "search_path", "replicas", "former_prefix"];
                assert!(parts.iter().all(|part| text.contains(part)), "{text}");
            }
        }
        // A reload names the owner without a question.
        let error = shop.stack.handle().reload(super::config(&named(url, "prefix: 'blog:'"))).unwrap_err().to_string();
        assert!(error.contains("\"shop:\"") && error.contains("\"blog:\""), "{error}");

        // A deployment that began while the server was away takes nothing for its own.
        let server = Server::of(address(url).to_owned()).await;
        server.up.send_replace(false);
        let through = url.replace(address(url), &server.address);
        let blog = Program::start(&named(&through, "prefix: 'blog:'"));
        assert!(blog.stack.handle().check_stores().await.unwrap_err().heals());
        server.up.send_replace(true);
        assert!(!blog.stack.handle().check_stores().await.unwrap_err().heals());
        let registry = blog.stack.handle().registry().unwrap();
        let kind = steadfast_stores::registry::EntryKind::Key;
        assert_eq!(registry.read(kind).await.unwrap_err().kind(), StoreErrorKind::Misconfigured);

        let renamed = named(url, "prefix: 'blog:', former_prefix: 'shop:'");
        shop.stack.handle().reload(super::config(&renamed)).unwrap();
        shop.stack.handle().check_stores().await.unwrap();
        blog.stack.handle().check_stores().await.unwrap();
        schema.ends().await;
    }

    #[tokio::test]
    async fn a_server_that_is_away_at_the_start_is_said_and_one_that_is_named_wrongly_is_an_error() {
        let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let program = Program::start(&stores(&format!("postgres://ada:hush@{free}/state")));
        let error = program.stack.handle().check_stores().await.unwrap_err();
        assert!(error.heals(), "{error}");
        assert_eq!((&*program.asks("k").await, &*program.asks("k").await), ("answer 1", "answer 1"));

        let Some(schema) = Schema::new("role").await else { return };
        let rest = schema.url().split_once("://").unwrap().1;
        let rest = rest.split_once('@').map_or(rest, |(_, rest)| rest);
        let program = Program::start(&stores(&format!("postgres://nobody_of_this_name:hush@{rest}")));
        let error = program.stack.handle().check_stores().await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Misconfigured, "{error:?}");
        schema.ends().await;
    }
}
