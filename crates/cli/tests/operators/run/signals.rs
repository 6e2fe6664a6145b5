//! Signals to a client and to the process beside it.

#![allow(clippy::disallowed_methods, reason = "a real process keeps real time")]

use std::{
    fs,
    os::unix::process::CommandExt as _,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use super::{PATIENCE, User, WELL};
use crate::common::{comes, within};

/// A client of these lines of a shell, which has begun.
struct Running {
    user: User,
    process: Child,
}

impl Running {
    /// Starts it in a process group of its own, as a shell with a terminal does.
    fn begin(lines: &str) -> Self {
        let user = User::new().config(WELL);
        let ready = user.folder.path("ready");
        let script =
            format!("{lines}\necho $$ > '{0}.new'; mv '{0}.new' '{0}'\nwhile :; do sleep 0.05; done", ready.display());
        let process = user.command(&["sh", "-c", &script]).process_group(0).spawn().unwrap();
        let mut running = Self { user, process };
        within(PATIENCE, "the client does not begin", || running.client().is_some() || running.code().is_some());
        running
    }

    /// Returns the client's id.
    fn client(&self) -> Option<String> {
        Some(fs::read_to_string(self.user.folder.path("ready")).ok()?.trim().to_owned())
    }

    fn id(&self) -> String {
        self.process.id().to_string()
    }

    fn code(&mut self) -> Option<i32> {
        self.process.try_wait().unwrap()?.code()
    }

    /// Returns the exit code at the end.
    fn end(mut self) -> i32 {
        comes(PATIENCE, "it does not end", || self.code())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // All of its group.
        kill("-KILL", &format!("-{}", self.id()));
        let _ = self.process.wait();
    }
}

fn kill(signal: &str, process: &str) {
    // It may have ended.
    let _ = Command::new("kill").args([signal, "--", process]).stderr(Stdio::null()).status();
}

#[test]
fn a_ctrl_c_is_the_clients_and_the_gateway_waits_for_it() {
    let mut running = Running::begin("trap 'exit 5' INT QUIT");
    // To this process alone, it means nothing.
    kill("-INT", &running.id());
    kill("-QUIT", &running.id());
    thread::sleep(Duration::from_millis(200));
    assert_eq!(running.code(), None, "it goes on");
    kill("-INT", &format!("-{}", running.id()));
    assert_eq!(running.end(), 5);
    // A client without a trap ends by the signal itself.
    let running = Running::begin("trap - INT");
    kill("-INT", &format!("-{}", running.id()));
    assert_eq!(running.end(), 130);
}

#[test]
fn an_order_to_end_is_passed_on() {
    for (signal, code) in [("-TERM", 6), ("-HUP", 7)] {
        let running = Running::begin("trap 'exit 6' TERM; trap 'exit 7' HUP");
        kill(signal, &running.id());
        assert_eq!(running.end(), code, "{signal}");
    }
    let running = Running::begin("");
    kill("-TERM", &running.id());
    assert_eq!(running.end(), 143);
}

#[cfg(target_os = "linux")]
#[test]
fn a_client_that_stops_stops_both_and_the_shell_continues_both() {
    let state = |id: &str| {
        let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
        stat.rsplit_once(") ").and_then(|(_, fields)| fields.chars().next())
    };
    let running = Running::begin("trap 'exit 6' TERM");
    let (client, own) = (running.client().unwrap(), running.id());
    for stops in [client.clone(), format!("-{own}")] {
        kill("-STOP", &stops);
        within(PATIENCE, "the shell does not get its terminal back", || state(&own) == Some('T'));
        kill("-CONT", &if stops == client { own.clone() } else { stops });
        within(PATIENCE, "the client does not go on", || {
            [&client, &own].iter().all(|id| state(id).is_some_and(|state| state != 'T'))
        });
    }
    thread::sleep(Duration::from_millis(200));
    assert_ne!(state(&own), Some('T'), "it stops once");
    kill("-TERM", &own);
    assert_eq!(running.end(), 6);
}
