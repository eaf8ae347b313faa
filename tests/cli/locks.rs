//! Commands that hold locks, on a cluster.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{ChildStdin, ChildStdout, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::cluster::{Dev, Running, runs};
use super::{Ran, client, client_command, ran, with_input};

/// What a command gets to run, in a shell.
fn run<'a>(options: &[&'a str], script: &'a str) -> Vec<&'a str> {
    // All the time that a busy machine may need; and the arguments behind `--` are those of the command.
    [options, &["--timeout", "60s", "--", "sh", "-c", script]].concat()
}

/// A command that runs, with the other ends of its pipes.
struct Job {
    process: Running,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

impl Job {
    fn start(dev: &Dev, args: &[&str]) -> Self {
        let mut command = client_command(&dev.endpoints(), args);
        command.stdin(Stdio::piped());
        let mut process = Running::start(command);
        let stdin = process.0.stdin.take();
        let stdout = BufReader::new(process.0.stdout.take().unwrap());
        Self {
            process,
            stdin,
            stdout,
        }
    }

    /// The next line that it prints.
    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// Waits for its end.
    fn end(mut self) -> Ran {
        drop(self.stdin.take());
        let begun = Instant::now();
        while self.process.0.try_wait().unwrap().is_none() {
            assert!(begun.elapsed() < Duration::from_secs(60), "it goes on");
            thread::sleep(Duration::from_millis(5));
        }
        let mut rest = String::new();
        self.stdout.read_to_string(&mut rest).unwrap();
        let ended = self.process.end();
        Ran {
            stdout: rest,
            ..ended
        }
    }
}

/// The lock `name`, as soon as `suits` accepts it; `None` is free.
fn shown(dev: &Dev, name: &str, suits: impl Fn(Option<&Value>) -> bool) -> Option<Value> {
    let begun = Instant::now();
    loop {
        let ran = client(&dev.endpoints(), &["locks", name, "--json"]);
        let lock = match ran.code {
            1 => None,
            _ => {
                let shown: Value = serde_json::from_str(&ran.ok()).unwrap();
                Some(shown["locks"][0].clone())
            }
        };
        if suits(lock.as_ref()) {
            return lock;
        }
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "{name}: {lock:?}"
        );
        // Only so that the commands do not take the time of those that they wait for.
        thread::sleep(Duration::from_millis(20));
    }
}

fn is_free(dev: &Dev, name: &str) {
    shown(dev, name, |lock| lock.is_none());
}

#[test]
fn a_command_runs_while_the_lock_is_held() {
    let dev = Dev::start();
    let endpoints = dev.endpoints();
    let script = "echo $SESHAT_LOCK_NAME $SESHAT_LOCK_TOKEN $SESHAT_LOCK_SESSION; exit 7";
    let ended = client(&endpoints, &run(&["lock", "backup"], script));
    assert_eq!((ended.code, &ended.stderr[..]), (7, ""), "{ended:?}");
    let words: Vec<_> = ended.stdout.split_whitespace().collect();
    let [name, token, session] = words[..] else {
        panic!("{words:?}");
    };
    assert_eq!((name, session.len()), ("backup", 16));
    let token: u64 = token.parse().unwrap();
    assert_eq!(client(&endpoints, &["locks"]).ok().lines().count(), 1);
    assert_eq!(client(&endpoints, &["locks", "backup"]).failed(1), "");
    assert_eq!(
        client(&endpoints, &["session", "list"])
            .ok()
            .lines()
            .count(),
        1
    );

    // Its standard input is that of the command, and each holder has a higher token.
    let args = run(&["lock", "backup"], "cat; echo $SESHAT_LOCK_TOKEN");
    let ended = ran(with_input(client_command(&endpoints, &args), b"input\n")).ok();
    let next: u64 = ended
        .strip_prefix("input\n")
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    assert!(next > token, "{next} {token}");

    let killed = client(&endpoints, &run(&["lock", "backup"], "kill -9 $$"));
    assert_eq!(killed.failed(128 + 9), "");
    for (program, code) in [("./no-such-program", 127), ("/", 126)] {
        let args = ["lock", "backup", "--timeout", "60s", "--", program];
        let error = client(&endpoints, &args).failed(code);
        assert!(
            error.starts_with(&format!("error: cannot run {program}: ")),
            "{error}"
        );
    }
    is_free(&dev, "backup");
}

#[test]
fn the_others_wait_or_are_told_who_holds_the_lock() {
    let dev = Dev::start();
    let endpoints = dev.endpoints();
    let value = "with \u{1b}[2J";
    let args = run(
        &["lock", "a lock", "--value", value],
        "echo $SESHAT_LOCK_TOKEN; cat",
    );
    let mut holder = Job::start(&dev, &args);
    let token = holder.line();

    let lock = shown(&dev, "a lock", |_| true).unwrap();
    let session = lock["session"].as_str().unwrap().to_owned();
    assert_eq!(
        (&lock["name"], &lock["value"]),
        (&"a lock".into(), &value.into())
    );
    assert_eq!(lock["token"].to_string(), token);
    let table = client(&endpoints, &["locks"]).ok();
    assert_eq!(table, client(&endpoints, &["locks", "a lock"]).ok());
    let row = format!("\"a lock\"  {token}  {session}        0  \"with \\x1b[2J\"");
    assert_eq!(table.lines().nth(1), Some(&row[..]), "{table}");

    let told = format!(
        "not locked: \"a lock\" is held by session {session} under token {token}: \
         \"with \\x1b[2J\"\n"
    );
    for wait in ["--no-wait", "--wait=1ms"] {
        let args = run(&["lock", "a lock", wait], "echo it runs");
        assert_eq!(client(&endpoints, &args).failed(1), told, "{wait}");
    }
    let args = run(&["lock", "a lock", "--no-wait", "--json"], "echo it runs");
    let told: Value = serde_json::from_str(&client(&endpoints, &args).failed(1)).unwrap();
    assert_eq!(told["acquired"], false);
    let [shown_token, shown_session] = ["token", "session"].map(|it| &told["holder"][it]);
    assert_eq!(
        (shown_token, shown_session),
        (&lock["token"], &lock["session"])
    );

    let mut waiting = Job::start(&dev, &run(&["lock", "a lock"], "echo it runs"));
    shown(&dev, "a lock", |lock| lock.unwrap()["waiting"] == 1);
    assert_eq!(holder.end().ok(), "");
    assert_eq!(waiting.line(), "it runs");
    assert_eq!(waiting.end().ok(), "");
}

#[test]
fn signals_reach_the_command_or_end_the_wait() {
    let dev = Dev::start();
    // The shell waits for another process, so that it takes the signal at once.
    let script = "trap 'exit 3' TERM; echo ready; sleep 1000 & wait";
    let mut holder = Job::start(&dev, &run(&["lock", "backup"], script));
    assert_eq!(holder.line(), "ready");
    let waiting = Job::start(&dev, &run(&["lock", "backup"], "echo it runs"));
    shown(&dev, "backup", |lock| lock.unwrap()["waiting"] == 1);
    waiting.process.signal("INT");
    assert_eq!(waiting.end().failed(130), "");
    shown(&dev, "backup", |lock| lock.unwrap()["waiting"] == 0);
    holder.process.signal("TERM");
    assert_eq!(holder.end().failed(3), "");
    is_free(&dev, "backup");
}

#[test]
fn a_command_that_has_lost_its_lock_is_ended_with_all_that_it_has_started() {
    assert!(Path::new("/proc/self/stat").exists());
    let dev = Dev::start();
    let options = ["lock", "backup", "--ttl=2s", "--grace=100ms"];
    // Neither of them takes the hint.
    let script = "trap '' TERM; sleep 1000 & echo $!; wait";
    let mut stubborn = Job::start(&dev, &run(&options, script));
    let started = stubborn.line();
    let script = "trap 'echo bye; exit 0' TERM; sleep 1000 & echo ready; wait";
    let mut polite = Job::start(&dev, &run(&["lock", "other", "--ttl=2s"], script));
    assert_eq!(polite.line(), "ready");
    let leading = Job::start(
        &dev,
        &["elect", "indexer", "a:80", "--ttl=2s", "--timeout", "60s"],
    );
    shown(&dev, "indexer", |lock| lock.is_some());
    assert!(runs(&started));
    drop(dev);
    let why = "it could not be renewed in time";
    for (job, name, printed) in [(stubborn, "backup", ""), (polite, "other", "bye\n")] {
        let ended = job.end();
        assert_eq!(
            (ended.code, &ended.stdout[..]),
            (4, printed),
            "{name}: {ended:?}"
        );
        let lines: Vec<_> = ended.stderr.lines().collect();
        assert!(
            lines[0].starts_with("the lock is lost, with session "),
            "{lines:?}"
        );
        assert!(lines[0].ends_with(why), "{lines:?}");
        assert!(
            lines[1].starts_with("error: the command was ended"),
            "{lines:?}"
        );
    }
    assert!(!runs(&started));
    let ended = leading.end();
    assert!(ended.code == 4 && ended.stderr.contains(why), "{ended:?}");
}

#[test]
fn only_the_holder_writes() {
    let dev = Dev::start();
    let endpoints = dev.endpoints();
    let programs = Path::new(env!("CARGO_BIN_EXE_seshat")).parent().unwrap();
    let script = format!(
        "PATH={}:$PATH; lock=\"$SESHAT_LOCK_NAME $SESHAT_LOCK_TOKEN\"
         seshat set k v --if-held $lock && seshat del l --if-held $lock --json
         printf '%s\\n' \"if held $lock\" 'set m v' | seshat txn > /dev/null && echo $lock",
        programs.display()
    );
    let args = run(&["lock", "backup", "--endpoints", &endpoints], &script);
    // The command talks to the same cluster.
    let mut command = client_command("127.0.0.1:1", &args);
    let printed = ran(command.output().unwrap()).ok();
    let lines: Vec<_> = printed.lines().collect();
    assert_eq!(lines[0], "OK");
    assert!(
        lines[1].starts_with("{\"succeeded\":true,\"existed\":false,"),
        "{lines:?}"
    );
    let (name, token) = lines[2].split_once(' ').unwrap();

    let held = ["--if-held", name, token];
    let seshat = |args: &[&str]| client(&endpoints, &[args, &held].concat());
    let why = format!("the lock backup is not held under token {token}\n");
    let said = seshat(&["set", "k", "w"]);
    assert_eq!((said.code, said.stdout), (1, format!("not written: {why}")));
    let said = seshat(&["del", "k"]);
    assert_eq!((said.code, said.stdout), (1, format!("not deleted: {why}")));
    let said = seshat(&["set", "k", "w", "--json"]);
    assert!(
        said.code == 1 && said.stdout.starts_with("{\"succeeded\":false,"),
        "{said:?}"
    );
    assert_eq!(client(&endpoints, &["get", "k"]).ok(), "v");
}

#[test]
fn an_elected_process_leads_until_it_is_told_to_resign() {
    let dev = Dev::start();
    let endpoints = dev.endpoints();
    let mut observer = Job::start(&dev, &["locks", "indexer", "--follow"]);
    assert_eq!(observer.line(), "free");
    let elect = |args: &[&str]| {
        let args = [&["elect", "indexer"], args, &["--timeout", "60s"]].concat();
        Job::start(&dev, &args)
    };
    let mut first = elect(&["a:80"]);
    let elected = first.line();
    let token = elected.strip_prefix("elected indexer ").unwrap();
    let told = observer.line();
    let mut words = told.split('\t');
    let (told_token, session, value) = (words.next(), words.next().unwrap(), words.next());
    assert_eq!(
        (told_token, session.len(), value),
        (Some(token), 16, Some("a:80"))
    );

    let mut second = elect(&["b:80", "--json"]);
    shown(&dev, "indexer", |lock| lock.unwrap()["waiting"] == 1);
    first.process.signal("TERM");
    assert_eq!(first.end().ok(), "");
    let elected: Value = serde_json::from_str(&second.line()).unwrap();
    assert_eq!(
        (&elected["elected"], &elected["name"]),
        (&true.into(), &"indexer".into())
    );
    assert!(elected["token"].as_u64() > token.parse().ok(), "{elected}");
    assert!(observer.line().ends_with("\tb:80"));
    second.process.signal("INT");
    assert_eq!(second.end().ok(), "");
    assert_eq!(observer.line(), "free");

    // With a command, as for a lock.
    let args = run(
        &["elect", "indexer", "c:80"],
        "echo $SESHAT_LOCK_TOKEN; exit 5",
    );
    let ended = client(&endpoints, &args);
    assert_eq!(ended.code, 5, "{ended:?}");
    let told = observer.line();
    assert_eq!(told.split('\t').next(), Some(ended.stdout.trim_end()));
    // Its reader goes away.
    let Job {
        process, stdout, ..
    } = observer;
    drop(stdout);
    assert_eq!(process.end().ok(), "");
}

#[test]
fn a_value_that_is_not_text_is_shown_in_base64_or_quoted() {
    use std::os::unix::ffi::OsStrExt as _;
    let dev = Dev::start();
    let mut command = client_command(&dev.endpoints(), &["lock", "l", "--timeout", "60s"]);
    command
        .arg("--value")
        .arg(std::ffi::OsStr::from_bytes(b"\xff"));
    command.args(["--", "cat"]).stdin(Stdio::piped());
    let holder = Running::start(command);
    let lock = shown(&dev, "l", |lock| lock.is_some()).unwrap();
    assert_eq!(lock["value_base64"], "/w==", "{lock}");
    let table = client(&dev.endpoints(), &["locks"]).ok();
    assert!(table.ends_with("  \"\\xff\"\n"), "{table}");
    assert!(holder.end().code == 0);
}
