//! The filter that says which lines are logged.

use tracing::level_filters::LevelFilter;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::Directive;

use super::LogError;

/// The variable that is Seshat's own.
const OWN: &str = "SESHAT_LOG";

/// The variables that choose what is logged, in `tracing-subscriber`'s syntax. The first one that is set
/// and not empty counts. Other programs read `RUST_LOG` too, so what it says of their targets is left out.
pub const FILTER_VARIABLES: [&str; 2] = [OWN, "RUST_LOG"];

/// The crates that log; modules follow after `::`.
const TARGETS: [&str; 7] = [
    "seshat",
    "raft",
    "h2",
    "hyper",
    "hyper_util",
    "tonic",
    "tower",
];

/// The filter that a variable asks for, or else the one for `level`.
pub(super) fn filter(
    level: LevelFilter,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<EnvFilter, LogError> {
    let set = FILTER_VARIABLES
        .into_iter()
        .find_map(|name| Some((name, variable(name).filter(|text| !text.is_empty())?)));
    let asked = match set {
        Some((variable, text)) => directives(variable, &text)?,
        None => Vec::new(),
    };
    let directives = match asked.is_empty() {
        true => bare(level),
        false => asked.join(","),
    };
    Ok(EnvFilter::builder().parse_lossy(directives))
}

/// The directives in `text`, those without a target first: a later one for the same target counts.
fn directives(variable: &'static str, text: &str) -> Result<Vec<String>, LogError> {
    let (mut levels, mut named) = (Vec::new(), Vec::new());
    let words = text.split(',').map(str::trim);
    for word in words.filter(|word| !word.is_empty()) {
        if let Ok(level) = word.parse() {
            levels.push(bare(level));
            continue;
        }
        let end = word.find(['=', '[']);
        let target = word.get(..end.unwrap_or(word.len())).unwrap_or(word);
        let krate = target.split("::").next().unwrap_or_default();
        let logs = krate.is_empty() || TARGETS.contains(&krate);
        match word.parse::<Directive>() {
            Ok(_) if logs => named.push(word.to_owned()),
            Ok(_) if variable != OWN && end.is_some() => {}
            _ => {
                return Err(LogError::Filter {
                    variable,
                    word: word.to_owned(),
                });
            }
        }
    }
    levels.append(&mut named);
    Ok(levels)
}

/// The directives for a level without a target: this level for Seshat and raft-rs, warnings for the rest.
/// Of h2 errors alone: a peer can make it warn as often as it likes, and Seshat logs the important part
/// itself.
fn bare(level: LevelFilter) -> String {
    let (rest, h2) = (level.min(LevelFilter::WARN), level.min(LevelFilter::ERROR));
    format!("{rest},h2={h2},raft={level},seshat={level}")
}

/// The valid directives, as text.
pub(super) fn expected() -> String {
    let targets = TARGETS.join(", ");
    format!(
        "expected a level (off, error, warn, info, debug, trace), which is that of seshat and raft, or a \
         target (one of {targets}, or a module of one) with its level, as in info,raft=debug"
    )
}

#[cfg(test)]
mod tests {
    use tracing::{Level, enabled};

    use super::*;

    /// The filter, if `variable` holds `text`.
    fn of(variable: &'static str, text: &str) -> Result<EnvFilter, LogError> {
        let set = |name: &str| (name == variable).then(|| text.to_owned());
        filter(LevelFilter::INFO, set)
    }

    fn refused(variable: &'static str, text: &str) -> String {
        of(variable, text).unwrap_err().to_string()
    }

    #[test]
    fn a_word_that_logs_nothing_is_refused_by_name() {
        for (text, word) in [
            ("debgu", "debgu"),
            ("info,sesaht", "sesaht"),
            ("info, sesaht=debug", "sesaht=debug"),
            ("sehsat[span]=debug", "sehsat[span]=debug"),
            ("seshatt::replication=debug", "seshatt::replication=debug"),
            ("seshat=loud", "seshat=loud"),
            ("6", "6"),
            ("debug;raft=info", "debug;raft=info"),
            ("\u{fffd}", "\u{fffd}"),
        ] {
            let expected = expected();
            let words = format!("SESHAT_LOG: {word:?} would log nothing; {expected}");
            assert_eq!(refused("SESHAT_LOG", text), words);
        }
        assert!(refused("RUST_LOG", "debgu").starts_with("RUST_LOG: \"debgu\" "));
        for text in TARGETS
            .into_iter()
            .chain(["seshat::trace", "raft=off", "[turn]=debug"])
        {
            of("SESHAT_LOG", text).unwrap();
        }
    }

    #[test]
    fn directives_for_other_programs_in_a_shared_variable_are_ignored() {
        let usual = of("RUST_LOG", "").unwrap().to_string();
        assert_eq!(
            of("RUST_LOG", "app=debug,app::db=off").unwrap().to_string(),
            usual
        );
        let both = of("RUST_LOG", "app=debug,raft=debug").unwrap();
        assert_eq!(both.to_string(), "raft=debug");
    }

    #[test]
    fn the_first_variable_that_is_set_and_not_empty_counts() {
        let both = |own: &'static str| {
            let set =
                move |name: &str| Some(if name == OWN { own } else { "raft=warn" }.to_owned());
            filter(LevelFilter::INFO, set).unwrap().to_string()
        };
        assert_eq!(both("raft=debug"), "raft=debug");
        assert_eq!(both(""), "raft=warn");
    }

    /// The most verbose level that `filter` lets through, of seshat, raft, h2 and tower.
    fn levels(filter: EnvFilter) -> [LevelFilter; 4] {
        let subscriber = tracing_subscriber::fmt().with_env_filter(filter).finish();
        macro_rules! loudest {
            ($target:literal) => {
                match () {
                    () if enabled!(target: $target, Level::TRACE) => LevelFilter::TRACE,
                    () if enabled!(target: $target, Level::DEBUG) => LevelFilter::DEBUG,
                    () if enabled!(target: $target, Level::INFO) => LevelFilter::INFO,
                    () if enabled!(target: $target, Level::WARN) => LevelFilter::WARN,
                    () if enabled!(target: $target, Level::ERROR) => LevelFilter::ERROR,
                    () => LevelFilter::OFF,
                }
            };
        }
        tracing::subscriber::with_default(subscriber, || {
            [
                loudest!("seshat::driver"),
                loudest!("raft"),
                loudest!("h2::codec"),
                loudest!("tower::buffer"),
            ]
        })
    }

    #[test]
    fn a_bare_level_is_for_seshat_and_raft() {
        const OFF: LevelFilter = LevelFilter::OFF;
        const ERROR: LevelFilter = LevelFilter::ERROR;
        const WARN: LevelFilter = LevelFilter::WARN;
        const INFO: LevelFilter = LevelFilter::INFO;
        const DEBUG: LevelFilter = LevelFilter::DEBUG;
        const TRACE: LevelFilter = LevelFilter::TRACE;
        for (text, expected) in [
            ("", [INFO, INFO, ERROR, WARN]),
            ("off", [OFF, OFF, OFF, OFF]),
            ("error", [ERROR, ERROR, ERROR, ERROR]),
            ("warn", [WARN, WARN, ERROR, WARN]),
            ("debug", [DEBUG, DEBUG, ERROR, WARN]),
            ("TRACE", [TRACE, TRACE, ERROR, WARN]),
            ("info,raft=debug", [INFO, DEBUG, ERROR, WARN]),
            ("h2=trace, debug", [DEBUG, DEBUG, TRACE, WARN]),
            ("tower,info", [INFO, INFO, ERROR, TRACE]),
            ("raft=debug", [OFF, DEBUG, OFF, OFF]),
        ] {
            assert_eq!(levels(of("SESHAT_LOG", text).unwrap()), expected, "{text}");
        }
        let verbose = filter(DEBUG, |_| None).unwrap();
        assert_eq!(levels(verbose), [DEBUG, DEBUG, ERROR, WARN]);
    }

    /// The packages that build or test with `tracing` or `log`, or pass lines on, log nothing in a node.
    #[test]
    fn every_crate_that_logs_is_known() {
        const QUIET: [&str; 4] = [
            "prost-build",
            "tracing-log",
            "tracing-subscriber",
            "turmoil",
        ];
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.lock");
        let lock = std::fs::read_to_string(path).unwrap();
        let mut found = 0;
        for package in lock.split("[[package]]").skip(1) {
            let name = package.split('"').nth(1).unwrap();
            let logs = |line: &str| matches!(line.trim(), "\"tracing\"," | "\"log\",");
            if package.lines().any(logs) && !QUIET.contains(&name) {
                assert!(TARGETS.contains(&name.replace('-', "_").as_str()), "{name}");
                found += 1;
            }
        }
        assert!(found > 1, "{path} cannot be read any more");
    }
}
