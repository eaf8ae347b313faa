//! The runner finds what is wrong with a client, and does not hang with it.

use std::path::Path;
use std::process::{Command, Output};

/// Runs the cases that begin with `case` with a client that is wrong so.
fn run(wrong: &str, case: &str, more: &[&str]) -> Output {
    let runner = env!("CARGO_BIN_EXE_conformance");
    let client = env!("CARGO_BIN_EXE_conformance-wrong");
    let mut command = Command::new(runner);
    let command = command
        .args(["--client", client, "--case", case])
        .args(more);
    command
        .env("WRONG", wrong)
        .output()
        .expect("the runner runs")
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Asserts that exactly this case of those that begin with `case` fails.
fn fails(wrong: &str, case: &str, named: &str) {
    let output = run(wrong, case, &[]);
    let text = text(&output);
    assert_eq!(output.status.code(), Some(1), "{wrong}: {text}");
    let failed: Vec<_> = text
        .lines()
        .filter_map(|line| line.strip_prefix("  failed: "))
        .collect();
    assert_eq!(failed, [named], "{wrong}: {text}");
}

#[test]
fn a_right_client_passes() {
    let output = run("", "basics/", &[]);
    assert!(output.status.success(), "{}", text(&output));
}

#[test]
fn a_client_that_is_wrong_fails_the_case_of_its_promise() {
    fails("repeats", "doubt/once_not", "doubt/once_not_applied");
    fails("repeats", "doubt/garbage", "doubt/garbage");
    fails("knows no doubt", "doubt/unspecified", "doubt/unspecified");
    fails("knows no empty value", "basics/", "basics/empty_value");
    fails("rounds", "basics/large_n", "basics/large_numbers");
    fails("loses the last", "scan/parts", "scan/parts");
}

#[test]
fn a_program_that_breaks_the_protocol_fails_its_case_and_not_the_run() {
    fails(
        "answers twice",
        "golden/seshat.kv.v1.Shutting",
        "golden/seshat.kv.v1.ShuttingDown",
    );
    let output = run("ends", "leader/hint", &["--jobs", "1"]);
    let text = text(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    // Each of these sets a key, and each has a program of its own after the end of the one before.
    assert!(text.contains("the program has ended"), "{text}");
    assert!(text.contains("FAILED  leader/hint_loop"), "{text}");
}

#[test]
fn a_program_that_hangs_fails_its_case_with_what_is_outstanding() {
    let cases = tempfile::tempdir().expect("a directory");
    let case = "about = \"It hangs.\"\nnodes.a = \"leader\"\n\
        [[step]]\nconnect = { client = \"c\", endpoints = [\"a\"] }\n\
        [[step]]\nset = { client = \"c\", key = \"k\", value = \"v\" }\nas = \"x\"\n\
        [[step]]\nawait = \"x\"\nwithin = \"1s\"\n";
    std::fs::create_dir(cases.path().join("a")).expect("a directory");
    std::fs::write(cases.path().join("a/hangs.toml"), case).expect("a file");
    let directory = cases.path().to_string_lossy();
    let output = run("hangs", "a/", &["--cases", &directory]);
    let text = text(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("step 3: it is not done within 1s"), "{text}");
    assert!(text.contains("outstanding: x: Request"), "{text}");
}

#[test]
fn a_known_failure_may_fail_and_must_not_pass() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    let known = |lines: &str| {
        std::fs::write(file.path(), lines).expect("a file");
        file.path().to_string_lossy().into_owned()
    };
    let listed = known("basics/empty_value: it knows none\n");
    let listed = ["--known-failures", &listed];
    let output = run("knows no empty value", "basics/empty", &listed);
    assert!(output.status.success(), "{}", text(&output));
    let output = run("", "basics/empty", &listed);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    let unknown = known("basics/nothing: there is no such case\n");
    let output = run("", "basics/empty", &["--known-failures", &unknown]);
    assert_eq!(output.status.code(), Some(2), "{}", text(&output));
}

#[test]
fn a_faulty_case_is_named() {
    let cases = tempfile::tempdir().expect("a directory");
    let area = cases.path().join("a");
    std::fs::create_dir(&area).expect("a directory");
    for (case, fault) in [
        (
            "about = \"x\"\nstep = []\n",
            "a case has made-up nodes, or a cluster",
        ),
        (
            "about = \"x\"\ncluster = true\n[[step]]\njump = 7\n",
            "step 1: jump: there is no such action",
        ),
        (
            "about = \"x\"\ncluster = true\n[[step]]\nkill = \"n1\"\nstop = \"n2\"\n",
            "and not both",
        ),
        ("about = \"x\"\nnodes.a = \"king\"\nstep = []\n", "a/c.toml"),
    ] {
        std::fs::write(area.join("c.toml"), case).expect("a file");
        let output = run("", "a/", &["--cases", &cases.path().to_string_lossy()]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(fault), "{said}");
    }
}

#[test]
fn every_case_is_listed_with_its_promise() {
    let output = Command::new(env!("CARGO_BIN_EXE_conformance"))
        .arg("--list")
        .output()
        .expect("it runs");
    assert!(output.status.success());
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("cases");
    for area in std::fs::read_dir(cases)
        .expect("areas")
        .map(|it| it.expect("an area").path())
    {
        let Ok(files) = std::fs::read_dir(&area) else {
            continue;
        };
        for file in files.map(|it| it.expect("a case").path()) {
            let name = format!(
                "{}/{} ",
                area.file_name().expect("a name").to_string_lossy(),
                file.file_stem().expect("a name").to_string_lossy(),
            );
            assert!(
                text(&output).lines().any(|line| line.starts_with(&name)),
                "{name}"
            );
        }
    }
}
