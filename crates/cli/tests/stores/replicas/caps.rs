//! Three gateways behind nginx, over one Redis and one PostgreSQL: a cap of a key or of a team is one number.
//!
//! `cargo test` runs 20 s of it, 200 requests a second of 40 keys; with `STEADFAST_SCALE=full` it is ten minutes of
//! them, ten times as fast.

use std::process::{Child, Command, Stdio};

use super::*;
use crate::{
    common::{Folder, comes, key},
    durability::cluster::Cluster,
};

const GATEWAYS: usize = 3;
const KEYS: usize = 40;
/// The requests of a key that may be under way at once.
const CALLERS: usize = 2;
/// The keys that have a team, which has a cap too.
const OF_TEAM: usize = 8;
/// Nine tokens of input and three of output of claude-sonnet-4-5, by Anthropic's page: 3 and 15 dollars for a million.
const DOLLARS: f64 = (9.0 * 3.0 + 3.0 * 15.0) / 1e6;

/// The load and the caps, in requests.
struct Load {
    /// The requests of a caller.
    each: usize,
    pause: Duration,
    cap_of_key: usize,
    cap_of_team: usize,
}

impl Load {
    fn new() -> Self {
        let (seconds, speed) = if is_full() { (600, 10) } else { (20, 1) };
        let each = 200 * seconds / (KEYS * CALLERS);
        let pause = Duration::from_millis(400) / speed;
        Self { each, pause, cap_of_key: each, cap_of_team: each * OF_TEAM / 2 }
    }
}

/// A proxy that asks one gateway after the other.
struct Nginx {
    child: Child,
    address: String,
    _folder: Folder,
}

impl Nginx {
    /// `None`, said in one line, where it is not there.
    fn start(gateways: &[Served]) -> Option<Self> {
        if Command::new("nginx").arg("-v").output().is_err() {
            println!("skipped: there is no nginx");
            return None;
        }
        let folder = Folder::new("nginx");
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let address = format!("127.0.0.1:{port}");
        let servers: String =
            gateways.iter().map(|gateway| format!("server {} max_fails=0; ", gateway.address())).collect();
        let config = format!(
            "daemon off; master_process off; worker_processes 1; pid nginx.pid; error_log stderr error;
events {{ worker_connections 2048; }}
http {{
    access_log off; keepalive_requests 1000000; client_body_temp_path body; proxy_temp_path proxy;
    fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
    upstream gateways {{ {servers} keepalive 64; keepalive_requests 1000000; }}
    server {{
        listen {address};
        location / {{
            proxy_pass http://gateways; proxy_http_version 1.1; proxy_set_header Connection \"\"; proxy_buffering off;
        }}
    }}
}}
"
        );
        let file = folder.file("nginx.conf", &config);
        let child = Command::new("nginx")
            .arg("-p")
            .arg(file.parent().unwrap())
            .arg("-c")
            .arg(&file)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        comes(BUSY, "nginx listens", || std::net::TcpStream::connect(&address).ok());
        Some(Self { child, address, _folder: folder })
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Asks with a key, in a connection that stays; returns the status.
async fn ask_as(client: &mut Client, secret: &str, words: &str) -> u16 {
    let body = format!(
        r#"{{"model":"claude-sonnet-4-5","max_tokens":50,"messages":[{{"role":"user","content":"{words}"}}]}}"#
    );
    let length = body.len();
    let head =
        format!("POST /v1/messages HTTP/1.1\r\nhost: g\r\nx-api-key: {secret}\r\ncontent-length: {length}\r\n\r\n");
    client.send(head + &body).await.unwrap();
    client.answer().await.unwrap().status
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn caps_are_reached_and_never_passed_by_more_than_what_was_in_flight() {
    let Some(redis) = Server::start().await else { return };
    let Some(cluster) = Cluster::start("caps") else { return };
    let load = Arc::new(Load::new());
    let provider = Provider::that_takes(Duration::from_millis(20)).await;
    let folder = Folder::new("caps");
    let words: Vec<String> = (0..KEYS).map(|number| format!("of key {number:02}")).collect();
    let (secrets, entries): (Vec<String>, Vec<String>) = (0..KEYS)
        .map(|number| {
            let (secret, entry) = key(&format!("k{number:02}"));
            let team = if number < OF_TEAM { "team: search\n    " } else { "" };
            let budget = format!("{team}budget: {{ usd: {:.6}, period: month }}", load.cap_of_key as f64 * DOLLARS);
            (secret, entry.replacen("\n", &format!("\n    {budget}\n"), 1))
        })
        .unzip();
    let of_team = load.cap_of_team as f64 * DOLLARS;
    let config = format!(
        "
tiers:
  - {{ name: sonnet, provider: anthropic, model: claude-sonnet-4-5, base_url: 'http://{}', api_key: '${{PROVIDER_KEY}}' }}
stores: {{ shared: '{}', durable: '{}', shared_timeout: 10s }}
budgets: [{{ name: search, usd: {of_team:.6}, period: month, team: search }}]
",
        provider.address,
        redis.url(),
        cluster.url()
    );
    let gateways: Vec<Served> = (0..GATEWAYS)
        .map(|number| {
            let ledger = format!("ledger: {{ folder: '{}' }}\n", folder.path(&format!("journal-{number}")).display());
            let serve = Serve::with(&(config.clone() + &ledger)).env("PROVIDER_KEY", "sk-of-the-provider");
            serve.keys(&entries.concat()).build_of("STEADFAST_SCALE_BINARY").start()
        })
        .collect();
    let Some(nginx) = Nginx::start(&gateways) else { return };
    let exchanges = async || {
        // PostgreSQL counts the statements of a connection once it rests.
        let commits: u64 =
            cluster.says("SELECT xact_commit FROM pg_stat_database WHERE datname = 'postgres'").parse().unwrap();
        let stats = redis.asks(&["INFO", "stats"]).await.unwrap();
        let commands = stats.lines().find_map(|line| line.strip_prefix("total_commands_processed:")).unwrap();
        [commits, commands.parse().unwrap()]
    };
    let before = exchanges().await;
    let begun = Instant::now();
    let refused = Arc::new(AtomicUsize::new(0));
    let callers: Vec<_> = (0..KEYS * CALLERS)
        .map(|caller| {
            let (load, refused, address) = (load.clone(), refused.clone(), nginx.address.clone());
            let (secret, words) = (secrets[caller % KEYS].clone(), words[caller % KEYS].clone());
            tokio::spawn(async move {
                let mut client = Client::connect(&address).await.unwrap();
                let mut time = tokio::time::interval(load.pause);
                for _ in 0..load.each {
                    time.tick().await;
                    match ask_as(&mut client, &secret, &words).await {
                        200 => {}
                        429 => _ = refused.fetch_add(1, Relaxed),
                        status => panic!("{status}"),
                    }
                }
            })
        })
        .collect();
    for caller in callers {
        caller.await.unwrap();
    }
    let took = begun.elapsed();
    let after = exchanges().await;
    let asked = load.each * KEYS * CALLERS;
    let [commits, commands] = [0, 1].map(|which| after[which] - before[which]);
    println!(
        "{asked} requests in {took:.1?}, {} refused: {commits} commits, {commands} of Redis",
        refused.load(Relaxed)
    );
    // No call waits for a store: what goes there goes at its time, for all.
    assert!(commits + commands < asked as u64 / 2, "{commits} commits, {commands} commands");

    let calls: Vec<usize> = words.iter().map(|words| provider.calls_with(words)).collect();
    let in_team: usize = calls[..OF_TEAM].iter().sum();
    println!("caps of {}: {:?}; of {}: {in_team}", load.cap_of_key, &calls[OF_TEAM..], load.cap_of_team);
    let is_reached = |calls: usize, cap: usize, in_flight: usize| (cap..=cap + in_flight).contains(&calls);
    assert!(calls[OF_TEAM..].iter().all(|&calls| is_reached(calls, load.cap_of_key, CALLERS)), "{calls:?}");
    assert!(is_reached(in_team, load.cap_of_team, CALLERS * OF_TEAM), "{in_team}");
    for gateway in gateways {
        end(gateway);
    }
}
