//! The memory of Linux.

use std::fs;

/// Returns the memory for this process, in bytes: the least of what the machine has, its control groups allow and
/// `RLIMIT_AS` leaves.
pub fn memory() -> Option<u64> {
    let groups = limit_of_groups(|path| fs::read_to_string(path).ok());
    groups.into_iter().chain(physical()).chain(address_space()).min()
}

/// Returns what is left of the limit of the process's address space, `RLIMIT_AS`, in bytes. Beyond it an allocation
/// ends the process.
pub fn address_space() -> Option<u64> {
    let limit = rustix::process::getrlimit(rustix::process::Resource::As).current?;
    Some(limit.saturating_sub(mapped(&fs::read_to_string("/proc/self/status").unwrap_or_default())))
}

/// Returns the memory of the machine, in bytes. The kernel tells it to those too who may not read `/proc/meminfo`, as
/// under a unit with `ProcSubset=pid`.
#[allow(clippy::useless_conversion, reason = "some targets have narrower fields")]
fn physical() -> Option<u64> {
    let known = rustix::system::sysinfo();
    u64::from(known.totalram).checked_mul(known.mem_unit.into()).filter(|bytes| *bytes > 0)
}

/// Returns the address space that a process has taken, by its own list.
fn mapped(status: &str) -> u64 {
    let size = status.lines().find_map(|line| line.strip_prefix("VmSize:")?.trim().strip_suffix(" kB"));
    size.and_then(|size| size.parse::<u64>().ok()).map_or(0, |kilobytes| kilobytes << 10)
}

/// Returns the smallest limit of the process's control group and those around it, in bytes. A group without one says
/// `max`, or a number beyond any machine.
fn limit_of_groups(read: impl Fn(&str) -> Option<String>) -> Option<u64> {
    let limit = |path: String| read(&path).and_then(|text| text.trim().parse::<u64>().ok());
    let groups = read("/proc/self/cgroup").unwrap_or_default();
    let group = groups.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or("/");
    let group = group.trim_end_matches('/');
    let within = group.match_indices('/').map(|(end, _)| &group[..end]).chain([group]);
    let limits = within.filter_map(|group| limit(format!("/sys/fs/cgroup{group}/memory.max")));
    limits.chain(limit("/sys/fs/cgroup/memory/memory.limit_in_bytes".to_owned())).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_limit_of_the_groups_around_the_process_holds() {
        let of = |files: &[(&str, &str)]| {
            limit_of_groups(|path| files.iter().find(|(name, _)| *name == path).map(|(_, text)| (*text).to_owned()))
        };
        let unit = ("/proc/self/cgroup", "0::/system.slice/steadfast.service\n");
        let at = |group: &'static str| ["/sys/fs/cgroup", group, "/memory.max"].concat();
        let (slice, service) = (at("/system.slice"), at("/system.slice/steadfast.service"));
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[unit, (&slice, "max\n"), (&service, "max\n")]), None, "no limit is none");
        assert_eq!(of(&[unit, (&slice, "4096\n"), (&service, "max\n")]), Some(4096));
        assert_eq!(of(&[unit, (&slice, "4096\n"), (&service, "1024\n")]), Some(1024));
        // A container sees its own group as the root.
        assert_eq!(of(&[("/proc/self/cgroup", "0::/\n"), (&at(""), "2048\n")]), Some(2048));
        assert_eq!(of(&[("/sys/fs/cgroup/memory/memory.limit_in_bytes", "512\n")]), Some(512));
    }

    #[test]
    fn the_machines_memory_is_that_of_its_own_list() {
        // The kernel's own other account of the same number.
        let list = fs::read_to_string("/proc/meminfo").unwrap();
        let total = list.lines().find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB"));
        assert_eq!(physical(), total.map(|kilobytes| kilobytes.parse::<u64>().unwrap() << 10));
    }

    #[test]
    fn the_address_space_in_use_is_that_of_the_kernels_list() {
        assert_eq!(mapped("Name:\tx\nVmPeak:\t  99 kB\nVmSize:\t  12 kB\n"), 12 << 10);
        assert_eq!(mapped(""), 0);
        assert!(mapped(&fs::read_to_string("/proc/self/status").unwrap()) > 0);
    }
}
