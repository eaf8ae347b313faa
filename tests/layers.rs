//! The arrows of the house: which module may import which, and where raft-rs, the generated code,
//! sockets, clocks and randomness may be used; and the table of every error, against the errors there are.
//!
//! The sources are parsed, so a comment, a string or a link in the documentation is no import, and a
//! name counts as what it stands for: after `use std::time`, `time::Instant` is a clock, and after
//! `use crate::proto::raft`, `raft::Entry` is not raft-rs. Code under `cfg(test)` may import what it
//! likes.

#![cfg(test)]

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

use proc_macro2::{Span, TokenStream, TokenTree};
use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use syn::{Attribute, BinOp, Expr, Item, Meta, UseTree};

/// Each module and what it may import of ours. Types and errors are at the bottom, the server and
/// the commands at the top, and nothing points upwards.
const ARROWS: &[(&str, &[&str])] = &[
    ("types", &[]),
    ("address", &[]),
    ("deadline", &[]),
    ("traceparent", &[]),
    ("error", &["types"]),
    ("proto", &[]),
    ("log", &[]),
    ("config", &["types", "address", "log"]),
    ("kv", &["types"]),
    ("wire", &["proto", "types", "error", "kv"]),
    ("cluster", &["types", "error"]),
    ("node", &["types", "error", "kv", "wire", "cluster"]),
    (
        "driver",
        &["log", "types", "error", "kv", "cluster", "node"],
    ),
    (
        "transport",
        &[
            "deadline", "log", "proto", "types", "error", "wire", "driver",
        ],
    ),
    ("client", &["deadline", "traceparent", "proto", "error"]),
    (
        "service",
        &[
            "deadline",
            "traceparent",
            "proto",
            "types",
            "address",
            "error",
            "kv",
            "wire",
            "cluster",
            "driver",
        ],
    ),
    (
        "server",
        &[
            "deadline",
            "types",
            "error",
            "proto",
            "log",
            "config",
            "kv",
            "wire",
            "cluster",
            "node",
            "driver",
            "transport",
            "service",
        ],
    ),
    (
        "cli",
        &["client", "config", "server", "proto", "types", "log"],
    ),
    (
        "main",
        &["cli", "config", "server", "proto", "types", "log"],
    ),
];

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

/// A source file and where its module stands in the crate; the crate's root stands nowhere.
struct Source {
    name: String,
    module: Vec<String>,
    code: String,
}

impl Source {
    /// The module of [`ARROWS`] that the file belongs to; none for the root of the library, which
    /// only says what there is.
    fn row(&self) -> Option<&str> {
        match self.module.first() {
            Some(module) => Some(module),
            None => self.name.ends_with("main.rs").then_some("main"),
        }
    }

    /// What is wrong with the file.
    fn faults(&self) -> Vec<String> {
        let Some(row) = self.row() else {
            return Vec::new();
        };
        let Some((_, arrows)) = ARROWS.iter().find(|(module, _)| *module == row) else {
            return vec![format!("{}: the module {row} has no arrows", self.name)];
        };
        let uses = Uses::of(self);
        let mut faults: Vec<String> = Vec::new();
        // A file is told once, where the first use is: that is the import.
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
                && !arrows.contains(&module.as_str())
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

/// Every path in a file's code, and what its names stand for.
#[derive(Default)]
struct Uses {
    module: Vec<String>,
    /// What a name at the beginning of a path stands for in this file.
    names: HashMap<String, Vec<String>>,
    paths: Vec<(Vec<String>, usize)>,
    /// Lines that add something to `Instant::now()`.
    sums: Vec<usize>,
    test_lines: usize,
}

impl Uses {
    fn of(source: &Source) -> Self {
        let mut uses = Self {
            module: source.module.clone(),
            ..Self::default()
        };
        let file = syn::parse_file(&source.code).expect(&source.name);
        uses.visit_file(&file);
        uses
    }

    /// The paths, from the crate's root or from the name of another crate on.
    fn resolved(&self) -> impl Iterator<Item = (Vec<String>, usize)> {
        self.paths.iter().map(|(path, line)| {
            let mut path = path.clone();
            // A name may stand for a path that begins with another name.
            for _ in 0..4 {
                let meaning = path.first().and_then(|first| self.names.get(first));
                let Some(meaning) = meaning.filter(|meaning| meaning.first() != path.first())
                else {
                    break;
                };
                path.splice(..1, meaning.iter().cloned());
            }
            (path, *line)
        })
    }

    /// A path with `self`, `super` and the library's own name written out.
    fn absolute(&self, path: Vec<String>) -> Vec<String> {
        let from_root = |module: &[String]| {
            let root = std::iter::once("crate".to_owned());
            root.chain(module.iter().cloned()).collect::<Vec<_>>()
        };
        let supers = path
            .iter()
            .take_while(|segment| *segment == "super")
            .count();
        let (mut absolute, rest) = match path.first().map(String::as_str) {
            Some("self") => (from_root(&self.module), 1),
            Some("super") => {
                let depth = self.module.len().saturating_sub(supers);
                (from_root(&self.module[..depth]), supers)
            }
            Some("seshat") => (from_root(&[]), 1),
            _ => (Vec::new(), 0),
        };
        absolute.extend_from_slice(&path[rest..]);
        absolute
    }

    fn add(&mut self, path: Vec<String>, span: Span) {
        let path = self.absolute(path);
        self.paths.push((path, span.start().line));
    }

    /// A leaf of a `use` imports `path` under `name`.
    fn import(&mut self, mut path: Vec<String>, name: &str, span: Span) {
        if path.last().is_some_and(|last| last == "self") {
            path.pop();
        }
        let name = match (name, path.last()) {
            ("self", Some(last)) => last.clone(),
            (name, _) => name.to_owned(),
        };
        let meaning = self.absolute(path.clone());
        self.names.insert(name, meaning);
        self.add(path, span);
    }

    fn use_tree(&mut self, tree: &UseTree, mut prefix: Vec<String>) {
        match tree {
            UseTree::Path(path) => {
                prefix.push(path.ident.to_string());
                self.use_tree(&path.tree, prefix);
            }
            UseTree::Name(name) => {
                let ident = name.ident.to_string();
                prefix.push(ident.clone());
                self.import(prefix, &ident, name.ident.span());
            }
            UseTree::Rename(rename) => {
                prefix.push(rename.ident.to_string());
                self.import(prefix, &rename.rename.to_string(), rename.ident.span());
            }
            UseTree::Glob(glob) => {
                prefix.push("*".to_owned());
                self.add(prefix, glob.span());
            }
            UseTree::Group(group) => {
                for tree in &group.items {
                    self.use_tree(tree, prefix.clone());
                }
            }
        }
    }
}

impl<'ast> Visit<'ast> for Uses {
    fn visit_item(&mut self, item: &'ast Item) {
        if is_test(attributes(item)) {
            let span = item.span();
            self.test_lines += span.end().line + 1 - span.start().line;
            return;
        }
        match item {
            Item::Use(item) => self.use_tree(&item.tree, Vec::new()),
            Item::Mod(item) => {
                let name = item.ident.to_string();
                let meaning = self.absolute(vec!["self".to_owned(), name.clone()]);
                self.names.insert(name.clone(), meaning);
                self.module.push(name);
                visit::visit_item_mod(self, item);
                self.module.pop();
            }
            item => visit::visit_item(self, item),
        }
    }

    /// A path of one segment is a name that was imported, or a local one.
    fn visit_path(&mut self, path: &'ast syn::Path) {
        if path.segments.len() > 1 {
            let segments = path
                .segments
                .iter()
                .map(|segment| segment.ident.to_string());
            self.add(segments.collect(), path.span());
        }
        visit::visit_path(self, path);
    }

    fn visit_expr_binary(&mut self, sum: &'ast syn::ExprBinary) {
        if matches!(sum.op, BinOp::Add(_))
            && let Expr::Call(call) = &*sum.left
            && let Expr::Path(path) = &*call.func
            && path
                .path
                .segments
                .iter()
                .rev()
                .map(|it| &it.ident)
                .take(2)
                .eq(["now", "Instant"])
        {
            self.sums.push(sum.span().start().line);
        }
        visit::visit_expr_binary(self, sum);
    }

    /// What stands in a macro is not parsed: whatever looks like a path in it is one.
    fn visit_token_stream(&mut self, tokens: &'ast TokenStream) {
        let mut path: Vec<String> = Vec::new();
        let mut colons = 0;
        let mut start = Span::call_site();
        for token in tokens.clone() {
            match &token {
                TokenTree::Ident(ident) if !path.is_empty() && colons == 2 => {
                    path.push(ident.to_string());
                }
                TokenTree::Punct(punct) if punct.as_char() == ':' => {
                    colons += 1;
                    continue;
                }
                token => {
                    if path.len() > 1 {
                        self.add(std::mem::take(&mut path), start);
                    }
                    path.clear();
                    if let TokenTree::Ident(ident) = token {
                        path.push(ident.to_string());
                        start = ident.span();
                    }
                    if let TokenTree::Group(group) = token {
                        self.visit_tokens(&group.stream());
                    }
                }
            }
            colons = 0;
        }
        if path.len() > 1 {
            self.add(path, start);
        }
    }
}

impl Uses {
    /// As `visit_token_stream`, for tokens that do not live as long as the file.
    fn visit_tokens(&mut self, tokens: &TokenStream) {
        let mut inner = Uses {
            module: self.module.clone(),
            ..Uses::default()
        };
        inner.visit_token_stream(tokens);
        self.paths.append(&mut inner.paths);
    }
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::ExternCrate(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::ForeignMod(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::TraitAlias(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Union(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

/// Whether an item is there in tests only.
fn is_test(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| match &attribute.meta {
        Meta::List(list) if list.path.is_ident("cfg") => list.tokens.to_string() == "test",
        _ => false,
    })
}

/// The file `path` and the files of its modules, those of tests excepted.
fn sources(path: &Path, module: Vec<String>) -> Vec<Source> {
    let code =
        fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let file = syn::parse_file(&code).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let name = path
        .strip_prefix(root())
        .unwrap_or(path)
        .display()
        .to_string();
    let stem = path
        .file_stem()
        .and_then(|stem| stem.to_str())
        .expect("a file name");
    let directory = match stem {
        "lib" | "main" | "mod" => path.parent().expect("a directory").to_owned(),
        _ => path.with_extension(""),
    };
    let mut sources = vec![Source {
        name,
        module: module.clone(),
        code,
    }];
    for item in &file.items {
        if let Item::Mod(item) = item
            && item.content.is_none()
            && !is_test(&item.attrs)
        {
            let name = item.ident.to_string();
            let flat = directory.join(format!("{name}.rs"));
            let nested = directory.join(&name).join("mod.rs");
            let mut module = module.clone();
            module.push(name);
            sources.extend(self::sources(
                if flat.exists() { &flat } else { &nested },
                module,
            ));
        }
    }
    sources
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn the_house_keeps_its_arrows() {
    let mut faults = Vec::new();
    let mut seen = Vec::new();
    for crate_root in ["src/lib.rs", "src/main.rs"] {
        for source in sources(&root().join(crate_root), Vec::new()) {
            faults.extend(source.faults());
            seen.extend(source.row().map(str::to_owned));
        }
    }
    for (module, _) in ARROWS {
        assert!(
            seen.iter().any(|seen| seen == module),
            "there is no module {module}"
        );
    }
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

/// What is wrong with `code` as a file of `module`.
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
        let faults = faults("node::member", code);
        let expected = "src/node/member.rs:1: node may not import driver";
        assert_eq!(faults, [expected], "{code}");
    }
}

#[test]
fn what_is_reserved_is_refused_elsewhere() {
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
fn what_is_no_import_is_not_refused() {
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
        ["src/cache.rs: the module cache has no arrows"]
    );
    let long = "fn f() {}\n".repeat(MAX_LINES + 1);
    assert_eq!(
        faults("node", &long),
        ["src/node.rs: 451 lines without tests"]
    );
    let tested = format!("fn f() {{}}\n#[cfg(test)]\nmod tests {{\n{long}}}\n");
    assert_eq!(faults("node", &tested), [""; 0]);
}

/// The errors of a file, each with the module that it is in.
fn errors(source: &Source) -> Vec<(String, String)> {
    let file = syn::parse_file(&source.code).expect("it was parsed before");
    let named = |item: &Item| match item {
        Item::Enum(item) => Some(item.ident.to_string()),
        Item::Struct(item) => Some(item.ident.to_string()),
        Item::Impl(item) if item.trait_.as_ref().is_some_and(|it| is_error(&it.0)) => {
            match &*item.self_ty {
                syn::Type::Path(this) => Some(this.path.segments.last()?.ident.to_string()),
                _ => None,
            }
        }
        _ => None,
    };
    let is_one = |item: &Item, name: &str| {
        matches!(item, Item::Impl(_))
            || derives_error(attributes(item))
            || ["Error", "Failure"].iter().any(|end| name.ends_with(end))
    };
    let module = source.row().unwrap_or("lib");
    let items = file.items.iter().filter(|item| !is_test(attributes(item)));
    items
        .filter_map(|item| named(item).filter(|name| is_one(item, name)))
        .map(|name| (name, module.to_owned()))
        .collect()
}

fn is_error(path: &syn::Path) -> bool {
    path.segments
        .last()
        .is_some_and(|last| last.ident == "Error")
}

fn derives_error(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let mut found = false;
        if attribute.path().is_ident("derive") {
            let _ = attribute.parse_nested_meta(|derived| {
                found |= is_error(&derived.path);
                Ok(())
            });
        }
        found
    })
}

/// The rows of the table in `text`: each error that a row names, with the module that it says.
fn table(text: &str) -> Vec<(String, String)> {
    let mut rows = Vec::new();
    for line in text.lines() {
        let cells: Vec<_> = line.split('|').map(str::trim).collect();
        let ["//!", kinds, place, _, _, ""] = cells.as_slice() else {
            continue;
        };
        let place = match *place {
            "here" => "error",
            other => other.trim_matches('`'),
        };
        // Between backticks stands every second part.
        let kinds = kinds.split('`').skip(1).step_by(2);
        rows.extend(kinds.map(|kind| (kind.to_owned(), place.to_owned())));
    }
    rows
}

#[test]
fn every_error_stands_in_the_table_of_errors() {
    let mut there = BTreeSet::new();
    for crate_root in ["src/lib.rs", "src/main.rs"] {
        for source in sources(&root().join(crate_root), Vec::new()) {
            there.extend(errors(&source));
        }
    }
    let page = fs::read_to_string(root().join("src/error.rs")).expect("src/error.rs");
    let told: BTreeSet<_> = table(&page).into_iter().collect();
    let missing: Vec<_> = there.difference(&told).collect();
    let gone: Vec<_> = told.difference(&there).collect();
    assert!(missing.is_empty(), "without a row: {missing:?}");
    assert!(gone.is_empty(), "a row of what is not there: {gone:?}");
}

#[test]
fn an_error_is_found_however_it_is_written() {
    let found = |code: &str| {
        let source = Source {
            name: "src/kv/full.rs".to_owned(),
            module: vec!["kv".to_owned(), "full".to_owned()],
            code: code.to_owned(),
        };
        errors(&source)
    };
    for code in [
        "#[derive(Debug, thiserror::Error)] enum Lost { A }",
        "#[derive(Error)] pub struct Lost;",
        "struct Lost; impl std::error::Error for Lost {}",
        "impl<T> Error for super::Lost {}",
    ] {
        assert_eq!(
            found(code),
            [("Lost".to_owned(), "kv".to_owned())],
            "{code}"
        );
    }
    assert_eq!(found("pub(crate) enum LostError {}").len(), 1);
    for code in [
        "#[derive(Debug)] struct Lost;",
        "impl From<Error> for Lost {}",
        "#[cfg(test)] mod tests { struct LostError; }",
    ] {
        assert!(found(code).is_empty(), "{code}");
    }
    let row = "//! | [`A`](crate::A), `B` | `kv` | what | then |";
    let told = ["A", "B"].map(|kind| (kind.to_owned(), "kv".to_owned()));
    assert_eq!(table(row), told);
}
