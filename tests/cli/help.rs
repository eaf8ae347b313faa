//! The texts for a user before the first success, and after a mistake.

use super::{client, seshat};

#[test]
fn help_is_worth_reading() {
    for args in [
        [].as_slice(),
        &["dev"],
        &["serve"],
        &["set"],
        &["get"],
        &["del"],
        &["scan"],
        &["watch"],
        &["txn"],
        &["lock"],
        &["elect"],
        &["locks"],
        &["session", "list"],
        &["session", "close"],
        &["status"],
        &["transfer-leader"],
        &["member", "list"],
        &["member", "add"],
        &["member", "remove"],
        &["form"],
        &["recover"],
        &["bench"],
        &["config", "check"],
    ] {
        let help = seshat(&[args, &["--help"]].concat()).ok();
        for part in ["Usage: seshat", "Exit codes:", "  seshat "] {
            assert!(help.contains(part), "{args:?}: {part}: {help}");
        }
        let widest = help.lines().map(|line| line.chars().count()).max();
        assert!(widest <= Some(100), "{args:?}: {widest:?}");
    }
    for command in [
        ["set"].as_slice(),
        &["get"],
        &["del"],
        &["scan"],
        &["watch"],
        &["txn"],
        &["lock"],
        &["elect"],
        &["locks"],
        &["session", "list"],
        &["session", "close"],
        &["status"],
        &["transfer-leader"],
        &["member", "list"],
        &["member", "add"],
        &["member", "remove"],
        &["form"],
        &["recover"],
        &["bench"],
    ] {
        let help = seshat(&[command, &["--help"]].concat()).ok();
        for part in [
            "SESHAT_ENDPOINTS",
            "SESHAT_CLUSTER",
            "127.0.0.1:6379,127.0.0.1:6380",
            "--timeout",
            "--json",
        ] {
            assert!(help.contains(part), "{command:?}: {part}: {help}");
        }
    }
}

#[test]
fn mistakes_on_the_command_line_exit_2() {
    for (args, complaint) in [
        (["get"].as_slice(), "<KEY>"),
        (&["got", "k"], "a similar subcommand exists: 'get'"),
        (&["get", ""], "a key has at least one byte"),
        (&["set", "k"], "<VALUE>"),
        (&["set", "k", "v", "w"], "unexpected argument 'w'"),
        (
            &["set", "k", "v", "--if-absent", "--if-revision", "1"],
            "cannot be used with",
        ),
        (&["set", "k", "v", "--if-revision", "x"], "invalid digit"),
        (&["set", "k", "v", "--ttl", "30"], "time unit needed"),
        (
            &["set", "k", "v", "--ttl", "999ms"],
            "not between 1s and 3650d",
        ),
        (&["del", "k", "--if-revision", ""], "cannot parse integer"),
        (&["scan", "k", "--end", "l"], "cannot be used with"),
        (&["scan", "--start", ""], "a key has at least one byte"),
        (&["scan", "--limit", "0"], "0 is not in 1.."),
        (&["scan", "--count", "--keys-only"], "cannot be used with"),
        (&["watch", "k", "--key", "l"], "cannot be used with"),
        (&["watch", "--key", ""], "a key has at least one byte"),
        (&["watch", "--after", "0"], "0 is not in 1.."),
        (&["watch", "--after=1", "--no-state"], "cannot be used with"),
        (&["watch", "--grace=1s"], "--exec <COMMAND>"),
        (&["session", "close", "7"], "16 hexadecimal digits"),
        (
            &["session", "close", "0000000000000000"],
            "16 hexadecimal digits",
        ),
        (&["lock", "backup"], "<COMMAND>"),
        (&["lock", "", "--", "true"], "1 to 256 bytes"),
        (
            &["lock", "backup", "--no-wait", "--wait=1s", "--", "true"],
            "cannot be used with",
        ),
        (
            &["lock", "backup", "--ttl=1s", "--", "true"],
            "not between 2s and 1h",
        ),
        (&["elect", "indexer"], "<VALUE>"),
        (&["locks", "--follow"], "<NAME>"),
        (&["set", "k", "v", "--if-held", "l"], "2 values required"),
        (
            &["set", "k", "v", "--if-held", "l", "t"],
            "--if-held: no token",
        ),
        (&["txn", "k"], "unexpected argument 'k'"),
        (&["txn"], "standard input: no condition and no operation"),
        (
            &["get", "k", "--endpoints", "nowhere"],
            "not of the form host:port",
        ),
        (
            &["get", "k", "--endpoints", "https://a:1"],
            "only http is spoken here",
        ),
        (&["get", "k", "--timeout", "5"], "time unit needed"),
        (&["get", "k", "--timeout", "0s"], "not between 1ms and 24h"),
        (&["transfer-leader", "--to", "0"], "0 is not in 1..=65535"),
        (
            &["member", "add", "0", "a:1", "b:2"],
            "0 is not in 1..=65535",
        ),
        (
            &["member", "add", "4", "a:1", "b"],
            "not of the form host:port",
        ),
        (&["member", "remove"], "<ID>"),
        (&["form"], "--without <ID,…>"),
        (&["form", "--without", "x"], "invalid digit"),
        (&["recover"], "--from <NODE>"),
        (
            &["recover", "--from", "3", "--confirm", "ab"],
            "16 hexadecimal digits",
        ),
        (
            &["bench", "--op", "incr"],
            "[possible values: set, get, del, mixed]",
        ),
        (&["bench", "--pipeline", "256"], "write BATCHxWINDOW"),
        (&["bench", "--pipeline", "1x0"], "write BATCHxWINDOW"),
        (&["bench", "--clients", "0"], "0 is not in 1..=10000"),
        (
            &["bench", "--clients", "2", "--connections", "3"],
            "more than --clients",
        ),
        (&["bench", "--duration", "10"], "time unit needed"),
        (&["bench", "--warm-up", "x"], "expected number"),
        (&["bench", "--value-size", "15"], "not between 16 and"),
        (&["bench", "--rate", "0"], "0 is not in 1..=10000000"),
        (&["dev", "--nodes", "x"], "invalid digit"),
        (&["dev", "--nodes", "2"], "at least 3 members"),
        (&["dev", "--nodes", "4"], "an odd number of members"),
        (&["dev", "--nodes", "0"], "at least 3 members"),
        (&["dev", "--base-port", "65535"], "65536"),
        (&["dev", "--log-format", "xml"], "human or json"),
    ] {
        let error = seshat(args).failed(2);
        assert!(error.starts_with("error: "), "{args:?}: {error}");
        assert!(error.contains(complaint), "{args:?}: {error}");
    }
    // Lists the commands.
    assert!(seshat(&[]).failed(2).contains("transfer-leader"));
    assert!(
        client("nowhere", &["get", "k"])
            .failed(2)
            .contains("not of the form host:port")
    );
}

#[test]
fn mistakes_are_json_where_json_is_asked_for() {
    let error = seshat(&["get", "--json"]).failed_in_json(2);
    assert_eq!(error["kind"], "usage");
    assert!(
        error["message"].as_str().unwrap().contains("<KEY>"),
        "{error}"
    );
}
