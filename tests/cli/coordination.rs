//! The commands of the page about coordination, run one after the other on a cluster.

use std::collections::HashMap;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use super::cluster::{Dev, Running};
use super::{client, ran};

const PAGE: &str = include_str!("../../docs/COORDINATION.md");

#[test]
fn the_page_shows_the_job_as_it_is_tested() {
    let job = include_str!("../../docs/examples/nightly.sh");
    assert!(PAGE.contains(&format!("```sh\n{job}```\n")));
}

/// The script for a program that reads files, with directories of the test.
#[test]
fn a_program_that_reads_files_follows_its_configuration() {
    let dev = Dev::start();
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("follows");
    let [files, programs] = ["files", "programs"].map(|name| directory.join(name));
    let _ = std::fs::remove_dir_all(&directory);
    std::fs::create_dir_all(&files).unwrap();
    std::fs::create_dir_all(&programs).unwrap();
    let app = programs.join("app");
    std::fs::write(&app, "#!/bin/sh\necho $1 >> ${0%/*}/log\n").unwrap();
    std::fs::set_permissions(&app, Permissions::from_mode(0o700)).unwrap();
    let seshat = |args: &[&str]| client(&dev.endpoints(), args);
    seshat(&["set", "config/limits", "rate=10 burst=20"]).ok();
    seshat(&["set", "config/mode", "a"]).ok();

    let script = PAGE.split("```sh\n").nth(1).unwrap();
    let script = script.split("```").next().unwrap();
    assert_eq!(script.matches("/etc/app/").count(), 1);
    let script = script.replace("/etc/app/", &format!("{}/", files.display()));
    let path = format!("{}:{}", programs.display(), path());
    let mut sh = std::process::Command::new("sh");
    sh.args(["-c", &format!("exec {script}")]);
    sh.env("PATH", path)
        .env("SESHAT_ENDPOINTS", dev.endpoints());
    let _watch = Running::start(sh);
    let has = |name: &str, value: Option<&str>| {
        let file = files.join(name);
        let begun = Instant::now();
        while std::fs::read_to_string(&file).ok().as_deref() != value {
            assert!(
                begun.elapsed() < Duration::from_secs(60),
                "{name}: not {value:?}"
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    };
    has("limits", Some("rate=10 burst=20"));
    has("mode", Some("a"));
    seshat(&["set", "config/mode", "b"]).ok();
    has("mode", Some("b"));
    seshat(&["del", "config/limits"]).ok();
    has("limits", None);
    seshat(&["set", "config/last", ""]).ok();
    has("last", Some(""));
    // The command of the last change may not have ended.
    let log = std::fs::read_to_string(programs.join("log")).unwrap();
    assert!(log.starts_with(&"reload\n".repeat(4)), "{log}");
}

/// The search path with the tested program.
fn path() -> String {
    let programs = Path::new(env!("CARGO_BIN_EXE_seshat")).parent().unwrap();
    format!("{}:{}", programs.display(), std::env::var("PATH").unwrap())
}

/// A command of the page, and what the page says that it prints.
struct Step {
    command: String,
    output: String,
}

/// The commands in the console blocks of the page: `$ ` begins one, `> ` continues it, and so do the lines
/// of a here-document.
fn steps() -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    for block in PAGE.split("```console\n").skip(1) {
        let mut in_document = false;
        for line in block.split("```").next().unwrap().lines() {
            if let Some(command) = line.strip_prefix("$ ") {
                in_document = command.ends_with("<<END");
                steps.push(Step {
                    command: format!("{command}\n"),
                    output: String::new(),
                });
                continue;
            }
            let step = steps.last_mut().unwrap();
            let continued = line.strip_prefix("> ").or(in_document.then_some(line));
            match continued {
                Some(line) => step.command += &format!("{line}\n"),
                None => step.output += &format!("{line}\n"),
            }
            in_document &= line != "END";
        }
    }
    steps
}

/// `text` in parts: its numbers, and what is between them.
fn parts(text: &str) -> impl Iterator<Item = &str> {
    let same = |a: &u8, b: &u8| a.is_ascii_digit() == b.is_ascii_digit();
    let chunks = text.as_bytes().chunk_by(same);
    chunks.map(|it| str::from_utf8(it).unwrap())
}

/// Whether a part is a revision of the page: these have 16 digits.
fn is_revision(part: &str) -> bool {
    part.len() == 16 && part.bytes().all(|it| it.is_ascii_digit())
}

#[test]
fn the_page_about_coordination_tells_what_its_commands_do() {
    let dev = Dev::start();
    // The revisions of the page, and what they stand for in this cluster.
    let mut revisions: HashMap<String, String> = HashMap::new();
    let mut code = 0;
    let steps = steps();
    assert!(steps.len() > 10, "{} commands", steps.len());
    for Step { command, output } in &steps {
        let command: String = parts(command)
            .map(|part| revisions.get(part).map_or(part, String::as_str))
            .collect();
        // All the time that a busy machine may need, and the code of the command before.
        let script = format!(
            "seshat() {{ command seshat \"$@\" --timeout 60s; }}\n(exit {code})\n{command}"
        );
        let mut sh = std::process::Command::new("sh");
        sh.env("PATH", path())
            .env("SESHAT_ENDPOINTS", dev.endpoints());
        let ran = ran(sh.args(["-c", &script]).output().unwrap());
        code = ran.code;
        assert_eq!(ran.stderr, "", "{command}");
        let mut printed = parts(&ran.stdout);
        let expected: String = parts(output)
            .map(|part| match (is_revision(part), printed.next()) {
                (true, Some(printed)) => {
                    let printed = || printed.to_owned();
                    revisions
                        .entry(part.to_owned())
                        .or_insert_with(printed)
                        .clone()
                }
                _ => part.to_owned(),
            })
            .collect();
        // After a value there is an end of line only on a terminal.
        assert_eq!(ran.stdout.trim_end(), expected.trim_end(), "{command}");
    }
}
