//! The guide's pages for clients: every command of a page in its order, with a client of a few lines and with simulated
//! providers in place of the vendors'. The commands are read from the page.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    process::{Command, Stdio},
};

use serde_json::{Value, json};
use steadfast::providers::simulated::{Fault, Simulated};
use steadfast_simulator::SimulatedServer;
use tokio::time::Instant;

use super::demo::Demo;
use crate::common::{Folder, Ran, STEADFAST};

/// The address in the pages' commands.
const PAGE_ADDRESS: &str = "127.0.0.1:8080";

/// Returns the lines of a page's blocks of shell commands.
fn commands(page: &str) -> Vec<String> {
    let path = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../guide/src")).join(page);
    let text = fs::read_to_string(path).unwrap();
    let blocks = text.split("```sh\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    blocks.flat_map(str::lines).map(str::to_owned).collect()
}

/// A reader of a page, who has the program and a client.
struct Reader {
    folder: Folder,
    environment: Vec<(String, String)>,
    begun: Instant,
}

impl Reader {
    /// Has this client, which names this model.
    fn new(client: &str, model: &str) -> Self {
        let folder = Folder::new("guide");
        fs::create_dir(folder.path("bin")).unwrap();
        std::os::unix::fs::symlink(STEADFAST, folder.path("bin/steadfast")).unwrap();
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/operators/run/client.py");
        let text = format!("#!/bin/sh\nexec python3 -B '{script}' {client} \"$@\"\n");
        let program = folder.file(&format!("bin/{client}"), &text);
        fs::set_permissions(program, fs::Permissions::from_mode(0o755)).unwrap();
        let path = format!("{}:{}", folder.path("bin").display(), std::env::var("PATH").unwrap());
        let home = folder.path("").display().to_string();
        let environment = [("PATH", path), ("HOME", home), ("MODEL", model.to_owned())];
        let environment = environment.map(|(name, value)| (name.to_owned(), value)).to_vec();
        Self { folder, environment, begun: Instant::now() }
    }

    fn set(&mut self, name: &str, value: &str) {
        self.environment.push((name.to_owned(), value.to_owned()));
    }

    fn command(&self, line: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("exec {line}")]).current_dir(self.folder.path("")).env_clear();
        command.envs(self.environment.iter().map(|(name, value)| (name, value))).stdin(Stdio::null());
        command
    }

    /// Runs a line, which succeeds.
    fn run(&self, line: &str) -> Ran {
        let output = self.command(line).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        let ran = Ran { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) };
        assert_eq!(ran.code, Some(0), "{line}: {ran:?}");
        ran
    }

    /// Runs a line that starts the client, whose call is answered, and returns the last words.
    fn turn(&self, line: &str) -> String {
        let ran = self.run(line);
        let report: Value = serde_json::from_str(&ran.out).unwrap_or_else(|error| panic!("{error}: {ran:?}"));
        assert_eq!(report["answers"], json!([200]), "{line}: {ran:?}");
        ran.err
    }

    /// Returns the seconds since the first command.
    fn seconds(&self) -> f64 {
        self.begun.elapsed().as_secs_f64()
    }
}

/// Does all that a page says for this client. Its own vendor is `down` in the end, and the tier `up` answers.
async fn read(page: &str, client: &str, model: &str, (down, up): (&str, &str)) {
    let vendor = SimulatedServer::start(Simulated::new("the client's vendor")).await.unwrap();
    let other = SimulatedServer::start(Simulated::new("the other vendor")).await.unwrap();
    let (mut reader, mut demo, mut turns) = (Reader::new(client, model), None::<Demo>, 0);
    for (tier, variable, path) in
        [("claude", "ANTHROPIC_BASE_URL", ""), ("gpt", "OPENAI_BASE_URL", "/v1"), ("gemini", "GEMINI_BASE_URL", "")]
    {
        let server = if tier == down { &vendor } else { &other };
        reader.set(variable, &(server.base_url() + path));
    }
    for line in commands(page) {
        if let Some(variables) = line.strip_prefix("export ") {
            for (name, value) in variables.split(' ').map(|variable| variable.split_once('=').unwrap()) {
                reader.set(name, value);
            }
        } else if line.starts_with("steadfast demo ") {
            let shown = demo.insert(Demo::of(reader.command(&line)));
            // It shows the page's next command, at its own address.
            let run = format!("steadfast run --url http://{} -- claude", shown.address());
            assert!(shown.said().contains(&run), "{}", shown.said());
        } else if line.contains(" run --url ") {
            let demo = demo.as_mut().expect("the page has a demo before");
            assert!(line.contains(PAGE_ADDRESS) && line.ends_with(&format!(" -- {client}")), "{line}");
            let line = line.replace(PAGE_ADDRESS, &demo.address());
            assert_eq!(reader.turn(&line).lines().next(), Some("steadfast: 1 request: 1 by first"));
            demo.press("f");
            demo.line("first fails");
            let said = reader.turn(&line);
            assert!(said.starts_with("steadfast: 1 request: 1 by second (first: server 1x)\n"), "{said}");
            println!("{page}: {client} survived the demo's outage {:.1} s after the first command", reader.seconds());
            turns += 1;
        } else if line.contains(" run --config ") {
            vendor.handle().fail(Fault::ServerError);
            let said = reader.turn(&line);
            assert!(said.starts_with(&format!("steadfast: 1 request: 1 by {up} ({down}: server 1x)\n")), "{said}");
            println!("{page}: {client} survived its vendor's outage {:.1} s after the first command", reader.seconds());
            turns += 1;
        } else {
            assert!(line.starts_with("steadfast "), "{page}: no test runs {line:?}");
            reader.run(&line);
        }
    }
    assert_eq!(turns, 2, "the page has both outages");
    let mut demo = demo.expect("the page has a demo");
    // As the page has it.
    let request = demo.line(&format!("{model}: answered by second in "));
    assert!(request.ends_with(" (first: server)"), "{request}");
    demo.press("q");
    let said = demo.ended().out;
    assert!(said.ends_with(", 0 lost\nfirst alone: 1 lost (fails 1x)\n"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn claude_code_survives_an_outage_by_its_page_alone() {
    read("claude_code.md", "claude", "claude-sonnet-4-5", ("claude", "gpt")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn codex_survives_an_outage_by_its_page_alone() {
    read("codex.md", "codex", "gpt-5.2", ("gpt", "claude")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn gemini_cli_survives_an_outage_by_its_page_alone() {
    read("gemini_cli.md", "gemini", "gemini-2.5-pro", ("gemini", "claude")).await;
}
