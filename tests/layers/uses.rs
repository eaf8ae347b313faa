//! The paths in a source file, and what its names stand for.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use proc_macro2::{Span, TokenStream, TokenTree};
use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use syn::{Attribute, BinOp, Expr, Item, Meta, UseTree};

/// A source file and the place of its module in the crate; the crate's root has none.
pub(crate) struct Source {
    pub(crate) name: String,
    pub(crate) module: Vec<String>,
    pub(crate) code: String,
}

impl Source {
    /// The row of the table of modules that the file belongs to; none for the root of the library, which
    /// only lists the modules.
    pub(crate) fn row(&self) -> Option<&str> {
        match self.module.first() {
            Some(module) => Some(module),
            None => self.name.ends_with("main.rs").then_some("main"),
        }
    }
}

/// Every path in a file's code, and what its names stand for.
#[derive(Default)]
pub(crate) struct Uses {
    pub(crate) module: Vec<String>,
    /// What a name at the beginning of a path stands for in this file.
    pub(crate) names: HashMap<String, Vec<String>>,
    pub(crate) paths: Vec<(Vec<String>, usize)>,
    /// Lines that add something to `Instant::now()`.
    pub(crate) sums: Vec<usize>,
    pub(crate) test_lines: usize,
}

impl Uses {
    pub(crate) fn of(source: &Source) -> Self {
        let mut uses = Self {
            module: source.module.clone(),
            ..Self::default()
        };
        let file = syn::parse_file(&source.code).expect(&source.name);
        uses.visit_file(&file);
        uses
    }

    /// The paths, from the crate's root or from the name of another crate on.
    pub(crate) fn resolved(&self) -> impl Iterator<Item = (Vec<String>, usize)> {
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

    /// The content of a macro is not parsed: everything in it that looks like a path is one.
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

pub(crate) fn attributes(item: &Item) -> &[Attribute] {
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

/// Whether an item exists in tests only.
pub(crate) fn is_test(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| match &attribute.meta {
        Meta::List(list) if list.path.is_ident("cfg") => list.tokens.to_string() == "test",
        _ => false,
    })
}

/// The file `path` and the files of its modules, those of tests excepted.
pub(crate) fn sources(path: &Path, module: Vec<String>) -> Vec<Source> {
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

pub(crate) fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}
