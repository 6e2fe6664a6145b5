//! A PostgreSQL server of a test's own, that it may restart.

use std::{
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Command, Output},
};

/// A server in a folder of its own, stopped and gone with it.
pub(crate) struct Cluster {
    programs: PathBuf,
    folder: PathBuf,
    port: u16,
}

impl Cluster {
    /// `None`, said in one line, where its programs are not there.
    pub(crate) fn start(test: &str) -> Option<Self> {
        let Some(programs) = std::env::var_os("STEADFAST_TEST_POSTGRES_BIN") else {
            println!("skipped: STEADFAST_TEST_POSTGRES_BIN names no folder with PostgreSQL's programs");
            return None;
        };
        // Not where its user may not go: a checkout may be anywhere.
        let folder = std::env::temp_dir().join(format!("steadfast-{test}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        if is_root() {
            assert!(Command::new("chown").arg("postgres").arg(&folder).status().unwrap().success());
        }
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let cluster = Self { programs: programs.into(), folder, port };
        cluster.run("initdb", &["-U", "steadfast", "--auth=trust", "--no-sync"]);
        cluster.pg_ctl(&["start"]);
        Some(cluster)
    }

    pub(crate) fn url(&self) -> String {
        format!("postgres://steadfast@127.0.0.1:{}/postgres", self.port)
    }

    /// Ends it as a crash does, and starts it again; it is there when this returns.
    pub(crate) fn crashes_and_restarts(&self) {
        self.pg_ctl(&["-m", "immediate", "restart"]);
    }

    /// Ends it as a crash does.
    pub(crate) fn crashes(&self) {
        self.pg_ctl(&["-m", "immediate", "stop"]);
    }

    pub(crate) fn starts_again(&self) {
        self.pg_ctl(&["start"]);
    }

    /// It is there and says nothing, until it [goes on](Self::goes_on).
    #[allow(dead_code, reason = "not every test stops it")]
    pub(crate) fn stops(&self) {
        self.signal("-STOP");
    }

    #[allow(dead_code, reason = "not every test stops it")]
    pub(crate) fn goes_on(&self) {
        self.signal("-CONT");
    }

    /// To the server and each of its processes.
    fn signal(&self, signal: &str) {
        let first = std::fs::read_to_string(self.folder.join("data/postmaster.pid")).unwrap();
        let first = first.lines().next().unwrap().to_owned();
        let parent_of = |process: &str| {
            let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
            Some(stat.rsplit(')').next()?.split_whitespace().nth(1)?.to_owned())
        };
        let all = std::fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let children = all.filter(|process| parent_of(process).is_some_and(|parent| parent == first));
        for process in children.chain([first.clone()]).collect::<Vec<_>>() {
            // It may have ended.
            let _ = Command::new("kill").args([signal, &process]).status();
        }
    }

    /// Sets whether the server refuses all writes from now on.
    #[allow(dead_code, reason = "not every test reads only")]
    pub(crate) fn is_read_only(&self, is: bool) {
        let switch = format!("ALTER SYSTEM SET default_transaction_read_only = {}", if is { "on" } else { "off" });
        for sql in [&*switch, "SELECT pg_reload_conf()"] {
            self.says(sql);
        }
    }

    /// Runs this statement; returns what comes of it, without a frame.
    #[allow(dead_code, reason = "not every test asks it")]
    pub(crate) fn says(&self, sql: &str) -> String {
        let port = self.port.to_string();
        let psql = Command::new(self.programs.join("psql"))
            .args(["-h", "127.0.0.1", "-p", &port, "-U", "steadfast", "-d", "postgres", "-qtAc", sql])
            .output()
            .unwrap();
        assert!(psql.status.success(), "{}", String::from_utf8_lossy(&psql.stderr));
        String::from_utf8(psql.stdout).unwrap().trim().to_owned()
    }

    fn pg_ctl(&self, what: &[&str]) {
        let log = self.folder.join("log");
        // It is the server that ends, and never the machine: what it has written to the system is kept.
        let options = "-c listen_addresses=127.0.0.1 -c fsync=off";
        let options = format!("-p {} -k {} {options}", self.port, self.folder.display());
        let arguments = ["-w", "-t", "60", "-s", "-l", log.to_str().unwrap(), "-o", &options];
        self.run("pg_ctl", &[&arguments[..], what].concat());
    }

    fn run(&self, program: &str, arguments: &[&str]) {
        let Output { status, stderr, .. } = self.command(program, arguments).output().unwrap();
        assert!(status.success(), "{program}: {}", String::from_utf8_lossy(&stderr));
    }

    /// Returns a command run by a user that the server accepts, which root is not.
    fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let program = self.programs.join(program);
        let mut command = match is_root() {
            true => Command::new("runuser"),
            false => Command::new(&program),
        };
        if is_root() {
            command.args(["-u", "postgres", "--"]).arg(program);
        }
        command.arg("-D").arg(self.folder.join("data")).args(arguments).current_dir(Path::new("/"));
        command
    }
}

fn is_root() -> bool {
    std::os::unix::fs::MetadataExt::uid(&std::fs::metadata("/proc/self").unwrap()) == 0
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let _ = self.command("pg_ctl", &["-m", "immediate", "-s", "stop"]).output();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
