//! `steadfast serve`: the real binary in a process of its own.

use std::{
    ffi::OsString,
    fs::{self, OpenOptions},
    io::{BufRead as _, BufReader, Read as _},
    os::unix::fs::PermissionsExt as _,
    process::{Child, ChildStdout, Command, ExitStatus, Stdio},
    time::Duration,
};

use super::{Folder, Ran, STEADFAST, comes};

/// The time for a server to stop: its own, and a margin for a slow machine.
const PATIENCE: Duration = Duration::from_secs(90);

/// A gateway to be started, in an environment with nothing in it but what is said here.
#[derive(Debug)]
pub struct Serve {
    /// With its `steadfast.yaml` and its `keys.yaml`, if it has them.
    pub folder: Folder,
    program: OsString,
    listen: String,
    arguments: Vec<OsString>,
    environment: Vec<(String, String)>,
    /// With its log: that other folder is one that it watches.
    said: Folder,
    is_read: bool,
}

impl Serve {
    /// Serves simulated models.
    pub fn simulated() -> Self {
        Self {
            folder: Folder::new("serve"),
            program: STEADFAST.into(),
            listen: "127.0.0.1:0".to_owned(),
            arguments: Vec::new(),
            environment: Vec::new(),
            said: Folder::new("said"),
            is_read: true,
        }
    }

    /// Serves this configuration.
    pub fn with(config: &str) -> Self {
        let serve = Self::simulated();
        let file = serve.folder.file("steadfast.yaml", config);
        serve.args(["--config".into(), file.into_os_string()])
    }

    /// Requires one of these keys.
    pub fn keys(self, entries: &str) -> Self {
        let file = self.folder.file("keys.yaml", &format!("keys:\n{entries}...\n"));
        self.args(["--keys".into(), file.into_os_string()])
    }

    /// With these arguments too.
    pub fn args(mut self, more: impl IntoIterator<Item: Into<OsString>>) -> Self {
        self.arguments.extend(more.into_iter().map(Into::into));
        self
    }

    /// With this variable too.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// With these variables too.
    pub fn envs(self, more: &[(&str, &str)]) -> Self {
        more.iter().fold(self, |serve, (name, value)| serve.env(name, value))
    }

    /// Sets the address, in place of a free port.
    pub fn listen(mut self, address: &str) -> Self {
        address.clone_into(&mut self.listen);
        self
    }

    /// With a log that nobody reads before the end.
    pub fn log_unread(mut self) -> Self {
        self.is_read = false;
        self
    }

    /// The build of it that this variable of the test's names, if it does.
    pub fn build_of(mut self, variable: &str) -> Self {
        self.program = std::env::var_os(variable).unwrap_or(self.program);
        self
    }

    /// With a `/etc/resolv.conf` of its own, which only root may give it.
    pub fn resolv_conf(self, content: &str) -> Self {
        let own = self.said.file("resolv.conf", content);
        let mount = format!("mount --bind '{}' /etc/resolv.conf", own.to_str().unwrap());
        let run = format!(
            "#!/bin/sh\nexec unshare -m sh -c \"{mount} && exec '{}' \\\"\\$@\\\"\" sh \"$@\"\n",
            self.program.to_str().unwrap()
        );
        self.runs(&run)
    }

    /// With a `/proc` that has processes alone, as under a unit with `ProcSubset=pid`; only root may give it.
    pub fn proc_of_processes(self) -> Self {
        let run = format!(
            "#!/bin/sh\nexec unshare -m sh -c \"mount -t proc -o subset=pid proc /proc && exec '{}' \\\"\\$@\\\"\" sh \"$@\"\n",
            self.program.to_str().unwrap()
        );
        self.runs(&run)
    }

    /// With at most so many open files.
    pub fn open_files(self, most: u32) -> Self {
        let run = format!("#!/bin/sh\nulimit -n {most}\nexec '{}' \"$@\"\n", self.program.to_str().unwrap());
        self.runs(&run)
    }

    /// Runs this script in place of the binary.
    fn runs(mut self, run: &str) -> Self {
        let script = self.said.file("run", run);
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
        self.program = script.into_os_string();
        self
    }

    /// Starts it, and waits until it serves.
    pub fn start(mut self) -> Served {
        Served { process: self.serving(), serve: self }
    }

    /// Starts it, and waits until it has refused to serve.
    pub fn refused(&mut self) -> Ran {
        let ran = self.begin().expect_err("it serves");
        assert_ne!(ran.code, Some(0), "{}", ran.err);
        ran
    }

    /// Starts it, and waits for nothing.
    pub fn spawn(&self) -> Process {
        let log = OpenOptions::new().create(true).append(true).open(self.said.path("log")).unwrap();
        let mut child = Command::new(&self.program)
            .args(["serve", "--listen", &self.listen])
            .args(&self.arguments)
            .env_clear()
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdout(Stdio::piped())
            .stderr(if self.is_read { log.into() } else { Stdio::piped() })
            .spawn()
            .expect("the binary starts");
        let stdout = BufReader::new(child.stdout.take().unwrap());
        Process { child, stdout, greeting: String::new() }
    }

    fn serving(&mut self) -> Process {
        self.begin().unwrap_or_else(|ran| panic!("it ended early, {:?}: {}{}", ran.code, ran.out, ran.err))
    }

    /// Returns the output of a server that ends before it serves.
    fn begin(&mut self) -> Result<Process, Ran> {
        let before = self.listening().len();
        let mut process = self.spawn();
        if self.arguments.iter().any(|argument| argument == "json") {
            // It says so in its log alone.
            let listens = comes(PATIENCE, "it does not listen", || {
                let listens = self.listening().into_iter().nth(before);
                if listens.is_none() && process.ended().is_some() { Some(None) } else { listens.map(Some) }
            });
            match listens {
                Some(address) => self.listen = address,
                None => return Err(process.ran(self)),
            }
            return Ok(process);
        }
        // The last line of the greeting.
        while !process.greeting.contains("OPENAI_BASE_URL") {
            if process.stdout.read_line(&mut process.greeting).unwrap() == 0 {
                return Err(process.ran(self));
            }
        }
        let address = process.greeting.split("http://").nth(1).unwrap().split_whitespace().next().unwrap();
        // It is started again where it was.
        address.clone_into(&mut self.listen);
        Ok(process)
    }

    /// Returns the addresses where it listened, by its log in JSON.
    fn listening(&self) -> Vec<String> {
        let log = self.log();
        // The last line may be half written.
        let lines = log.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        let listening = lines.filter(|line| line["event"] == "listening");
        listening.filter_map(|line| Some(line["address"].as_str()?.to_owned())).collect()
    }

    /// Returns the log so far, of all its processes.
    pub fn log(&self) -> String {
        fs::read_to_string(self.said.path("log")).unwrap_or_default()
    }
}

/// A process of it, killed when this is dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    stdout: BufReader<ChildStdout>,
    greeting: String,
}

impl Process {
    /// SIGKILL, and nothing before it.
    pub fn kill(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Returns the exit status if it has ended by itself.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Returns the output once it has ended.
    fn ran(&mut self, serve: &Serve) -> Ran {
        let status = comes(PATIENCE, "it does not end", || self.ended());
        let (mut out, mut err) = (std::mem::take(&mut self.greeting), serve.log());
        self.stdout.read_to_string(&mut out).unwrap();
        if let Some(mut unread) = self.child.stderr.take() {
            unread.read_to_string(&mut err).unwrap();
        }
        Ran { code: status.code(), out, err }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A gateway that serves, killed when this is dropped. Where that is a failed test's doing, its log is shown.
#[derive(Debug)]
pub struct Served {
    process: Process,
    serve: Serve,
}

impl Served {
    /// Returns its host and port.
    pub fn address(&self) -> &str {
        &self.serve.listen
    }

    /// Returns its URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.serve.listen)
    }

    /// Returns its greeting.
    pub fn greeting(&self) -> &str {
        &self.process.greeting
    }

    /// Returns the folder of its files.
    pub fn folder(&self) -> &Folder {
        &self.serve.folder
    }

    /// Returns its process id.
    pub fn id(&self) -> u32 {
        self.process.child.id()
    }

    /// Returns the log so far.
    pub fn log(&self) -> String {
        self.serve.log()
    }

    /// Changes its configuration.
    pub fn configure(&self, config: &str) {
        self.serve.folder.file("steadfast.yaml", config);
    }

    /// Sends it a signal, `-HUP` say.
    pub fn signal(&self, name: &str) {
        assert!(Command::new("kill").args([name, &self.id().to_string()]).status().unwrap().success());
    }

    /// Asks it to stop; gives what it has said. It ends in good order.
    pub fn stop(self) -> Ran {
        self.signal("-TERM");
        self.stopped()
    }

    /// Waits until it has ended, and returns its output and code.
    pub fn ran(mut self) -> Ran {
        self.process.ran(&self.serve)
    }

    /// Returns its output after an orderly end.
    pub fn stopped(self) -> Ran {
        let ran = self.ran();
        assert_eq!(ran.code, Some(0), "{}", ran.err);
        ran
    }

    /// SIGKILL, and nothing before it.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts it again where it was, with the same files.
    pub fn start_again(&mut self) {
        self.kill();
        self.process = self.serve.serving();
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.log());
        }
    }
}
