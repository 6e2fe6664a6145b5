//! The end of orphans: processes that a credential's command began and left behind.
//!
//! Their parent is the first process of the machine or the container. Where that is the gateway, nobody else takes note
//! of their end, and each keeps its place in the system's table.

use std::{collections::BTreeSet, fs, process, time::Duration};

use rustix::process::{Pid, WaitOptions, waitpid};
use tokio::time::sleep;

/// The time between two looks. A child of the runtime's own is gone by the second one.
const EVERY: Duration = Duration::from_secs(10);

/// Reaps orphans for ever, if they are this process's.
pub async fn reap() {
    if process::id() != 1 {
        return;
    }
    let mut orphans = Orphans::default();
    loop {
        sleep(EVERY).await;
        orphans.look(zombies_of(process::id()));
    }
}

/// The ended children that nobody had taken note of at the last look.
#[derive(Default)]
struct Orphans(BTreeSet<i32>);

impl Orphans {
    /// Takes note of those that had ended by the last look.
    fn look(&mut self, ended: BTreeSet<i32>) {
        for id in self.0.intersection(&ended).filter_map(|id| Pid::from_raw(*id)) {
            // Somebody may have been quicker.
            let _ = waitpid(Some(id), WaitOptions::NOHANG);
        }
        self.0 = ended;
    }
}

/// Returns the ended children of a process that nobody has taken note of.
fn zombies_of(parent: u32) -> BTreeSet<i32> {
    let Ok(processes) = fs::read_dir("/proc") else { return BTreeSet::new() };
    let ids = processes.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
    let is_zombie = |id: &i32| {
        let state = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
        // The name before it is in parentheses, and may be anything.
        let mut fields = state.rsplit_once(')').map_or("", |(_, fields)| fields).split_ascii_whitespace();
        fields.next() == Some("Z") && fields.next().and_then(|id| id.parse().ok()) == Some(parent)
    };
    ids.filter(is_zombie).collect()
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn an_orphan_that_has_ended_is_taken_note_of_at_the_second_look() {
        rustix::process::set_child_subreaper(Pid::from_raw(1)).unwrap();
        let shell = Command::new("/bin/sh").args(["-c", "sleep 0.1 >/dev/null 2>&1 & echo $!"]).output().unwrap();
        let id: i32 = String::from_utf8(shell.stdout).unwrap().trim().parse().unwrap();
        // Other tests have children of their own.
        let ended = || zombies_of(process::id()).into_iter().filter(|zombie| *zombie == id).collect::<BTreeSet<_>>();
        while ended().is_empty() {
            std::thread::yield_now();
        }
        let mut orphans = Orphans::default();
        orphans.look(ended());
        assert_eq!(ended(), BTreeSet::from([id]));
        orphans.look(ended());
        assert!(ended().is_empty());
    }
}
