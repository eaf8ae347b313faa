//! Each check of `tools/proto` refuses its faults, and names the reason.
//!
//! A test breaks one thing in a copy of the tree, which is a git repository of
//! its own, and runs the gate there. All copies share the buf that the tree has
//! installed and the generator that was built for these tests.

#![allow(clippy::expect_used, reason = "a test may fail by panicking")]

mod schema;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use schema::Element;

const BASELINE: &str = "proto/baseline/v9.9.9.binpb";
const GENERATED: &str = "gen/src/kv/v1.rs";
const UNRELEASED: &str = "proto/unreleased.txt";
const SCHEMA: &str = "proto/seshat/kv/v1/kv_service.proto";

/// A copy of the files that `tools/proto` works on.
struct Tree {
    root: PathBuf,
    generator: PathBuf,
}

impl Tree {
    /// A copy in a repository without commits.
    fn uncommitted(name: &str) -> Self {
        let root = Path::new(env!("CARGO_TARGET_TMPDIR"))
            .join("gates")
            .join(name);
        if root.exists() {
            fs::remove_dir_all(&root).expect("remove the copy of the last run");
        }
        fs::create_dir_all(root.join("bin")).expect("make room for a copy");
        let tree = Self {
            root,
            generator: env!("CARGO_BIN_EXE_protoc-gen-seshat").into(),
        };

        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        for path in ["buf.yaml", "buf.gen.yaml", "proto", "gen", "tools"] {
            tree.run("cp", &["-R", &source.join(path).to_string_lossy(), "."]);
        }
        fs::create_dir_all(tree.root.join("conformance/src")).expect("make room for a copy");
        for path in ["buf.yaml", "buf.gen.yaml", "proto", "src/protocol"] {
            let path = Path::new("conformance").join(path);
            let (from, to) = (source.join(&path), path.to_string_lossy());
            tree.run("cp", &["-R", &from.to_string_lossy(), &to]);
        }
        // A buf that finds no fault: it comes first on the PATH of every check, so none may use a
        // program that it finds there.
        tree.write("bin/buf", "#!/bin/sh\n");
        fs::set_permissions(tree.root.join("bin/buf"), fs::Permissions::from_mode(0o755))
            .expect("make the false buf run");
        tree.run("git", &["init", "--quiet"]);
        tree
    }

    /// A copy with its own baseline, all committed.
    fn new(name: &str) -> Self {
        let tree = Self::uncommitted(name);
        tree.run("tools/proto", &["release", "v9.9.9"]);
        tree.commit();
        tree
    }

    fn command(&self, program: &str, args: &[&str]) -> Command {
        let path = std::env::var("PATH").expect("a PATH");
        let mut command = Command::new(program);
        command
            .args(args)
            .current_dir(&self.root)
            .env(
                "PATH",
                format!("{}:{path}", self.root.join("bin").display()),
            )
            .env("PROTOC_GEN_SESHAT", &self.generator)
            .env(
                "SESHAT_TOOLS_DIR",
                Path::new(env!("CARGO_TARGET_TMPDIR")).join("../tools"),
            )
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_NOSYSTEM", "1");
        for who in ["AUTHOR", "COMMITTER"] {
            command.env(format!("GIT_{who}_NAME"), "Test");
            command.env(format!("GIT_{who}_EMAIL"), "test@example.com");
        }
        command
    }

    /// Whether a command succeeded, and its output.
    fn outcome(&self, program: &str, args: &[&str]) -> (bool, String) {
        let output = self
            .command(program, args)
            .output()
            .expect("start a command");
        let said = [output.stdout, output.stderr].concat();
        (
            output.status.success(),
            String::from_utf8_lossy(&said).into_owned(),
        )
    }

    fn run(&self, program: &str, args: &[&str]) {
        let (passed, said) = self.outcome(program, args);
        assert!(passed, "{program} {args:?} failed:\n{said}");
    }

    fn commit(&self) {
        self.run("git", &["add", "--all"]);
        self.run("git", &["commit", "--quiet", "--message", "a change"]);
    }

    fn write(&self, path: &str, text: &str) {
        fs::write(self.root.join(path), text).expect("write a file");
    }

    /// Replaces the first `old` in a file.
    fn edit(&self, path: &str, old: &str, new: &str) {
        let text = fs::read_to_string(self.root.join(path)).expect("read a file");
        assert!(text.contains(old), "{path} does not hold {old:?}");
        self.write(path, &text.replacen(old, new, 1));
    }

    fn remove(&self, path: &str) {
        fs::remove_file(self.root.join(path)).expect("remove a file");
    }

    fn passes(&self, gate: &str) {
        let (passed, said) = self.outcome("tools/proto", &[gate]);
        assert!(passed, "{gate} refused an intact tree:\n{said}");
    }

    /// The check refuses, and its output holds every one of `reasons`.
    fn refuses(&self, gate: &str, reasons: &[&str]) {
        let said = self.refusal(gate);
        for reason in reasons {
            assert!(
                said.contains(reason),
                "{gate} did not say {reason:?} but:\n{said}"
            );
        }
    }

    /// The output of a check that refuses.
    fn refusal(&self, gate: &str) -> String {
        let (passed, said) = self.outcome("tools/proto", &[gate]);
        assert!(!passed, "{gate} passed:\n{said}");
        said
    }

    /// The content of the list of unreleased elements.
    fn unreleased(&self) -> BTreeSet<String> {
        let list = fs::read_to_string(self.root.join(UNRELEASED)).expect("read the list");
        let names = list.lines().filter(|line| !line.starts_with('#'));
        names.map(str::to_owned).collect()
    }

    /// The files of the schema, by their paths below `proto`.
    fn schema(&self) -> Vec<(String, String)> {
        let (_, paths) = self.outcome("find", &["proto", "-name", "*.proto"]);
        let read = |path: &str| fs::read_to_string(self.root.join(path)).expect("read a file");
        paths
            .lines()
            .map(|path| (path.to_owned(), read(path)))
            .collect()
    }
}

#[test]
fn an_intact_tree_passes() {
    Tree::new("intact").passes("check");
}

#[test]
fn a_tree_before_its_first_commit_passes() {
    let tree = Tree::uncommitted("uncommitted");
    tree.run("tools/proto", &["release", "v9.9.9"]);
    tree.passes("check");
}

#[test]
fn check_names_every_gate_that_failed() {
    let tree = Tree::new("check");
    tree.edit(SCHEMA, "message SetResponse {", "message  set_response {");
    tree.edit(SCHEMA, "returns (SetResponse)", "returns (set_response)");
    tree.edit(SCHEMA, "    SetResponse set", "    set_response set");
    tree.refuses(
        "check",
        &["check: failed: lint format breaking guarded fresh"],
    );
}

#[test]
fn a_lint_fault_is_refused() {
    let tree = Tree::new("lint");
    tree.edit(SCHEMA, "bool existed = 1;", "bool Existed = 1;");
    tree.refuses("lint", &[SCHEMA, "Existed", "lower_snake_case"]);
}

#[test]
fn a_missing_comment_is_refused() {
    let tree = Tree::new("comment");
    tree.edit(SCHEMA, "  // Whether the key was bound before.\n", "");
    tree.refuses("lint", &[SCHEMA, "existed", "comment"]);
}

#[test]
fn a_format_fault_is_refused() {
    let tree = Tree::new("format");
    tree.edit(SCHEMA, "  bytes key = 1;", "  bytes  key=1;");
    tree.refuses("format", &[SCHEMA, "-  bytes  key=1;", "+  bytes key = 1;"]);
    tree.run("tools/proto", &["format", "--write"]);
    tree.passes("format");
}

#[test]
fn a_removed_field_is_refused() {
    let tree = Tree::new("field");
    tree.edit(SCHEMA, "  bool existed = 1;\n", "");
    tree.refuses(
        "breaking",
        &["\"existed\" on message \"DeleteResponse\"", BASELINE],
    );
}

/// Changes every element of the schema at once. The check has to report each released one, with the change
/// that `reason` describes.
fn every_element_is_guarded(
    name: &str,
    change: impl Fn(&Element, &str) -> Option<String>,
    reason: impl Fn(&Element) -> Option<String>,
) {
    let tree = Tree::uncommitted(name);
    tree.commit();
    let (unreleased, schema) = (tree.unreleased(), tree.schema());
    for (path, text) in &schema {
        tree.write(path, &schema::rewrite(text, &change));
    }
    let said = tree.refusal("breaking");
    let mut owners = BTreeSet::new();
    for (path, text) in &schema {
        let package = path.trim_start_matches("proto/").rsplit_once('/');
        let package = package.expect("a directory").0.replace('/', ".");
        for element in schema::elements(text) {
            let full = format!("{package}.{}.{}", element.owner, element.name);
            let Some(reason) = reason(&element).filter(|_| !unreleased.contains(&full)) else {
                continue;
            };
            let told = |line: &str| line.starts_with(path.as_str()) && line.contains(&reason);
            assert!(said.lines().any(told), "{full}: {reason}:\n{said}");
            owners.insert(format!("{package}.{}", element.owner));
        }
    }
    assert!(
        owners.len() > 70,
        "only {} messages were tried",
        owners.len()
    );
}

/// A field, its name, its number and its message, as buf prints them.
fn field(element: &Element) -> Option<String> {
    let Element {
        owner,
        name,
        number,
        ..
    } = element;
    (element.scope == "message")
        .then(|| format!("ield \"{number}\" with name \"{name}\" on message \"{owner}\""))
}

/// The removal of an element, as buf prints it.
fn deleted(element: &Element) -> Option<String> {
    let Element {
        owner,
        name,
        number,
        ..
    } = element;
    match element.scope.as_str() {
        "service" => Some(format!("RPC \"{name}\" on service \"{owner}\" was deleted")),
        "enum" if *number == 0 => None,
        "enum" => Some(format!(
            "enum value \"{number}\" on enum \"{owner}\" was deleted"
        )),
        _ => field(element).map(|field| format!("f{field} was deleted")),
    }
}

#[test]
fn every_field_value_and_rpc_is_kept() {
    // An enum has to have a value 0.
    let remove =
        |element: &Element, line: &str| deleted(element).is_none().then(|| line.to_owned());
    every_element_is_guarded("kept", remove, deleted);
}

#[test]
fn every_field_and_value_keeps_its_number() {
    let numbered = |element: &Element| deleted(element).filter(|_| element.number > 0);
    let renumber = |element: &Element, line: &str| {
        let (old, new) = (element.number, element.number + 1000);
        Some(match numbered(element) {
            Some(_) => line.replace(&format!("= {old};"), &format!("= {new};")),
            None => line.to_owned(),
        })
    };
    every_element_is_guarded("numbers", renumber, numbered);
}

#[test]
fn every_field_keeps_its_type() {
    let retype = |element: &Element, line: &str| {
        let Element { kind, name, .. } = element;
        let other = if kind == "bool" { "string" } else { "bool" };
        Some(match field(element) {
            Some(_) => line.replace(&format!("{kind} {name} ="), &format!("{other} {name} =")),
            None => line.to_owned(),
        })
    };
    let reason = |element: &Element| field(element).map(|field| format!("{field} changed type"));
    every_element_is_guarded("types", retype, reason);
}

#[test]
fn an_element_that_no_baseline_guards_has_to_be_listed() {
    let tree = Tree::new("unlisted");
    let added = "bool existed = 1;\n  // Not released.\n  Added added = 7;";
    tree.edit(SCHEMA, "bool existed = 1;", added);
    let message = "\n// Not released.\nmessage Added {}\n";
    let text = fs::read_to_string(tree.root.join(SCHEMA)).expect("read the schema");
    tree.write(SCHEMA, &(text + message));
    let lines = "seshat.kv.v1.Added\nseshat.kv.v1.DeleteResponse.added\n";
    let what_to_do = format!("add to {UNRELEASED}, a line each:\n{lines}");
    tree.refuses("guarded", &["no baseline guards", &what_to_do]);

    tree.edit(UNRELEASED, "#", &format!("{lines}#"));
    tree.passes("guarded");
    tree.run("tools/proto", &["release", "v9.9.10"]);
    assert_eq!(tree.unreleased(), BTreeSet::new());
    tree.passes("guarded");
}

#[test]
fn the_list_names_what_is_not_released_and_nothing_else() {
    let tree = Tree::new("listed");
    tree.edit(UNRELEASED, "#", "seshat.kv.v1.Gone\n#");
    tree.refuses(
        "guarded",
        &["not in the schema; remove", "\nseshat.kv.v1.Gone\n"],
    );
    tree.edit(UNRELEASED, "Gone", "DeleteResponse.existed");
    tree.refuses(
        "guarded",
        &[
            "a baseline guards; remove",
            "\nseshat.kv.v1.DeleteResponse.existed\n",
        ],
    );
    tree.remove(UNRELEASED);
    tree.refuses("guarded", &["there is no proto/unreleased.txt"]);
}

#[test]
fn a_schema_that_breaks_a_release_is_not_released() {
    let tree = Tree::new("poison");
    tree.edit(SCHEMA, "bool existed = 1;", "bool existed = 1001;");
    let (passed, said) = tree.outcome("tools/proto", &["release", "v9.9.10"]);
    assert!(!passed && said.contains("\"existed\""), "{said}");
    assert!(!tree.root.join("proto/baseline/v9.9.10.binpb").exists());
}

#[test]
fn a_schema_that_does_not_compile_is_named_as_such() {
    let tree = Tree::new("compiler");
    tree.edit(SCHEMA, "bool existed = 1;", "bol existed = 1;");
    for gate in ["lint", "breaking", "guarded", "check"] {
        let said = tree.refusal(gate);
        assert!(
            said.contains("the schema does not compile"),
            "{gate}: {said}"
        );
        assert!(
            said.contains("cannot find `bol` in this scope"),
            "{gate}: {said}"
        );
        assert!(!said.contains("blind"), "{gate}: {said}");
    }
}

#[test]
fn every_baseline_counts() {
    let tree = Tree::new("every");
    tree.edit(
        SCHEMA,
        "bool existed = 1;",
        "bool existed = 1;\n  bool added = 7;",
    );
    tree.run("tools/proto", &["release", "v9.9.10"]);
    tree.edit(SCHEMA, "  bool added = 7;\n", "");
    tree.refuses("breaking", &["\"added\"", "proto/baseline/v9.9.10.binpb"]);
}

#[test]
fn an_edited_baseline_is_refused_for_ever() {
    let tree = Tree::new("edited");
    let before = fs::read(tree.root.join(BASELINE)).expect("read the baseline");
    tree.write(BASELINE, "");
    tree.refuses("breaking", &[&format!("not committed: M\t{BASELINE}")]);
    tree.commit();
    tree.refuses(
        "breaking",
        &["a baseline was edited", &format!("\nM\t{BASELINE}")],
    );
    fs::write(tree.root.join(BASELINE), before).expect("restore the baseline");
    tree.commit();
    tree.refuses(
        "breaking",
        &["a baseline was edited", &format!("\nM\t{BASELINE}")],
    );
}

#[test]
fn a_baseline_edited_in_a_merge_is_refused() {
    let tree = Tree::new("merge");
    tree.run("git", &["checkout", "--quiet", "-b", "side"]);
    tree.write("side", "");
    tree.commit();
    tree.run("git", &["checkout", "--quiet", "-"]);
    tree.run(
        "git",
        &["merge", "--quiet", "--no-ff", "--no-commit", "side"],
    );
    tree.write(BASELINE, "");
    tree.commit();
    tree.refuses(
        "breaking",
        &["a baseline was edited", &format!("\nM\t{BASELINE}")],
    );
}

#[test]
fn a_removed_baseline_is_refused_for_ever() {
    let tree = Tree::new("removed");
    tree.run("tools/proto", &["release", "v9.9.10"]);
    tree.commit();
    let before = fs::read(tree.root.join(BASELINE)).expect("read the baseline");
    tree.remove(BASELINE);
    tree.refuses("breaking", &[&format!("not committed: D\t{BASELINE}")]);
    tree.commit();
    tree.refuses("breaking", &["removed", &format!("\nD\t{BASELINE}")]);
    fs::write(tree.root.join(BASELINE), before).expect("restore the baseline");
    tree.commit();
    tree.refuses("breaking", &["removed", &format!("\nD\t{BASELINE}")]);
}

#[test]
fn a_baseline_is_never_replaced() {
    let tree = Tree::new("replaced");
    let (passed, said) = tree.outcome("tools/proto", &["release", "v9.9.9"]);
    assert!(!passed && said.contains("exists"), "{said}");
}

#[test]
fn a_tree_without_baselines_is_refused() {
    let tree = Tree::uncommitted("none");
    let baselines = tree.root.join("proto/baseline");
    if baselines.exists() {
        fs::remove_dir_all(baselines).expect("remove the baselines");
    }
    tree.refuses("breaking", &["there is no baseline"]);
    tree.commit();
    tree.refuses("breaking", &["there is no baseline"]);
}

#[test]
fn a_shallow_clone_is_refused() {
    let tree = Tree::new("shallow");
    tree.write("more", "");
    tree.commit();
    let url = format!("file://{}", tree.root.display());
    tree.run("git", &["clone", "--quiet", "--depth", "1", &url, "clone"]);
    let clone = Tree {
        root: tree.root.join("clone"),
        generator: tree.generator,
    };
    clone.refuses("breaking", &["the clone is shallow"]);
    clone.run("git", &["fetch", "--quiet", "--unshallow"]);
    clone.passes("breaking");
}

#[test]
fn a_gate_that_lets_the_canary_pass_is_refused() {
    let tree = Tree::new("canary");
    tree.edit(
        "buf.yaml",
        "    - FILE",
        "    - FILE\n  except:\n    - FIELD_NO_DELETE",
    );
    tree.refuses(
        "breaking",
        &["the gate is blind", "lost \"bytes key = 1;\""],
    );
}

#[test]
fn an_edited_generated_file_is_refused() {
    let tree = Tree::new("stale");
    tree.edit(GENERATED, "pub existed: bool", "pub existed: u8");
    tree.commit();
    tree.refuses(
        "fresh",
        &[
            "generated code above was stale",
            GENERATED,
            "-    pub existed: u8",
        ],
    );
}

#[test]
fn a_changed_schema_without_its_code_is_refused() {
    let tree = Tree::new("changed");
    tree.edit(
        SCHEMA,
        "bool existed = 1;",
        "bool existed = 1;\n  bool added = 7;",
    );
    tree.commit();
    tree.refuses(
        "fresh",
        &[
            "generated code above was stale",
            GENERATED,
            "+    pub added: bool",
        ],
    );
}

#[test]
fn a_left_over_generated_file_is_refused() {
    let tree = Tree::new("left-over");
    tree.write("gen/src/old.rs", "// no plugin makes this any more\n");
    tree.commit();
    tree.refuses(
        "fresh",
        &[
            "generated code above was stale",
            "gen/src/old.rs",
            "deleted file",
        ],
    );
}

#[test]
fn a_missing_generated_file_is_refused() {
    let tree = Tree::new("missing");
    tree.remove(GENERATED);
    tree.commit();
    tree.refuses(
        "fresh",
        &["generated code above was stale", GENERATED, "new file"],
    );
}

#[test]
fn a_generator_that_fails_is_refused() {
    let mut tree = Tree::new("generator");
    tree.generator = "false".into();
    tree.refuses("fresh", &["generate: failed"]);
}
