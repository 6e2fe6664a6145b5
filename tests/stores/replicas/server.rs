//! A Redis for tests: the one that `STEADFAST_TEST_REDIS` names, or one of a test's own beside it.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering::Relaxed},
    time::{Duration, Instant},
};

use steadfast_stores::redis::Redis;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

/// The server for tests, with a prefix of a test's own; `None`, said in one line, where there is none.
pub fn shared(test: &str) -> Option<Redis> {
    let url = url()?;
    let prefix = format!("steadfast-test-{}-{test}:", std::process::id());
    // Other tests keep the machine busy: what is bounded is tested by itself.
    Some(Redis::open(&url).unwrap().prefix(prefix).limit(Duration::from_secs(5)))
}

fn url() -> Option<String> {
    let url = std::env::var("STEADFAST_TEST_REDIS").ok();
    if url.is_none() {
        println!("skipped: STEADFAST_TEST_REDIS names no Redis");
    }
    url
}

/// A server of a test's own, which it may stop and kill. It keeps nothing on disk unless it appends.
pub struct Server {
    child: Option<Child>,
    folder: PathBuf,
    pub port: u16,
    /// Its other settings at the start.
    settings: &'static [&'static str],
}

impl Server {
    pub async fn start() -> Option<Self> {
        Self::start_as(&["--appendonly", "no"]).await
    }

    /// One that knows after its death what it was told.
    #[allow(dead_code, reason = "not every test kills it so")]
    pub async fn start_that_appends() -> Option<Self> {
        Self::start_as(&["--appendonly", "yes", "--auto-aof-rewrite-percentage", "0"]).await
    }

    /// One that takes itself for a part of a cluster.
    #[allow(dead_code, reason = "not every test has one")]
    pub async fn start_as_cluster() -> Option<Self> {
        Self::start_as(&["--cluster-enabled", "yes"]).await
    }

    async fn start_as(settings: &'static [&'static str]) -> Option<Self> {
        url()?;
        static SERVERS: AtomicU32 = AtomicU32::new(0);
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap().local_addr().unwrap().port();
        let number = SERVERS.fetch_add(1, Relaxed);
        let folder = std::env::temp_dir().join(format!("steadfast-redis-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let mut server = Self { child: None, folder, port, settings };
        server.begin().await;
        Some(server)
    }

    /// Starts it again after it was killed.
    pub async fn begin(&mut self) {
        let child = Command::new("redis-server")
            .args(["--port", &self.port.to_string(), "--bind", "127.0.0.1", "--save", ""])
            .args(self.settings)
            .args(["--dir", &self.folder.display().to_string()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("redis-server is in the PATH where STEADFAST_TEST_REDIS is set");
        self.child = Some(child);
        let deadline = Instant::now() + Duration::from_secs(20);
        while self.asks(&["PING"]).await.is_err() {
            assert!(Instant::now() < deadline, "the Redis of the test does not answer");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// Returns its reply to a command, as it comes.
    pub async fn asks(&self, words: &[&str]) -> std::io::Result<String> {
        let mut connection = TcpStream::connect(self.address()).await?;
        let mut command = format!("*{}\r\n", words.len());
        for word in words {
            command.push_str(&format!("${}\r\n{word}\r\n", word.len()));
        }
        connection.write_all(command.as_bytes()).await?;
        let mut said = vec![0; 4096];
        let read = connection.read(&mut said).await?;
        said.truncate(read);
        Ok(String::from_utf8_lossy(&said).into_owned())
    }

    /// It is there and says nothing, until it [goes on](Self::goes_on).
    pub fn stops(&self) {
        self.signal("-STOP");
    }

    pub fn goes_on(&self) {
        self.signal("-CONT");
    }

    /// It is gone, with all that it knew.
    pub fn dies(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Deletes its data too.
    #[allow(dead_code, reason = "not every test kills it so")]
    pub fn forgets(&self) {
        let _ = std::fs::remove_dir_all(self.folder.join("appendonlydir"));
        let _ = std::fs::remove_file(self.folder.join("appendonly.aof"));
    }

    fn signal(&self, signal: &str) {
        let id = self.child.as_ref().unwrap().id().to_string();
        assert!(Command::new("kill").args([signal, &id]).status().unwrap().success());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.dies();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
