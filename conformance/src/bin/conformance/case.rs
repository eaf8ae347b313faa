//! Cases: what a client promises, as ordered steps. Each is a file, see `conformance/cases/README.md`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde::Deserialize;
use toml::{Table, Value as Toml};

use crate::schema::Schema;
use crate::values::duration;
use crate::world::{Arrivals, Direct, FaultSpec, RoleSpec};

/// Longest wait for one step, unless it says otherwise: long enough for a machine that is busy.
const STEP_TIMEOUT: Duration = Duration::from_secs(60);

/// The timeout of a client, unless its case says otherwise.
const CALL_TIMEOUT: &str = "30s";

/// A case.
#[derive(Debug)]
pub(crate) struct Case {
    /// Its stable name: the area and the name of its file.
    pub(crate) name: String,
    /// What it proves.
    pub(crate) kind: Kind,
}

/// What a case proves.
#[derive(Debug)]
pub(crate) enum Kind {
    /// A promise.
    Steps(Box<Script>),
    /// Messages of this type are read and written.
    Golden(String),
}

/// The content of the file of a case.
#[derive(Debug)]
pub(crate) struct Script {
    /// The promise, in a sentence.
    pub(crate) about: String,
    /// The made-up nodes.
    pub(crate) nodes: BTreeMap<String, RoleSpec>,
    /// Whether there is a cluster of real processes.
    pub(crate) cluster: bool,
    /// The steps, in order.
    pub(crate) steps: Vec<Step>,
}

/// A step.
#[derive(Debug, Clone)]
pub(crate) struct Step {
    /// What is done.
    pub(crate) action: Action,
    /// How often, with `#` in texts for the number of the time.
    pub(crate) repeat: Option<usize>,
    /// Its name, if a later step waits for its end.
    pub(crate) background: Option<String>,
    /// Outcomes that are right; none: any but a failure.
    pub(crate) expect: Vec<Table>,
    /// Outcomes after which the request is sent again.
    pub(crate) skip: Vec<Table>,
    /// Longest wait.
    pub(crate) within: Duration,
    /// Shortest time that it takes.
    pub(crate) at_least: Duration,
}

/// What a step does.
#[derive(Debug, Clone)]
pub(crate) enum Action {
    /// Asks the client program: the name of the action, and its message.
    Request(String, Table),
    /// Waits for the end of a step in the background.
    Await(String),
    /// Cancels one.
    Cancel(String),
    /// Changes roles of made-up nodes.
    Change(BTreeMap<String, RoleSpec>),
    /// Adds a fault.
    Fault(Box<FaultSpec>),
    /// Lets calls go on that hang.
    Release,
    /// Waits until requests have come.
    Arrived(Box<Arrivals>),
    /// Checks which requests have come.
    Check(Box<Arrivals>),
    /// Asks the true cluster.
    Directly(Box<Direct>),
    /// Does something to a real process.
    Process(Signal, String),
    /// Reads the key of a write, and compares with its outcome.
    Outcomes(Box<Outcomes>),
}

/// What is done to a real process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Signal {
    Kill,
    Stop,
    Continue,
    Start,
    /// Waits until it is so: a leader is there.
    Led,
}

/// Which write is compared with what its key is bound to.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Outcomes {
    /// The client that reads.
    pub(crate) client: String,
    /// The step, a `set` of a key of its own.
    pub(crate) of: String,
}

/// All cases in `directory`, and those of the golden messages, in the order of their names.
pub(crate) fn all(directory: &Path, schema: &Schema) -> Result<Vec<Case>> {
    let mut cases = crate::golden::cases()?;
    for area in entries(directory)?.iter().filter(|it| it.is_dir()) {
        for file in entries(area)?
            .iter()
            .filter(|it| it.extension().is_some_and(|it| it == "toml"))
        {
            let stem = |path: &Path| path.file_stem().map(|it| it.to_string_lossy().into_owned());
            let name = format!(
                "{}/{}",
                stem(area).context("an area")?,
                stem(file).context("a name")?
            );
            let script = fs::read_to_string(file).map_err(anyhow::Error::from);
            let script = script.and_then(|text| Script::parse(&text, schema));
            let script = script.with_context(|| file.display().to_string())?;
            cases.push(Case {
                name,
                kind: Kind::Steps(Box::new(script)),
            });
        }
    }
    cases.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(cases)
}

fn entries(directory: &Path) -> Result<Vec<std::path::PathBuf>> {
    let entries = fs::read_dir(directory).with_context(|| directory.display().to_string())?;
    let paths = entries.map(|entry| Ok(entry?.path()));
    paths.collect()
}

impl Case {
    /// The promise, in a sentence.
    pub(crate) fn about(&self) -> String {
        match &self.kind {
            Kind::Steps(script) => script.about.clone(),
            Kind::Golden(message) => format!("Reads and writes {message}, as bytes and as JSON."),
        }
    }
}

impl Script {
    /// The case in `text`.
    pub(crate) fn parse(text: &str, schema: &Schema) -> Result<Self> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct File {
            about: String,
            #[serde(default)]
            nodes: BTreeMap<String, RoleSpec>,
            #[serde(default)]
            cluster: bool,
            step: Vec<Table>,
        }
        let File {
            about,
            nodes,
            cluster,
            step,
        } = toml::from_str(text)?;
        ensure!(
            cluster == nodes.is_empty(),
            "a case has made-up nodes, or a cluster"
        );
        let steps = step.into_iter().enumerate().map(|(at, table)| {
            Step::parse(table, schema).with_context(|| format!("step {}", at + 1))
        });
        Ok(Self {
            about,
            nodes,
            cluster,
            steps: steps.collect::<Result<_>>()?,
        })
    }
}

impl Step {
    fn parse(mut table: Table, schema: &Schema) -> Result<Self> {
        let time = |value: Option<Toml>| -> Result<Option<Duration>> {
            let text = value.map(Toml::try_into::<String>).transpose()?;
            text.map(|it| duration(&it)).transpose()
        };
        let expect = table
            .remove("expect")
            .map(expected)
            .transpose()?
            .unwrap_or_default();
        let skip = table
            .remove("skip")
            .map(expected)
            .transpose()?
            .unwrap_or_default();
        let background = table.remove("as").map(Toml::try_into).transpose()?;
        let repeat = table.remove("repeat").map(Toml::try_into).transpose()?;
        let within = time(table.remove("within"))?.unwrap_or(STEP_TIMEOUT);
        let at_least = time(table.remove("at_least"))?.unwrap_or_default();
        let mut actions = table.into_iter();
        let (name, value) = actions.next().context("a step does something")?;
        if let Some((other, _)) = actions.next() {
            bail!("a step does one thing, and not both {name} and {other}");
        }
        let action = Action::parse(&name, value, schema).with_context(|| name.clone())?;
        let is_request = matches!(action, Action::Request(..) | Action::Await(_));
        ensure!(
            is_request || expect.is_empty() && skip.is_empty(),
            "{name} has no outcome to expect"
        );
        ensure!(
            background.is_none() || matches!(action, Action::Request(..)) && expect.is_empty(),
            "only a request without an expectation goes on in the background",
        );
        Ok(Self {
            action,
            repeat,
            background,
            expect,
            skip,
            within,
            at_least,
        })
    }
}

/// The outcomes that are right: a name, a table, or a list of these.
fn expected(value: Toml) -> Result<Vec<Table>> {
    Ok(match value {
        Toml::String(name) => vec![Table::from_iter([(name, "any".into())])],
        Toml::Table(table) => vec![table],
        Toml::Array(values) => {
            let all: Vec<_> = values.into_iter().map(expected).collect::<Result<_>>()?;
            all.into_iter().flatten().collect()
        }
        other => bail!("{other:?} is no outcome"),
    })
}

impl Action {
    fn parse(name: &str, value: Toml, schema: &Schema) -> Result<Self> {
        if let Some(field) = schema.request.get_field_by_name(name) {
            let mut table: Table = match value {
                Toml::String(request) if name == "cancel" => return Ok(Self::Cancel(request)),
                value => value.try_into()?,
            };
            let of = field.kind();
            let of = of.as_message().context("the id is given by itself")?;
            if name == "connect" {
                // That of the client is too short for a machine that is busy.
                table.entry("timeout").or_insert(CALL_TIMEOUT.into());
            }
            let has_caller = of.get_field_by_name("caller").is_some();
            return Ok(Self::Request(
                name.to_owned(),
                if has_caller {
                    with_caller(table)
                } else {
                    table
                },
            ));
        }
        let process = |signal, value: Toml| Ok(Self::Process(signal, value.try_into()?));
        match name {
            "await" => Ok(Self::Await(value.try_into()?)),
            "change" => Ok(Self::Change(value.try_into()?)),
            "fault" => Ok(Self::Fault(Box::new(value.try_into()?))),
            "release" => Ok(Self::Release),
            "arrived" => Ok(Self::Arrived(Box::new(value.try_into()?))),
            "check" => Ok(Self::Check(Box::new(value.try_into()?))),
            "directly" => Ok(Self::Directly(Box::new(value.try_into()?))),
            "outcomes" => Ok(Self::Outcomes(Box::new(value.try_into()?))),
            "kill" => process(Signal::Kill, value),
            "stop" => process(Signal::Stop, value),
            "continue" => process(Signal::Continue, value),
            "start" => process(Signal::Start, value),
            "led" => process(Signal::Led, value),
            _ => bail!("there is no such action"),
        }
    }
}

/// The client, the session and the timeout of a request are its caller.
fn with_caller(mut table: Table) -> Table {
    let mut caller = Table::new();
    for name in ["client", "session", "timeout"] {
        caller.extend(table.remove_entry(name));
    }
    table.insert("caller".to_owned(), caller.into());
    table
}
