//! A contestant as a process: started on a core of its own, watched through `/proc`, and ended with all its children.

use std::{
    fs, io,
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// The core of the contestants; the load and the provider are on the other.
pub const CORE: &str = "0";
pub const RIG_CORE: &str = "1";

/// A process with its children. Dropped, it is ended.
#[derive(Debug)]
pub struct Process {
    child: Child,
}

/// The resources that a process and its children have used so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Used {
    pub cpu_seconds: f64,
    /// The most memory at any one time since the last [`Process::forget_peak`], in bytes: of each process, added up.
    pub peak: u64,
    /// The memory now, in bytes.
    pub resident: u64,
    /// The files and sockets that are open now.
    pub open_files: u64,
}

impl Process {
    /// Starts it on these cores and under another program if there is one, with what it says in a file of the folder.
    ///
    /// # Errors
    ///
    /// The process cannot be started.
    pub fn start(command: &Command, under: &[&str], cores: &str, folder: &Path) -> io::Result<Self> {
        let log = fs::File::create(folder.join("log"))?;
        let mut pinned = Command::new("taskset");
        pinned.args(["-c", cores]).args(under).arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => pinned.env(name, value),
                None => pinned.env_remove(name),
            };
        }
        pinned.current_dir(folder).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).process_group(0);
        Ok(Self { child: pinned.spawn()? })
    }

    pub fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// Returns its use of resources, its children's included.
    pub fn used(&self) -> Used {
        let mut used = Used::default();
        for id in self.family() {
            used.cpu_seconds += cpu_seconds(id).unwrap_or_default();
            let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
            used.peak += kilobytes(&status, "VmHWM:") * 1024;
            used.resident += kilobytes(&status, "VmRSS:") * 1024;
            used.open_files += fs::read_dir(format!("/proc/{id}/fd")).map_or(0, |files| files.count() as u64);
        }
        used
    }

    /// From here on the peak is counted anew, where the system lets us.
    pub fn forget_peak(&self) {
        for id in self.family() {
            let _ = fs::write(format!("/proc/{id}/clear_refs"), "5");
        }
    }

    /// The process and all that descend from it.
    fn family(&self) -> Vec<u32> {
        let mut parents: Vec<(u32, u32)> = Vec::new();
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let Some(id) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            if let Some(parent) = stat(id).and_then(|stat| stat.get(1)?.parse().ok()) {
                parents.push((id, parent));
            }
        }
        let mut family = vec![self.child.id()];
        let mut at = 0;
        while let Some(parent) = family.get(at).copied() {
            family.extend(parents.iter().filter(|(_, of)| *of == parent).map(|(id, _)| *id));
            at += 1;
        }
        family
    }

    /// Asks it to end, and ends it if it has not within this time.
    pub fn end(&mut self, patience: Duration) {
        self.signal("-TERM");
        let until = Instant::now() + patience;
        while !self.has_ended() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(20));
        }
        self.signal("-KILL");
        let _ = self.child.wait();
    }

    fn signal(&self, name: &str) {
        let _ =
            Command::new("kill").args([name, "--", &format!("-{}", self.child.id())]).stderr(Stdio::null()).status();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end(Duration::from_secs(5));
    }
}

/// Returns the number of this machine's cores, whichever of them this process may use.
pub fn cores() -> usize {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    info.lines().filter(|line| line.starts_with("processor")).count().max(1)
}

/// The fields of `/proc/ID/stat` behind the name, which may hold anything: the first is the state.
fn stat(id: u32) -> Option<Vec<String>> {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    Some(stat.rsplit_once(')')?.1.split_whitespace().map(str::to_owned).collect())
}

/// In user mode and in the kernel, of children that have ended too.
fn cpu_seconds(id: u32) -> Option<f64> {
    /// Linux shows all times in hundredths, whatever it counts in.
    const TICKS: f64 = 100.0;
    let stat = stat(id)?;
    let ticks: u64 = stat.get(11..15)?.iter().filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
    Some(ticks as f64 / TICKS)
}

fn kilobytes(status: &str, name: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn children_are_counted_and_end_with_their_parent() {
        let folder = std::env::temp_dir().join(format!("steadfast-process-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "sleep 60 & sleep 60 & wait"]);
        let process = Process::start(&command, &[], CORE, &folder).unwrap();
        let until = Instant::now() + Duration::from_secs(5);
        while process.family().len() < 3 && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(5));
        }
        let family = process.family();
        assert_eq!(family.len(), 3);
        assert!(process.used().resident > 0);
        drop(process);
        let gone = |id: &u32| stat(*id).is_none_or(|stat| stat[0] == "Z");
        assert!(family.iter().all(gone));
        fs::remove_dir_all(folder).unwrap();
    }
}
