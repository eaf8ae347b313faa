//! `watch` against a node whose messages a test controls, and against a cluster.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{ChildStderr, ChildStdout, Stdio};

use serde_json::{Value, json};
use seshat::proto::kv;
use seshat::proto::kv::watch_response::Message;
use seshat_test_support::watch::{
    End, changes, cut, deleted, entry, nothing, part, progress, reset, set, state, synced,
};

use super::cluster::{Dev, Machines, Running, runs};
use super::mock::{Mock, dead};
use super::surroundings::{closed_pipe, full_disk, full_pipe};
use super::{Ran, client, client_command, ran, with_default};

/// Ends the watch that gets it.
fn the_end() -> End {
    End::Refused(tonic::Status::invalid_argument("the end"))
}

/// What `seshat watch` does when its node sends `messages`, and then refuses it.
fn watch(messages: impl IntoIterator<Item = Message>, args: &[&str]) -> Ran {
    let node = Mock::leader();
    node.next_watch(messages, cut());
    node.next_watch([], the_end());
    client(&node.address, &[&["watch"], args].concat())
}

/// What it prints before that.
fn printed(messages: impl IntoIterator<Item = Message>, args: &[&str]) -> String {
    let ran = watch(messages, args);
    assert_eq!(ran.code, 3, "{ran:?}");
    assert!(ran.stderr.contains(": the end"), "{ran:?}");
    ran.stdout
}

/// A state, and changes.
fn some_news() -> Vec<Message> {
    vec![
        reset(),
        state(&[entry("user/1", "Gilgamesh", 2)], &[]),
        state(&[entry("user/2", "two words", 4)], &[]),
        synced(5),
        progress(6),
        changes(7, &[set("user/1", "", 7), deleted("user/2", 7)]),
        part(8, &[set("user/3", "c", 8)]),
        changes(8, &[set("user/4", "d", 8)]),
    ]
}

#[test]
fn a_watch_prints_the_state_and_a_line_for_each_change() {
    assert_eq!(
        printed(some_news(), &["user/"]),
        "2\tset\tuser/1\tGilgamesh\n\
         4\tset\tuser/2\t\"two words\"\n\
         5\tsynced\n\
         7\tset\tuser/1\t\"\"\n\
         7\tdel\tuser/2\n\
         8\tset\tuser/3\tc\n\
         8\tset\tuser/4\td\n"
    );
    assert_eq!(
        printed(some_news(), &["--no-state", "--keys-only"]),
        "5\tsynced\n7\tset\tuser/1\n7\tdel\tuser/2\n8\tset\tuser/3\n8\tset\tuser/4\n"
    );
}

#[test]
fn json_is_one_object_on_each_line() {
    assert_eq!(
        printed(some_news(), &["--json"]),
        "{\"event\":\"set\",\"key\":\"user/1\",\"value\":\"Gilgamesh\",\"revision\":2}\n\
         {\"event\":\"set\",\"key\":\"user/2\",\"value\":\"two words\",\"revision\":4}\n\
         {\"event\":\"synced\",\"revision\":5,\"cluster_id\":\"0000000000000007\"}\n\
         {\"event\":\"set\",\"key\":\"user/1\",\"value\":\"\",\"revision\":7}\n\
         {\"event\":\"delete\",\"key\":\"user/2\",\"revision\":7}\n\
         {\"event\":\"set\",\"key\":\"user/3\",\"value\":\"c\",\"revision\":8}\n\
         {\"event\":\"set\",\"key\":\"user/4\",\"value\":\"d\",\"revision\":8}\n"
    );
    let removed = |cause: kv::Cause, revision| {
        let cause = cause.into();
        let event = deleted("k", revision);
        changes(revision, &[kv::Event { cause, ..event }])
    };
    let mut living = entry("k", "v", 1);
    living.ttl = std::time::Duration::from_secs(30).try_into().ok();
    living.owner = 0xab;
    let lives = [reset(), state(&[living], &[]), synced(1)];
    let removals = [
        removed(kv::Cause::Deleted, 2),
        removed(kv::Cause::Expired, 3),
        removed(kv::Cause::SessionEnded, 4),
        removed(kv::Cause::Unspecified, 5),
    ];
    let json = printed(lives.into_iter().chain(removals), &["--json"]);
    let events = json
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    let events: Vec<_> = events.collect();
    assert_eq!(
        (&events[0]["ttl_ms"], &events[0]["owner"]),
        (&json!(30_000), &json!("00000000000000ab"))
    );
    let causes: Vec<_> = events
        .iter()
        .skip(2)
        .map(|it| it["event"].as_str().unwrap())
        .collect();
    assert_eq!(causes, ["delete", "expire", "session_end", "remove"]);

    let messages = [nothing(1).to_vec(), vec![changes(2, &[set("k", "v", 2)])]].concat();
    let json = printed(messages, &["--json", "--no-state", "--keys-only"]);
    let last = json.lines().last();
    assert_eq!(
        last,
        Some("{\"event\":\"set\",\"key\":\"k\",\"revision\":2}")
    );
}

#[test]
fn the_node_is_asked_for_what_the_command_line_says() {
    let node = Mock::leader();
    client(&node.address, &["set", "k", "v"]).ok();
    let asked = |args: &[&OsStr]| {
        node.next_watch([], the_end());
        let mut watch = client_command(&node.address, &["watch"]);
        let failed = ran(watch.args(args).output().unwrap()).failed(3);
        assert!(failed.ends_with(": the end\n"), "{failed}");
        node.watches().pop().unwrap()
    };
    let interval = |start: &'static [u8], end: Option<&'static [u8]>| {
        let end = end.map(Into::into);
        let start = start.into();
        let range = kv::key_range::Range::Interval(kv::Interval { start, end });
        Some(kv::KeyRange { range: Some(range) })
    };
    let all = asked(&[]);
    assert_eq!((all.range, all.keys_only), (interval(b"", None), false));
    assert_eq!(all.min_revision, 1, "the write that was acknowledged");
    let prefix = asked(&[OsStr::from_bytes(b"a\xfe"), "--keys-only".as_ref()]);
    let of_prefix = interval(b"a\xfe", Some(b"a\xff"));
    assert_eq!((prefix.range, prefix.keys_only), (of_prefix, true));
    let key = asked(&["--key".as_ref(), "k".as_ref()]);
    assert_eq!(key.range, interval(b"k", Some(b"k\0")));
}

/// What `seshat watch --after 5` does when its node, which is at revision 6, sends `messages`, and then refuses it.
fn watch_after(messages: impl IntoIterator<Item = Message>, args: &[&str]) -> Ran {
    let node = Mock::leader().of(7, None);
    for _ in 0..6 {
        client(&node.address, &["set", "k", "v"]).ok();
    }
    node.next_watch(messages, cut());
    node.next_watch([], the_end());
    let ran = client(&node.address, &[&["watch", "--after=5"], args].concat());
    let asked = node.watches().remove(0);
    assert_eq!(
        (asked.cluster_id, asked.after_revision, asked.min_revision),
        (Some(7), 5, 6)
    );
    ran
}

#[test]
fn a_watch_goes_on_behind_a_revision() {
    let behind = [
        changes(6, &[set("a", "6", 6), deleted("b", 6)]),
        synced(6),
        changes(7, &[set("a", "7", 7)]),
    ];
    let ran = watch_after(behind, &[]);
    assert_eq!(
        ran.stdout,
        "6\tset\ta\t6\n6\tdel\tb\n6\tsynced\n7\tset\ta\t7\n"
    );
    assert_eq!(ran.stderr.lines().count(), 1, "{ran:?}");

    // The node has not all of them any more.
    let again = [
        reset(),
        state(&[entry("a", "6", 6), entry("c", "2", 2)], &[]),
        synced(6),
    ];
    let ran = watch_after(again, &[]);
    assert_eq!(ran.stdout, "6\tset\ta\t6\n6\tsynced\n");
    let told =
        "not all changes behind revision 5 are there: keys that were removed may not be told\n";
    assert!(ran.stderr.starts_with(told), "{ran:?}");

    // The reader is slow: a key that it may know is gone.
    let slow = [state(&[entry("a", "6", 6)], &["b"]), synced(6)];
    let ran = watch_after(slow, &["--keys-only"]);
    assert_eq!(ran.stdout, "6\tset\ta\n6\tdel\tb\n6\tsynced\n");
}

#[test]
fn a_watch_does_not_go_on_behind_a_revision_of_another_cluster() {
    let node = Mock::leader().of(7, None);
    client(&node.address, &["set", "k", "v"]).ok();
    let error = client(&node.address, &["watch", "--after=2"]).failed(3);
    assert!(
        error.contains("revision 2 is of another cluster: this one is at revision 1"),
        "{error}"
    );
}

#[test]
fn a_node_that_is_watched_has_the_changes_behind_a_revision() {
    let dev = Dev::start();
    let endpoints = dev.endpoints();
    let node = endpoints.split(',').next().unwrap();
    let mut before = Watching::start(node, &["--key", "k"]);
    assert!(before.line().ends_with("\tsynced\n"));
    client(&endpoints, &["set", "k", "1"]).ok();
    let line = before.line();
    let revision = line.split('\t').next().unwrap();
    client(&endpoints, &["del", "k"]).ok();
    client(&endpoints, &["set", "k", "2"]).ok();
    let mut after = Watching::start(node, &["--key", "k", "--after", revision]);
    for told in ["\tdel\tk\n", "\tset\tk\t2\n", "\tsynced\n"] {
        let line = after.line();
        assert!(line.ends_with(told), "{line}");
    }
}

/// Each change is told once: what has not changed since is no change, however often the state comes.
#[test]
fn a_state_that_comes_again_tells_what_is_new_in_it() {
    let node = Mock::leader();
    let before = [entry("a", "1", 2), entry("b", "1", 2), entry("c", "1", 2)];
    node.next_watch([reset(), state(&before, &[]), synced(5)], cut());
    // The reader was slow: keys that have changed since, without their changes. One of them changes again.
    let slow = [
        state(&[entry("a", "2", 7)], &["b", "never"]),
        state(&[entry("b", "2", 8)], &[]),
        synced(9),
        state(&[], &["c"]),
        synced(10),
    ];
    node.next_watch(slow, cut());
    // Another node begins again, and is lost in the middle of it.
    let again = || vec![reset(), state(&[entry("a", "2", 7)], &[])];
    node.next_watch(again(), cut());
    node.next_watch([again(), vec![synced(12)]].concat(), cut());
    node.next_watch([changes(13, &[set("b", "3", 13)])], cut());
    node.next_watch([], the_end());
    let ran = client(&node.address, &["watch"]);
    assert_eq!(
        ran.stdout,
        "2\tset\ta\t1\n2\tset\tb\t1\n2\tset\tc\t1\n5\tsynced\n\
         7\tset\ta\t2\n8\tset\tb\t2\n9\tsynced\n\
         10\tdel\tc\n10\tsynced\n\
         12\tdel\tb\n12\tsynced\n\
         13\tset\tb\t3\n"
    );
}

/// A cluster in which a member runs an older version has no revisions: each key is at 0.
#[test]
fn no_change_is_missing_where_there_are_no_revisions() {
    let messages = [
        reset(),
        state(&[entry("a", "1", 0)], &[]),
        synced(5),
        changes(6, &[set("a", "2", 0)]),
        changes(7, &[set("a", "3", 0)]),
        reset(),
        state(&[entry("a", "4", 0)], &[]),
        synced(8),
    ];
    assert_eq!(
        printed(messages, &[]),
        "0\tset\ta\t1\n5\tsynced\n0\tset\ta\t2\n0\tset\ta\t3\n0\tset\ta\t4\n8\tsynced\n"
    );
}

#[test]
fn bytes_that_are_no_text_steer_no_terminal() {
    let odd = kv::Entry {
        key: b"\xfe\n"[..].into(),
        value: "\u{1b}[2J\u{202e}".into(),
        revision: 1,
        ..kv::Entry::default()
    };
    let messages = || [reset(), state(std::slice::from_ref(&odd), &[]), synced(1)];
    assert_eq!(
        printed(messages(), &[]),
        "1\tset\t\"\\xfe\\n\"\t\"\\x1b[2J\\xe2\\x80\\xae\"\n1\tsynced\n"
    );
    let json = printed(messages(), &["--json"]);
    let line = "{\"event\":\"set\",\"key_base64\":\"/go=\",\"value\":\"\\u001b[2J\\u202e\",\"revision\":1}";
    assert_eq!(json.lines().next(), Some(line));
}

/// A watch that goes on, and its output line by line.
struct Watching {
    process: Running,
    stdout: BufReader<ChildStdout>,
    stderr: BufReader<ChildStderr>,
}

impl Watching {
    fn start(endpoints: &str, args: &[&str]) -> Self {
        let watch = client_command(endpoints, &[&["watch"], args].concat());
        let mut process = Running::start(with_default("INT", &watch));
        let (stdout, stderr) = (process.0.stdout.take(), process.0.stderr.take());
        Self {
            process,
            stdout: BufReader::new(stdout.unwrap()),
            stderr: BufReader::new(stderr.unwrap()),
        }
    }

    fn line(&mut self) -> String {
        line(&mut self.stdout)
    }

    fn error(&mut self) -> String {
        line(&mut self.stderr)
    }
}

fn line(reader: &mut impl BufRead) -> String {
    let mut line = String::new();
    assert_ne!(reader.read_line(&mut line).unwrap(), 0, "it has ended");
    line
}

#[test]
fn an_outage_is_told_and_ends() {
    let node = Mock::leader();
    node.next_watch(nothing(5), cut());
    let mut watch = Watching::start(&node.address, &[]);
    assert_eq!(watch.line(), "5\tsynced\n");
    let told = watch.error();
    assert!(
        told.starts_with("changes are late, no node serves the watch: "),
        "{told}"
    );
    assert!(told.contains("the node serves no watch now"), "{told}");
    node.next_watch([synced(6), changes(7, &[set("k", "v", 7)])], End::Silence);
    assert_eq!(watch.line(), "7\tset\tk\tv\n");
    assert_eq!(watch.error(), "a node serves the watch again\n");
}

#[test]
fn a_watch_that_cannot_begin_is_a_failure() {
    let (_socket, dead) = dead();
    let error = client(&dead, &["watch", "--timeout", "200ms"]).failed(3);
    assert!(error.contains("cannot be reached within 200ms"), "{error}");

    let error = client(&Mock::leader().address, &["watch", "--timeout", "2s"]).failed(3);
    assert!(
        error.contains("the node serves no watch now") || error.contains("in time"),
        "{error}"
    );

    let node = Mock::leader();
    node.next_watch([reset()], End::Silence);
    let error = client(&node.address, &["watch", "--timeout", "2s", "--json"]).failed_in_json(3);
    assert_eq!(error["kind"], "timeout", "{error}");

    let error = client(&Mock::older().address, &["watch"]).failed(3);
    assert!(
        error.contains("runs an older version, which knows no watches"),
        "{error}"
    );
}

#[test]
fn a_watch_that_has_begun_ends_in_time() {
    // A busy machine may need more time to begin.
    let ended = (1..60).find_map(|seconds| {
        let node = Mock::leader();
        node.next_watch(nothing(1), End::Silence);
        let ran = client(
            &node.address,
            &["watch", "--timeout", &format!("{seconds}s")],
        );
        (ran.code == 0).then_some(ran)
    });
    assert_eq!(ended.unwrap().ok(), "1\tsynced\n");
}

#[test]
fn a_reader_that_has_had_enough_ends_a_watch_and_a_full_disk_does_too() {
    let node = Mock::leader();
    node.next_watch(nothing(5), End::Silence);
    let mut watch = Watching::start(&node.address, &[]);
    assert_eq!(watch.line(), "5\tsynced\n");
    // Nothing more comes, so nothing is written.
    drop(watch.stdout);
    assert_eq!(watch.process.0.wait().unwrap().code(), Some(0));
    let mut rest = String::new();
    watch.stderr.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "");

    let into = |stdout, args: &[&str]| {
        node.next_watch(nothing(5), End::Silence);
        let mut watch = client_command(&node.address, &[&["watch"], args].concat());
        ran(watch.stdout(stdout).output().unwrap())
    };
    assert_eq!(into(closed_pipe(), &[]).ok(), "");
    let error = into(full_disk(), &[]).failed(3);
    assert!(error.contains("No space left on device"), "{error}");
    let (_reader, full) = full_pipe();
    let error = into(full, &["--timeout", "2s"]).failed(3);
    assert!(error.contains("was not read in time"), "{error}");
}

#[test]
fn an_interrupt_ends_a_watch() {
    let node = Mock::leader();
    node.next_watch(nothing(5), End::Silence);
    let mut watch = Watching::start(&node.address, &[]);
    assert_eq!(watch.line(), "5\tsynced\n");
    watch.process.signal("INT");
    let ended = watch.process.0.wait().unwrap();
    assert_eq!(ended.signal(), Some(2), "{ended}");
}

/// Prints its variables.
const SHOW: &str = r#"printf '%s ' "$SESHAT_EVENT" "$SESHAT_REVISION" "${SESHAT_KEY-none}" \
"${SESHAT_KEY_BASE64-none}" "${SESHAT_VALUE-none}" "${SESHAT_VALUE_BASE64-none}" \
"${SESHAT_VALUE_OMITTED-none}"; echo"#;

#[test]
fn a_command_is_run_for_each_change_in_order() {
    assert_eq!(
        printed(some_news(), &["--exec", SHOW]),
        "set 2 user/1 none Gilgamesh none none \n\
         set 4 user/2 none two words none none \n\
         set 7 user/1 none  none none \n\
         delete 7 user/2 none none none none \n\
         set 8 user/3 none c none none \n\
         set 8 user/4 none d none none \n"
    );
    assert_eq!(
        printed(some_news(), &["--exec", SHOW, "--no-state", "--keys-only"]),
        "set 7 user/1 none none none none \n\
         delete 7 user/2 none none none none \n\
         set 8 user/3 none none none none \n\
         set 8 user/4 none none none none \n"
    );
    let one_at_a_time = "echo begin $SESHAT_KEY; echo end $SESHAT_KEY";
    let expected = ["user/1", "user/2", "user/1", "user/2", "user/3", "user/4"];
    let expected = expected.map(|key| format!("begin {key}\nend {key}\n"));
    assert_eq!(
        printed(some_news(), &["--exec", one_at_a_time]),
        expected.concat()
    );
}

#[test]
fn a_command_gets_any_bytes_that_fit() {
    let odd = |key: &'static [u8], value: Vec<u8>| kv::Entry {
        key: key.into(),
        value: value.into(),
        revision: 1,
        ..kv::Entry::default()
    };
    // A value of 75 KiB is 100 KiB in base64.
    let entries = [
        odd(b"\xfe", b"\xff".to_vec()),
        odd(b"nul", b"\0".to_vec()),
        odd(b"text", vec![b'v'; 100 << 10]),
        odd(b"base64", vec![0xff; 75 << 10]),
        odd(b"large-text", vec![b'v'; (100 << 10) + 1]),
        odd(b"large", vec![0xff; (75 << 10) + 1]),
    ];
    let shows_sizes = SHOW.replace("${SESHAT_VALUE-none}", "${#SESHAT_VALUE}");
    let shows_sizes = shows_sizes.replace("${SESHAT_VALUE_BASE64-none}", "${#SESHAT_VALUE_BASE64}");
    let node = Mock::leader();
    node.next_watch([reset(), state(&entries, &[]), synced(1)], cut());
    node.next_watch([], the_end());
    let mut watch = client_command(&node.address, &["watch", "--exec", &shows_sizes]);
    // As in a command that another watch has run.
    watch
        .env("SESHAT_KEY_BASE64", "?")
        .env("SESHAT_VALUE_OMITTED", "?");
    let printed = ran(watch.output().unwrap()).stdout;
    assert_eq!(
        printed,
        "set 1 none /g== 0 4 none \n\
         set 1 nul none 0 4 none \n\
         set 1 text none 102400 0 none \n\
         set 1 base64 none 0 102400 none \n\
         set 1 large-text none 0 0 102401 \n\
         set 1 large none 0 0 76801 \n"
    );
}

#[test]
fn a_command_that_fails_is_told_and_does_not_end_the_watch() {
    let command = "cat; [ $SESHAT_KEY != user/1 ] || exit 7; echo $SESHAT_KEY";
    let ran = watch(some_news(), &["--exec", command]);
    assert_eq!(ran.stdout, "user/2\nuser/2\nuser/3\nuser/4\n");
    let errors: Vec<_> = ran.stderr.lines().collect();
    let (end, failures) = errors.split_last().unwrap();
    assert_eq!(
        failures,
        [2, 7].map(|revision| format!(
            "the command ended with exit status: 7, for set user/1 at revision {revision}"
        ))
    );
    assert!(end.ends_with(": the end"), "{end}");
}

#[test]
fn a_key_that_is_too_long_is_told_with_the_limit_of_a_key() {
    let dev = Dev::start();
    let long = "k".repeat(4097);
    for args in [["watch", "--key", &long], ["get", "--json", &long]] {
        let error = client(&dev.endpoints(), &args).failed(3);
        assert!(
            error.contains("key too large: at most 4096 bytes"),
            "{error}"
        );
    }
}

/// A change, and then nothing more.
fn one_change(node: &Mock) {
    let change = changes(6, &[set("k", "v", 6)]);
    node.next_watch(nothing(5).into_iter().chain([change]), End::Silence);
}

#[test]
fn a_signal_ends_a_watch_and_the_command_that_it_runs() {
    let stubborn = "trap '' TERM; sleep 1000 & echo $!; wait";
    let polite = "trap 'echo bye; exit 0' TERM; sleep 1000 & echo $!; wait";
    for (signal, code, command, printed) in
        [("TERM", 143, polite, "bye\n"), ("INT", 130, stubborn, "")]
    {
        let node = Mock::leader();
        one_change(&node);
        let grace = match printed {
            "" => "--grace=100ms",
            _ => "--grace=60s",
        };
        let mut watch = Watching::start(&node.address, &["--exec", command, grace]);
        let started = watch.line();
        assert!(runs(started.trim_end()), "{started}");
        watch.process.signal(signal);
        // The pipe is closed when all that the command has started is gone.
        let mut rest = String::new();
        watch.stdout.read_to_string(&mut rest).unwrap();
        assert_eq!(rest, printed, "{signal}");
        assert_eq!(watch.process.0.wait().unwrap().code(), Some(code));
        assert!(!runs(started.trim_end()), "{started}");
    }
    // While no command runs, it is the end at once.
    let node = Mock::leader();
    one_change(&node);
    let mut watch = Watching::start(&node.address, &["--exec", "echo done"]);
    assert_eq!(watch.line(), "done\n");
    watch.process.signal("TERM");
    assert_eq!(watch.process.0.wait().unwrap().code(), Some(143));
}

#[test]
fn the_command_of_a_watch_does_not_outlast_its_time_limit() {
    let command = "trap '' TERM; sleep 1000 & echo $!; wait";
    // A busy machine may need more time to begin.
    let outlasts = |messages: &[Message]| {
        (1..60).find_map(|seconds| {
            let node = Mock::leader();
            node.next_watch(messages.to_vec(), End::Silence);
            let timeout = format!("{seconds}s");
            let args = [
                "watch",
                "--exec",
                command,
                "--timeout",
                &timeout,
                "--grace=1ms",
            ];
            let ran = client(&node.address, &args);
            (ran.code == 0 && !ran.stdout.is_empty()).then(|| ran.ok())
        })
    };
    // What is late is the command and no node, also before the whole state has come.
    let change = nothing(5)
        .into_iter()
        .chain([changes(6, &[set("k", "v", 6)])]);
    let part_of_the_state = vec![reset(), state(&[entry("k", "v", 2)], &[])];
    for messages in [change.collect(), part_of_the_state] {
        let started = outlasts(&messages).unwrap();
        assert!(!runs(started.trim_end()), "{started}");
    }
}

#[test]
fn the_command_of_a_watch_finds_the_cluster_of_the_watch() {
    let node = Mock::leader();
    let change = nothing(5)
        .into_iter()
        .chain([changes(6, &[set("k", "v", 6)])]);
    node.next_watch(change, the_end());
    let args = ["watch", "--exec", "echo $SESHAT_ENDPOINTS $SESHAT_CLUSTER"];
    let ran = client(&node.address, &args);
    assert_eq!(ran.stdout, format!("{}\n", node.address));
}

/// The nodes are killed one after the other, so the one that is watched is among them.
#[test]
fn no_change_is_missing_when_the_node_of_a_watch_is_killed() {
    let machines = Machines::new("watched");
    let start = |id| Running(machines.serve(id).stderr(Stdio::null()).spawn().unwrap());
    let mut nodes: Vec<_> = (1..=3).map(start).collect();
    let endpoints = machines.endpoints();
    client(endpoints, &["set", "k", "0"]).ok();
    client(endpoints, &["status", "--wait", "healed", "--quiet"]).ok();
    let mut watch = Watching::start(endpoints, &["--key", "k"]);
    assert!(watch.line().ends_with("\tset\tk\t0\n"));
    assert!(watch.line().ends_with("\tsynced\n"));
    for id in 1..=3 {
        nodes[id - 1].signal("KILL");
        nodes[id - 1].0.wait().unwrap();
        let value = id.to_string();
        client(endpoints, &["set", "k", &value]).ok();
        nodes[id - 1] = start(id);
        client(endpoints, &["status", "--wait", "healed", "--quiet"]).ok();
    }
    client(endpoints, &["del", "k"]).ok();
    // A node that has just returned has not all changes, so the state may come again: `synced` tells.
    let mut lines = Vec::new();
    while lines.last().is_none_or(|last| last != "del") {
        let line = watch.line();
        let words: Vec<_> = line.trim_end().split('\t').skip(1).collect();
        if words != ["synced"] {
            lines.push(
                words
                    .join(" ")
                    .replace("set k ", "")
                    .replace("del k", "del"),
            );
        }
    }
    assert_eq!(lines, ["1", "2", "3", "del"]);
}
