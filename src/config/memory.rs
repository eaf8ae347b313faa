//! The memory that this process may have, for the default of what it keeps.

use std::fs;
use std::path::Path;
use std::sync::OnceLock;

/// The part of the memory that the state may take unless it is configured: a third. The second is for a
/// rejoin, in which what is overwritten meanwhile stays until it has been sent, the last for everything
/// else.
const PART: u64 = 3;

/// Where nothing says how much memory there is.
const UNKNOWN: u64 = 3 << 30;

/// What the state may take by default, in bytes: the same whenever this process asks.
pub(super) fn a_third() -> usize {
    static THIRD: OnceLock<usize> = OnceLock::new();
    let read = |path: &Path| fs::read_to_string(path).ok();
    *THIRD.get_or_init(|| usize::try_from(least(read) / PART).unwrap_or(usize::MAX))
}

/// The least of what the machine has, of what the control groups of the process allow, and of its limit
/// of addresses.
fn least(read: impl Fn(&Path) -> Option<String>) -> u64 {
    let text = |path: &str| read(Path::new(path)).unwrap_or_default();
    let machine = field(&text("/proc/meminfo"), "MemTotal:").map(|kib| kib.saturating_mul(1024));
    let addresses = field(&text("/proc/self/limits"), "Max address space");
    let groups = text("/proc/self/cgroup");
    let groups = groups.lines().filter_map(|group| allowed(group, &read));
    let known = machine.into_iter().chain(addresses).chain(groups);
    known.min().unwrap_or(UNKNOWN)
}

/// The number behind `name`, at the beginning of a line.
fn field(text: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines();
    let rest = lines.find_map(|line| line.strip_prefix(name))?;
    rest.split_whitespace().next()?.parse().ok()
}

/// What a control group and those above it allow: a line `id:controllers:path`, where the second version
/// of control groups names no controllers. Inside of a container the path may be that of the host, and
/// only the topmost group is to be seen.
fn allowed(group: &str, read: impl Fn(&Path) -> Option<String>) -> Option<u64> {
    let mut parts = group.splitn(3, ':').skip(1);
    let (controllers, path) = (parts.next()?, parts.next()?);
    let (root, file) = match controllers {
        "" => ("/sys/fs/cgroup", "memory.max"),
        _ if controllers.split(',').any(|it| it == "memory") => {
            ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
        }
        _ => return None,
    };
    let ancestors = Path::new(path.trim_start_matches('/')).ancestors();
    let files = ancestors.map(|group| Path::new(root).join(group).join(file));
    // No limit is "max", or a number that no machine has.
    files
        .filter_map(|file| read(&file)?.trim().parse().ok())
        .min()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEMINFO: (&str, &str) = (
        "/proc/meminfo",
        "MemTotal:        8000000 kB\nMemFree: 1 kB\n",
    );
    const LIMITS: &str = "Limit                     Soft Limit           Hard Limit           Units\n\
        Max cpu time              unlimited            unlimited            seconds\n";

    fn least_of(files: &[(&str, &str)]) -> u64 {
        let text = |path: &Path| {
            let file = files.iter().find(|(name, _)| Path::new(name) == path);
            file.map(|(_, text)| (*text).to_owned())
        };
        least(text)
    }

    #[test]
    fn the_least_counts_of_what_is_known() {
        let machine = 8_000_000 * 1024;
        assert_eq!(least_of(&[]), UNKNOWN);
        assert_eq!(least_of(&[MEMINFO]), machine);
        let unlimited = format!("{LIMITS}Max address space         unlimited  unlimited  bytes\n");
        let limited = format!("{LIMITS}Max address space         1000  unlimited  bytes\n");
        let limits = |text| least_of(&[MEMINFO, ("/proc/self/limits", text)]);
        assert_eq!(limits(&unlimited), machine);
        assert_eq!(limits(&limited), 1000);
    }

    #[test]
    fn a_control_group_counts_and_so_do_those_above_it() {
        let inner = ("/sys/fs/cgroup/a/b/memory.max", "max\n");
        let outer = ("/sys/fs/cgroup/a/memory.max", "2000\n");
        let second = ("/proc/self/cgroup", "0::/a/b\n");
        assert_eq!(least_of(&[MEMINFO, second, inner, outer]), 2000);

        let container = ("/sys/fs/cgroup/memory.max", "3000\n");
        assert_eq!(least_of(&[MEMINFO, second, container]), 3000);

        let first = ("/proc/self/cgroup", "5:cpu:/a\n4:memory,x:/a\n0::/\n");
        let limit = ("/sys/fs/cgroup/memory/a/memory.limit_in_bytes", "4000\n");
        assert_eq!(least_of(&[MEMINFO, first, limit]), 4000);
        let none = (limit.0, "9223372036854771712\n");
        assert_eq!(least_of(&[MEMINFO, first, none]), least_of(&[MEMINFO]));
    }
}
