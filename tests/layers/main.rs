//! The architecture: which module may import which, where raft-rs, the generated code, sockets, clocks and
//! randomness may be used, that no files import one another in a circle, and that the table of errors is whole.
//!
//! The sources are parsed, so a comment, a string or a link in the documentation is no import, and a
//! name counts as the path that it stands for: after `use std::time`, `time::Instant` is a clock, and
//! after `use crate::proto::raft`, `raft::Entry` is not raft-rs. Code under `cfg(test)` may import
//! anything.

#![cfg(test)]

mod circles;
mod errors;
mod uses;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::sync::LazyLock;

use uses::{Source, Uses, root, sources};

/// The modules and what each may import of ours: the table of `docs/ARCHITECTURE.md`.
static ARROWS: LazyLock<Vec<(String, Vec<String>)>> = LazyLock::new(|| {
    let path = root().join("docs/ARCHITECTURE.md");
    let page = fs::read_to_string(path).expect("docs/ARCHITECTURE.md");
    table(&page)
});

/// The rows of the table of modules: ``| `name` | its task | what, it, may, import |``.
fn table(page: &str) -> Vec<(String, Vec<String>)> {
    let lines = page
        .lines()
        .skip_while(|line| !line.starts_with("| module |"));
    let rows = lines.skip(2).take_while(|line| line.starts_with('|'));
    rows.map(|row| {
        let cells: Vec<_> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [module, _, arrows] = cells[..] else {
            panic!("not three cells: {row}");
        };
        let arrows = match arrows {
            "nothing of ours" => Vec::new(),
            arrows => arrows.split(", ").map(str::to_owned).collect(),
        };
        (module.trim_matches('`').to_owned(), arrows)
    })
    .collect()
}

/// Paths of other crates that only some modules may use.
const RESERVED: &[Reserved] = &[
    Reserved {
        what: "raft-rs",
        paths: &["raft", "raft_proto", "protobuf"],
        allowed: Allowed::Only(&["wire", "node"]),
    },
    Reserved {
        what: "the generated code",
        paths: &["seshat_proto"],
        allowed: Allowed::Only(&["proto"]),
    },
    Reserved {
        what: "async, sockets, clocks, randomness or threads",
        paths: &[
            "tokio",
            "tokio_stream",
            "tonic",
            "futures_util",
            "rand",
            "std::net::*",
            "std::net::TcpListener",
            "std::net::TcpStream",
            "std::net::ToSocketAddrs",
            "std::net::UdpSocket",
            "std::thread",
            "std::time::*",
            "std::time::Instant",
            "std::time::SystemTime::now",
        ],
        allowed: Allowed::NotIn(&["types", "error", "config", "kv", "wire", "cluster", "node"]),
    },
];

/// Lines that a file may have without its tests. 400 is the aim.
const MAX_LINES: usize = 450;

struct Reserved {
    what: &'static str,
    paths: &'static [&'static str],
    allowed: Allowed,
}

enum Allowed {
    Only(&'static [&'static str]),
    NotIn(&'static [&'static str]),
}

impl Allowed {
    fn contains(&self, module: &str) -> bool {
        match self {
            Self::Only(modules) => modules.contains(&module),
            Self::NotIn(modules) => !modules.contains(&module),
        }
    }
}

impl Source {
    /// The violations in the file.
    fn faults(&self) -> Vec<String> {
        let Some(row) = self.row() else {
            return Vec::new();
        };
        let Some((_, arrows)) = ARROWS.iter().find(|(module, _)| module == row) else {
            return vec![format!(
                "{}: the module {row} has no row in the table of docs/ARCHITECTURE.md",
                self.name
            )];
        };
        let uses = Uses::of(self);
        let mut faults: Vec<String> = Vec::new();
        // A file is reported once, at the first use: that is the import.
        let mut tell = |line: usize, fault: String| {
            if !faults.iter().any(|told| told.ends_with(&fault)) {
                faults.push(format!("{}:{line}: {fault}", self.name));
            }
        };
        for (path, line) in uses.resolved() {
            if let [krate, module, ..] = path.as_slice()
                && krate == "crate"
                && module != row
                && ARROWS.iter().any(|(known, _)| known == module)
                && !arrows.contains(module)
            {
                tell(line, format!("{row} may not import {module}"));
            }
            let path = path.join("::");
            for reserved in RESERVED {
                let used = |prefix: &&str| {
                    path.strip_prefix(*prefix)
                        .is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
                };
                if reserved.paths.iter().any(used) && !reserved.allowed.contains(row) {
                    tell(
                        line,
                        format!("{row} may not use {} ({path})", reserved.what),
                    );
                }
            }
        }
        for line in &uses.sums {
            let fault = "adding to a clock may panic: crate::deadline does not";
            tell(*line, fault.to_owned());
        }
        let lines = self.code.lines().count().saturating_sub(uses.test_lines);
        if lines > MAX_LINES {
            faults.push(format!("{}: {lines} lines without tests", self.name));
        }
        faults
    }
}

fn all_sources() -> Vec<Source> {
    let roots = ["src/lib.rs", "src/main.rs"];
    let sources = roots.map(|it| sources(&root().join(it), Vec::new()));
    sources.into_iter().flatten().collect()
}

#[test]
fn the_code_keeps_to_the_table_of_modules() {
    let sources = all_sources();
    let faults: Vec<_> = sources.iter().flat_map(Source::faults).collect();
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

/// The table must match the code, in both directions.
#[test]
fn the_table_of_modules_has_no_row_and_no_arrow_too_many() {
    let mut imports = BTreeMap::new();
    for source in all_sources() {
        let Some(row) = source.row() else { continue };
        let seen: &mut BTreeSet<String> = imports.entry(row.to_owned()).or_default();
        let paths = Uses::of(&source)
            .resolved()
            .map(|(path, _)| path)
            .collect::<Vec<_>>();
        seen.extend(paths.into_iter().filter_map(|path| match path.as_slice() {
            [krate, module, ..] if krate == "crate" => Some(module.clone()),
            _ => None,
        }));
    }
    for (module, arrows) in ARROWS.iter() {
        let Some(seen) = imports.get(module) else {
            panic!("docs/ARCHITECTURE.md: there is no module {module}");
        };
        for arrow in arrows {
            assert!(
                seen.contains(arrow),
                "docs/ARCHITECTURE.md: {module} does not import {arrow}"
            );
        }
    }
}

#[test]
fn no_files_import_one_another_in_a_circle() {
    let circles = circles::circles(&all_sources());
    assert!(circles.is_empty(), "\n{}\n", circles.join("\n"));
}

/// The violations in `code` as a file of `module`.
fn faults(module: &str, code: &str) -> Vec<String> {
    let source = Source {
        name: format!("src/{}.rs", module.replace("::", "/")),
        module: module.split("::").map(str::to_owned).collect(),
        code: code.to_owned(),
    };
    source.faults()
}

#[test]
fn a_broken_arrow_is_refused_however_it_is_written() {
    for code in [
        "use crate::driver::DriverHandle;",
        "use crate::{driver, types};",
        "use crate::driver as below;",
        "use super::super::driver::DriverHandle;",
        "pub use seshat::driver::*;",
        "fn f() { crate::driver::run() }",
        "fn f(handle: &crate::driver::DriverHandle) {}",
        "impl crate::driver::Network for N {}",
        "fn f() { println!(\"{}\", [crate::driver::LIMIT]) }",
        "#[derive(crate::driver::Derive)] struct S;",
        "mod inner { use super::super::super::driver::DriverHandle; }",
        "use crate as seat; fn f() { seat::driver::run() }",
    ] {
        let faults = faults("node::replica", code);
        let expected = "src/node/replica.rs:1: node may not import driver";
        assert_eq!(faults, [expected], "{code}");
    }
}

#[test]
fn a_reserved_path_is_refused_in_other_modules() {
    for (module, code) in [
        ("service::kv", "use raft::eraftpb::Entry;"),
        ("driver", "fn f() -> ::raft::Config { todo!() }"),
        ("transport", "use protobuf::Message as _;"),
        ("service", "use seshat_proto::kv;"),
        ("node", "use std::time::{Duration, Instant};"),
        ("node", "use std::time; fn f() { time::Instant::now(); }"),
        (
            "types",
            "use std::time::SystemTime; fn f() { SystemTime::now(); }",
        ),
        (
            "types",
            "use std::time::SystemTime as T; fn f() { g!(T::now()); }",
        ),
        ("kv", "#[tokio::main] async fn f() {}"),
        ("wire::raft", "fn f() { tokio::select! {} }"),
        ("config", "use std::net::{IpAddr, TcpStream};"),
        ("node", "fn f() { std::thread::yield_now() }"),
        ("error", "impl From<tonic::Status> for Refusal {}"),
    ] {
        let faults = faults(module, code);
        assert!(
            faults.iter().any(|fault| fault.contains("may not use")),
            "{code}: {faults:?}"
        );
    }
}

#[test]
fn a_sum_that_a_clock_may_not_hold_is_refused() {
    for (code, refused) in [
        ("fn f() { sleep_until(Instant::now() + wait) }", true),
        (
            "fn f() { let end = tokio::time::Instant::now() + wait; }",
            true,
        ),
        ("fn f() { let left = end - Instant::now(); }", false),
        ("fn f() { Instant::now().checked_add(wait) }", false),
        (
            "#[cfg(test)] mod tests { fn f() { Instant::now() + wait } }",
            false,
        ),
    ] {
        let faults = faults("client", code);
        assert_eq!(
            faults.iter().any(|it| it.contains("may panic")),
            refused,
            "{code}"
        );
    }
}

#[test]
fn text_that_is_no_import_is_not_refused() {
    for (module, code) in [
        (
            "node",
            "//! See [`driver`](crate::driver).\n/// As crate::driver::run.\nfn f() {}",
        ),
        (
            "node",
            "// use crate::driver;\n/* use tokio; */ fn f() { g(\"crate::driver\") }",
        ),
        (
            "node",
            "#[cfg(test)] mod tests { use crate::driver; use tokio::time; }",
        ),
        (
            "node",
            "use crate::kv::{Command, StateMachine}; use super::Output; use raft::RawNode;",
        ),
        (
            "transport",
            "use crate::proto::raft; fn f() -> raft::Entry { raft::Entry::default() }",
        ),
        (
            "service",
            "mod raft; use self::raft::Request; fn f() { raft::run() }",
        ),
        (
            "service",
            "fn f(raft: Node) { raft.tick(); crate::driver::run() }",
        ),
        (
            "types",
            "use std::time::SystemTime; struct S { at: Option<SystemTime> }",
        ),
        ("config", "use std::net::IpAddr; use std::time::Duration;"),
        (
            "server",
            "use crate::{driver, node, service}; use tokio::net::TcpListener;",
        ),
    ] {
        assert_eq!(faults(module, code), [""; 0], "{code}");
    }
}

#[test]
fn a_module_without_a_row_and_a_long_file_are_refused() {
    assert_eq!(
        faults("cache", ""),
        ["src/cache.rs: the module cache has no row in the table of docs/ARCHITECTURE.md"]
    );
    let long = "fn f() {}\n".repeat(MAX_LINES + 1);
    assert_eq!(
        faults("node", &long),
        ["src/node.rs: 451 lines without tests"]
    );
    let tested = format!("fn f() {{}}\n#[cfg(test)]\nmod tests {{\n{long}}}\n");
    assert_eq!(faults("node", &tested), [""; 0]);
}
