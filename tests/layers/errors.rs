//! The table of errors in `src/error.rs`, compared with the errors in the code.

use std::collections::BTreeSet;
use std::fs;

use syn::{Attribute, Item};

use crate::all_sources;
use crate::uses::{Source, attributes, is_test, root};

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

/// The rows of the table in `text`: each error that a row names, with the module in the row.
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
    let there: BTreeSet<_> = all_sources().iter().flat_map(errors).collect();
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
