//! The run of one case.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use prost_reflect::{DynamicMessage, Value};
use tokio::time::{Instant, timeout};
use toml::{Table, Value as Toml};

use crate::case::{Action, Case, Kind, Outcomes, Script, Step};
use crate::cluster::Cluster;
use crate::expect::matches;
use crate::golden;
use crate::program::{Pending, Program};
use crate::schema::{Schema, shown};
use crate::values::{Names, message};
use crate::world::World;

/// Longest wait until a cluster has formed.
const FORMATION: Duration = Duration::from_secs(120);
/// Longest wait for the responses that are still out when a case ends.
const CLOSE: Duration = Duration::from_secs(30);

/// `Applied.NO` and `Applied.UNKNOWN`.
const NOT_APPLIED: i32 = 1;
const UNKNOWN: i32 = 2;

/// What all cases share.
#[derive(Debug)]
pub(crate) struct Setting {
    /// The schemas.
    pub(crate) schema: Schema,
    /// The binary of the server.
    pub(crate) seshat: PathBuf,
}

/// Runs `case`. Its number is different for each case.
///
/// # Errors
///
/// The client does not keep its promise, or the case is at fault.
pub(crate) async fn run(
    case: &Case,
    number: u64,
    program: &mut Program,
    setting: &Setting,
) -> Result<()> {
    match &case.kind {
        Kind::Steps(script) => {
            Run::start(script, number, program, setting)
                .await?
                .all(script)
                .await
        }
        Kind::Golden(name) => {
            let checked = golden::check(name, program, &setting.schema);
            timeout(FORMATION, checked)
                .await
                .context("the program does not answer")?
        }
    }
}

struct Run<'a> {
    program: &'a mut Program,
    schema: &'a Schema,
    names: Names,
    nodes: Nodes,
    background: BTreeMap<String, Background>,
    clients: Vec<String>,
}

enum Nodes {
    MadeUp(World),
    Real(Cluster),
}

/// A request that goes on while other steps are done.
struct Background {
    asked: Asked,
    /// The response, if a step has waited for it.
    response: Option<DynamicMessage>,
}

struct Asked {
    pending: Pending,
    request: DynamicMessage,
    at: Instant,
}

impl<'a> Run<'a> {
    async fn start(
        script: &Script,
        number: u64,
        program: &'a mut Program,
        setting: &'a Setting,
    ) -> Result<Self> {
        let mut names = Names {
            prefix: format!("{number}."),
            ..Names::default()
        };
        let schema = &setting.schema;
        let nodes = match script.cluster {
            true => {
                let cluster = Cluster::start(&setting.seshat, &mut names);
                Nodes::Real(
                    timeout(FORMATION, cluster)
                        .await
                        .context("no cluster forms")??,
                )
            }
            false => {
                let world = World::start(&script.nodes, schema, number, &mut names);
                Nodes::MadeUp(
                    timeout(FORMATION, world)
                        .await
                        .context("no node starts")??,
                )
            }
        };
        Ok(Self {
            program,
            schema,
            names,
            nodes,
            background: BTreeMap::new(),
            clients: Vec::new(),
        })
    }

    async fn all(mut self, script: &Script) -> Result<()> {
        for (at, step) in (1..).zip(&script.steps) {
            for time in 1..=step.repeat.unwrap_or(1) {
                let step = match step.repeat {
                    Some(_) => numbered(step, time)?,
                    None => step.clone(),
                };
                let done = self.step(&step).await;
                done.with_context(|| format!("step {at}"))
                    .map_err(|error| self.with_details(error))?;
            }
        }
        let closed = self.close().await;
        closed.map_err(|error| self.with_details(error))
    }

    /// The error with what is known about the nodes and the program.
    fn with_details(&self, error: anyhow::Error) -> anyhow::Error {
        let mut text = String::new();
        for (name, background) in &self.background {
            if background.response.is_none() {
                text += &format!(
                    "\n    outstanding: {name}: {}",
                    shown(&background.asked.request)
                );
            }
        }
        let (what, lines) = match &self.nodes {
            Nodes::MadeUp(world) => ("came", world.requests()),
            Nodes::Real(cluster) => ("log", cluster.logs()),
        };
        const MOST: usize = 40;
        if lines.len() > MOST {
            text += &format!("\n    …: {} more", lines.len() - MOST);
        }
        for line in lines.iter().skip(lines.len().saturating_sub(MOST)) {
            text += &format!("\n    {what}: {line}");
        }
        anyhow!("{error:#}{text}")
    }

    async fn step(&mut self, step: &Step) -> Result<()> {
        let doing = self.action(step);
        let done = timeout(step.within, doing).await;
        done.unwrap_or_else(|_| Err(anyhow!("it is not done within {:?}", step.within)))
    }

    async fn action(&mut self, step: &Step) -> Result<()> {
        match &step.action {
            Action::Request(name, table) => self.request(name, table, step).await,
            Action::Await(name) => {
                let background = self.background.get_mut(name);
                let background =
                    background.with_context(|| format!("no step is named {name:?}"))?;
                ensure!(background.response.is_none(), "{name:?} was awaited before");
                let mut response = background.asked.pending.response().await?;
                while is_skipped(&response, step, &self.names) {
                    background.asked.pending = self.program.ask(&background.asked.request)?;
                    response = background.asked.pending.response().await?;
                }
                background.response = Some(response.clone());
                let took = background.asked.at.elapsed();
                self.expect(&response, step, took)
            }
            Action::Cancel(name) => {
                let background = self.background.get(name);
                let id = background
                    .with_context(|| format!("no step is named {name:?}"))?
                    .asked
                    .pending
                    .id;
                let table =
                    Table::from_iter([("request".to_owned(), Toml::Integer(id.try_into()?))]);
                self.request("cancel", &table, step).await
            }
            Action::Change(specs) => {
                let Nodes::MadeUp(world) = &mut self.nodes else {
                    bail!("the nodes are real")
                };
                world.change(specs, &self.names).await
            }
            Action::Fault(fault) => self.world()?.add(fault, &self.names),
            Action::Release => {
                self.world()?.release();
                Ok(())
            }
            Action::Arrived(arrivals) => self.world()?.wait_for(arrivals, &self.names).await,
            Action::Check(arrivals) => {
                let mut names = self.names.clone();
                self.world()?.check(arrivals, &mut names)?;
                self.names = names;
                Ok(())
            }
            Action::Directly(direct) => {
                let mut names = self.names.clone();
                self.world()?.ask(direct, &mut names).await?;
                self.names = names;
                Ok(())
            }
            Action::Process(signal, whom) => match &mut self.nodes {
                Nodes::Real(cluster) => cluster.signal(*signal, whom).await,
                Nodes::MadeUp(_) => bail!("the nodes are made up"),
            },
            Action::Outcomes(outcomes) => self.outcomes(outcomes).await,
        }
    }

    fn world(&self) -> Result<&World> {
        match &self.nodes {
            Nodes::MadeUp(world) => Ok(world),
            Nodes::Real(_) => bail!("the nodes are real"),
        }
    }

    async fn request(&mut self, name: &str, table: &Table, step: &Step) -> Result<()> {
        let mut asked = self.ask(name, table)?;
        if name == "connect" {
            let client = table.get("client").and_then(Toml::as_str);
            self.clients
                .push(client.context("a client has a name")?.to_owned());
        }
        if let Some(background) = &step.background {
            let before = self.background.insert(
                background.clone(),
                Background {
                    asked,
                    response: None,
                },
            );
            ensure!(before.is_none(), "another step is named {background:?}");
            return Ok(());
        }
        let mut response = asked.pending.response().await?;
        while is_skipped(&response, step, &self.names) {
            asked.pending = self.program.ask(&asked.request)?;
            response = asked.pending.response().await?;
        }
        self.expect(&response, step, asked.at.elapsed())
    }

    fn ask(&mut self, name: &str, table: &Table) -> Result<Asked> {
        let whole = Table::from_iter([(name.to_owned(), Toml::Table(table.clone()))]);
        let request = message(&self.schema.request, &whole, &self.names)?;
        let at = Instant::now();
        Ok(Asked {
            pending: self.program.ask(&request)?,
            request,
            at,
        })
    }

    fn expect(&mut self, response: &DynamicMessage, step: &Step, took: Duration) -> Result<()> {
        if response.has_field_by_name("unsupported") {
            bail!("{}", shown(response));
        }
        ensure!(
            took >= step.at_least,
            "{} came after {took:?}",
            shown(response)
        );
        if step.expect.is_empty() {
            ensure!(
                !response.has_field_by_name("failure"),
                "{}",
                shown(response)
            );
            return Ok(());
        }
        let mut faults = Vec::new();
        for expected in &step.expect {
            let mut names = self.names.clone();
            match matches(response, expected, &mut names) {
                Ok(()) => {
                    self.names = names;
                    return Ok(());
                }
                Err(error) => faults.push(format!("{error:#}")),
            }
        }
        bail!("{}: {}", shown(response), faults.join("; or "))
    }

    /// Compares what the key of a write is bound to with the outcome of the write.
    async fn outcomes(&mut self, outcomes: &Outcomes) -> Result<()> {
        let name = &outcomes.of;
        let background = self.background.get(name);
        let background = background.with_context(|| format!("no step is named {name:?}"))?;
        let response = background
            .response
            .clone()
            .context("its outcome is not known yet")?;
        let set = background
            .asked
            .request
            .get_field_by_name("set")
            .context("a set")?;
        let set = set.as_message().context("a set")?.clone();
        let found = self
            .ask_for(&outcomes.client, &set)?
            .pending
            .response()
            .await?;
        let found = entry_value(&found).with_context(|| shown(&found))?;
        let value = set.get_field_by_name("value").context("a value")?;
        let is_bound = found.as_ref() == Some(&*value);
        let failure = response.get_field_by_name("failure");
        let applied = failure
            .as_ref()
            .and_then(|it| it.as_message()?.get_field_by_name("applied"));
        let is_right = match applied.and_then(|it| it.as_enum_number()) {
            _ if response.has_field_by_name("written") => is_bound,
            Some(NOT_APPLIED) => !is_bound,
            Some(UNKNOWN) => true,
            _ => false,
        };
        ensure!(
            is_right,
            "{name}: the key is bound to {found:?} after {}",
            shown(&response)
        );
        Ok(())
    }

    /// Asks what the key of a write is bound to.
    fn ask_for(&mut self, client: &str, set: &DynamicMessage) -> Result<Asked> {
        let caller = Table::from_iter([("client".to_owned(), client.into())]);
        let get = Table::from_iter([("caller".to_owned(), Toml::Table(caller))]);
        let whole = Table::from_iter([("get".to_owned(), Toml::Table(get))]);
        let mut request = message(&self.schema.request, &whole, &self.names)?;
        let key = set.get_field_by_name("key").context("a key")?.into_owned();
        if let Some(Value::Message(get)) = request.get_field_by_name_mut("get") {
            get.set_field_by_name("key", key);
        }
        let at = Instant::now();
        Ok(Asked {
            pending: self.program.ask(&request)?,
            request,
            at,
        })
    }

    /// Closes all clients, and waits for what is still out: each request has one response.
    async fn close(&mut self) -> Result<()> {
        for client in std::mem::take(&mut self.clients) {
            let table = Table::from_iter([("handle".to_owned(), client.into())]);
            let closing = async { self.ask("close", &table)?.pending.response().await };
            let closed = timeout(CLOSE, closing).await;
            closed.context("the program does not close its client")??;
        }
        for (name, background) in &mut self.background {
            if background.response.is_none() {
                let response = timeout(CLOSE, background.asked.pending.response()).await;
                let response = response.with_context(|| {
                    format!("{name:?} has no response although its client is closed")
                })?;
                background.response = Some(response?);
            }
        }
        Ok(())
    }
}

/// Whether the request is to be sent again after `response`.
fn is_skipped(response: &DynamicMessage, step: &Step, names: &Names) -> bool {
    let mut skipped = step.skip.iter();
    skipped.any(|it| matches(response, it, &mut names.clone()).is_ok())
}

/// The value that a `Got` says, if there is one.
fn entry_value(response: &DynamicMessage) -> Result<Option<Value>> {
    ensure!(response.has_field_by_name("got"), "it cannot be read");
    let got = response.get_field_by_name("got").context("got")?;
    let got = got.as_message().context("got")?;
    if !got.has_field_by_name("entry") {
        return Ok(None);
    }
    let entry = got.get_field_by_name("entry").context("an entry")?;
    let entry = entry.as_message().context("an entry")?;
    Ok(entry.get_field_by_name("value").map(|it| it.into_owned()))
}

/// The step at a time: `#` in its texts is the number of the time.
fn numbered(step: &Step, time: usize) -> Result<Step> {
    let number = time.to_string();
    let fill = |table: &Table| -> Result<Table> {
        let mut value = Toml::Table(table.clone());
        replace(&mut value, &number);
        Ok(value.try_into()?)
    };
    let action = match &step.action {
        Action::Request(name, table) => Action::Request(name.clone(), fill(table)?),
        Action::Await(name) => Action::Await(name.replace('#', &number)),
        Action::Cancel(name) => Action::Cancel(name.replace('#', &number)),
        Action::Outcomes(outcomes) => Action::Outcomes(Box::new(Outcomes {
            client: outcomes.client.clone(),
            of: outcomes.of.replace('#', &number),
        })),
        other => other.clone(),
    };
    Ok(Step {
        action,
        background: step.background.as_ref().map(|it| it.replace('#', &number)),
        expect: step.expect.iter().map(fill).collect::<Result<_>>()?,
        ..step.clone()
    })
}

fn replace(value: &mut Toml, number: &str) {
    match value {
        Toml::String(text) => *text = text.replace('#', number),
        Toml::Array(values) => values.iter_mut().for_each(|it| replace(it, number)),
        Toml::Table(table) => table.iter_mut().for_each(|(_, it)| replace(it, number)),
        _ => {}
    }
}
