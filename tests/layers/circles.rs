//! Files that import one another in a circle.
//!
//! A name counts as an import of the file that defines it, even through re-exports. A module and the
//! modules inside of it are one unit, so imports between them do not count.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::uses::{Source, Uses};

/// Each circle, with the names that tie it.
pub(crate) fn circles(sources: &[Source]) -> Vec<String> {
    let arrows = arrows(sources);
    let reach: Vec<_> = (0..sources.len())
        .map(|file| reached(&arrows, file))
        .collect();
    let mut told: BTreeSet<usize> = BTreeSet::new();
    let mut circles = Vec::new();
    for file in 0..sources.len() {
        if !reach[file].contains(&file) || told.contains(&file) {
            continue;
        }
        let mut circle = format!("{}: a circle of imports:", sources[file].name);
        let round: Vec<_> = reach[file]
            .iter()
            .copied()
            .filter(|it| reach[*it].contains(&file))
            .collect();
        for (from, to) in round
            .iter()
            .flat_map(|from| round.iter().map(move |to| (from, to)))
        {
            if let Some(names) = arrows.get(from).and_then(|files| files.get(to)) {
                let names: Vec<_> = names.iter().map(String::as_str).collect();
                let (from, to) = (&sources[*from].name, &sources[*to].name);
                circle += &format!("\n  {from} takes {} from {to}", names.join(", "));
            }
        }
        told.extend(round);
        circles.push(circle);
    }
    circles
}

/// The names that each file imports from each other one.
type Arrows = BTreeMap<usize, BTreeMap<usize, BTreeSet<String>>>;

fn arrows(sources: &[Source]) -> Arrows {
    let files: HashMap<&[String], usize> = (0..)
        .zip(sources)
        .filter(|(_, source)| !source.module.is_empty())
        .map(|(file, source)| (source.module.as_slice(), file))
        .collect();
    let uses: Vec<_> = sources.iter().map(Uses::of).collect();
    let mut arrows = Arrows::new();
    for (from, source) in sources.iter().enumerate() {
        for (path, _) in uses[from].resolved() {
            let Some((to, name)) = definition(&path, &files, &uses) else {
                continue;
            };
            let (one, other) = (&source.module, &sources[to].module);
            if !one.starts_with(other) && !other.starts_with(one) {
                let names = arrows.entry(from).or_default().entry(to).or_default();
                names.insert(name);
            }
        }
    }
    arrows
}

/// The file that defines what `path` names, and the name there.
fn definition(
    path: &[String],
    files: &HashMap<&[String], usize>,
    uses: &[Uses],
) -> Option<(usize, String)> {
    let mut path = path.to_vec();
    // Re-exports may follow one another.
    for _ in 0..8 {
        let [krate, inside @ ..] = path.as_slice() else {
            return None;
        };
        if krate != "crate" {
            return None;
        }
        let (length, file) = (1..=inside.len())
            .rev()
            .find_map(|length| Some((length, *files.get(&inside[..length])?)))?;
        let name = inside.get(length).cloned().unwrap_or_default();
        let Some(meaning) = uses[file].names.get(&name) else {
            return Some((file, name));
        };
        let rest = inside.get(length + 1..).unwrap_or_default();
        let next: Vec<_> = meaning.iter().chain(rest).cloned().collect();
        if next == path {
            return Some((file, name));
        }
        path = next;
    }
    None
}

/// All files that `file` imports, and those import.
fn reached(arrows: &Arrows, file: usize) -> BTreeSet<usize> {
    let mut reached = BTreeSet::new();
    let mut open = vec![file];
    while let Some(from) = open.pop() {
        for to in arrows.get(&from).into_iter().flat_map(BTreeMap::keys) {
            if reached.insert(*to) {
                open.push(*to);
            }
        }
    }
    reached
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(module: &str, code: &str) -> Source {
        Source {
            name: format!("src/{}.rs", module.replace("::", "/")),
            module: module.split("::").map(str::to_owned).collect(),
            code: code.to_owned(),
        }
    }

    #[test]
    fn a_circle_is_found_behind_a_module_that_hands_names_on() {
        let face = source(
            "room",
            "mod a; mod b; pub use a::A; pub(super) use self::b::{B, C};",
        );
        let a = source("room::a", "use super::B; pub struct A(B);");
        let b = source(
            "room::b",
            "pub struct B; fn f() -> super::A { crate::room::a::A(B) }",
        );
        let other = source("other", "use crate::room::A;");
        assert_eq!(
            circles(&[face, a, b, other]),
            ["src/room/a.rs: a circle of imports:\
              \n  src/room/a.rs takes B from src/room/b.rs\
              \n  src/room/b.rs takes A from src/room/a.rs"]
        );
    }

    #[test]
    fn a_module_and_what_it_is_made_of_are_no_circle() {
        let face = source("room", "mod a; mod b; pub struct R; fn f() { a::f() }");
        let a = source(
            "room::a",
            "use super::R; pub fn f() {} fn g() { super::b::f() }",
        );
        let b = source(
            "room::b",
            "pub fn f() {} #[cfg(test)] mod tests { use crate::room::a; }",
        );
        assert_eq!(circles(&[face, a, b]), [""; 0]);
    }
}
