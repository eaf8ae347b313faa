//! The memory that this process may use: for the default bound of the state, and to check that the
//! configured bound fits.

use std::fs;
use std::path::Path;
use std::sync::OnceLock;

use super::{Config, ConfigError, Problem};

/// The state may take one part in so many of the memory by default: a third. Another third is for a
/// rejoin, in which overwritten values stay until they have been sent. The last third is for everything
/// else.
const PART: u64 = 3;

/// Assumed memory if the system does not tell it.
const UNKNOWN: u64 = 3 << 30;

/// The default bound of the state, in bytes. It is the same for the whole run of this process.
pub(super) fn a_third() -> usize {
    static THIRD: OnceLock<usize> = OnceLock::new();
    *THIRD.get_or_init(|| Memory::of_this_process().third())
}

/// The memory that a node may use, in bytes, if the system tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory(Option<u64>);

impl Memory {
    /// The memory that this process may use: the least of the machine's memory, the limits of its control
    /// groups, and its limit of addresses.
    pub fn of_this_process() -> Self {
        Self(least(|path: &Path| fs::read_to_string(path).ok()))
    }

    /// The default bound of the state, in bytes, with this memory.
    fn third(self) -> usize {
        usize::try_from(self.0.unwrap_or(UNKNOWN) / PART).unwrap_or(usize::MAX)
    }

    /// Checks that the memory is enough for the state of a node with `config`. Memory for everything else
    /// is not checked: the need is unknown.
    ///
    /// # Errors
    ///
    /// A fault of `limits.max_state_bytes`: a full state would end the process, with all that it holds.
    pub fn suffices(self, config: &Config) -> Result<(), ConfigError> {
        let wanted = u64::try_from(config.limits.max_state_bytes).unwrap_or(u64::MAX);
        let Some(limit) = self.0.filter(|limit| *limit < wanted) else {
            return Ok(());
        };
        Err(ConfigError {
            faults: vec![Problem {
                field: "limits.max_state_bytes".to_owned(),
                problem: format!(
                    "{wanted} bytes, and this process may have {limit} for everything"
                ),
                expected: format!(
                    "at most a part of that (a third is the default, {}), or more memory (the machine's, \
                     its control group's, or ulimit -v)",
                    limit / PART
                ),
                origin: None,
            }],
        })
    }
}

/// The least of the machine's memory, the limits of the control groups of the process, and its limit of
/// addresses.
fn least(read: impl Fn(&Path) -> Option<String>) -> Option<u64> {
    let text = |path: &str| read(Path::new(path)).unwrap_or_default();
    let machine = field(&text("/proc/meminfo"), "MemTotal:").map(|kib| kib.saturating_mul(1024));
    let addresses = field(&text("/proc/self/limits"), "Max address space");
    let groups = text("/proc/self/cgroup");
    let groups = groups.lines().filter_map(|group| allowed(group, &read));
    let known = machine.into_iter().chain(addresses).chain(groups);
    known.min()
}

/// The number after `name` at the beginning of a line.
fn field(text: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines();
    let rest = lines.find_map(|line| line.strip_prefix(name))?;
    rest.split_whitespace().next()?.parse().ok()
}

/// The limit of a control group and its parents. `group` is a line `id:controllers:path`; in version 2 of
/// control groups, the controllers are empty. Inside a container the path may be that of the host, and
/// only the topmost group is visible.
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
    // Without a limit the file has "max", or a number beyond any machine's memory.
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

    fn least_of(files: &[(&str, &str)]) -> Option<u64> {
        let text = |path: &Path| {
            let file = files.iter().find(|(name, _)| Path::new(name) == path);
            file.map(|(_, text)| (*text).to_owned())
        };
        least(text)
    }

    #[test]
    fn the_least_counts_of_what_is_known() {
        let machine = 8_000_000 * 1024;
        assert_eq!(least_of(&[]), None);
        assert_eq!(least_of(&[MEMINFO]), Some(machine));
        let unlimited = format!("{LIMITS}Max address space         unlimited  unlimited  bytes\n");
        let limited = format!("{LIMITS}Max address space         1000  unlimited  bytes\n");
        let limits = |text| least_of(&[MEMINFO, ("/proc/self/limits", text)]);
        assert_eq!(limits(&unlimited), Some(machine));
        assert_eq!(limits(&limited), Some(1000));
    }

    #[test]
    fn a_control_group_counts_and_so_do_those_above_it() {
        let inner = ("/sys/fs/cgroup/a/b/memory.max", "max\n");
        let outer = ("/sys/fs/cgroup/a/memory.max", "2000\n");
        let second = ("/proc/self/cgroup", "0::/a/b\n");
        assert_eq!(least_of(&[MEMINFO, second, inner, outer]), Some(2000));

        let container = ("/sys/fs/cgroup/memory.max", "3000\n");
        assert_eq!(least_of(&[MEMINFO, second, container]), Some(3000));

        let first = ("/proc/self/cgroup", "5:cpu:/a\n4:memory,x:/a\n0::/\n");
        let limit = ("/sys/fs/cgroup/memory/a/memory.limit_in_bytes", "4000\n");
        assert_eq!(least_of(&[MEMINFO, first, limit]), Some(4000));
        let none = (limit.0, "9223372036854771712\n");
        assert_eq!(least_of(&[MEMINFO, first, none]), least_of(&[MEMINFO]));
    }

    #[test]
    fn only_the_control_group_of_memory_counts() {
        let limits = [
            ("/sys/fs/cgroup/memory/a/memory.limit_in_bytes", "4000\n"),
            ("/sys/fs/cgroup/memory/b/memory.limit_in_bytes", "1\n"),
        ];
        let groups = ("/proc/self/cgroup", "5:cpu:/b\n4:memory:/a\n");
        assert_eq!(
            least_of(&[MEMINFO, groups, limits[0], limits[1]]),
            Some(4000)
        );
    }

    #[test]
    fn the_state_may_take_a_third_and_a_gibibyte_where_the_memory_is_unknown() {
        assert_eq!(Memory(Some(3001)).third(), 1000);
        assert_eq!(Memory(None).third(), 1 << 30);
        assert_eq!(a_third(), Memory::of_this_process().third());
    }

    #[test]
    fn a_state_that_could_never_be_kept_is_a_fault() {
        let id = crate::types::NodeId::new(1).expect("a node id");
        let mut config = Config::for_dev(id, 3, 6379, 7379).expect("valid");
        config.limits.max_state_bytes = 1 << 30;
        for enough in [None, Some(1 << 30)] {
            assert_eq!(Memory(enough).suffices(&config), Ok(()));
        }
        let fault = Memory(Some(3_000_000)).suffices(&config).unwrap_err();
        let problem = "1073741824 bytes, and this process may have 3000000 for everything";
        assert_eq!(fault.faults[0].problem, problem);
        assert!(fault.faults[0].expected.contains("1000000"));
    }
}
