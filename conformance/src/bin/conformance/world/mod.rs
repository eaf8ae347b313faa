//! Made-up nodes: they listen on ports of this machine, share one small true cluster, and do wrong what a case says.

mod backend;
mod fault;
mod frames;
mod gate;
mod node;
mod record;
mod role;
mod serve;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context as _, Result};
use serde::Deserialize;
use tokio::sync::watch;
use toml::Table;

use crate::expect::matches;
use crate::schema::{Schema, shown};
use crate::values::{Names, message};
use backend::{Backend, Backends};
use fault::Fault;
use node::Node;
use record::Record;

pub(crate) use fault::FaultSpec;
pub(crate) use record::Arrivals;
pub(crate) use role::RoleSpec;

/// The nodes of one case. They end when this is dropped.
#[derive(Debug)]
pub(crate) struct World {
    nodes: BTreeMap<String, Node>,
    clusters: Backends,
    script: Arc<Script>,
    schema: Schema,
}

/// A call to a true cluster, past the made-up nodes.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Direct {
    /// The method.
    method: String,
    /// The request.
    request: Table,
    /// What the answer contains.
    #[serde(default)]
    expect: Table,
    /// The cluster.
    #[serde(default = "main_cluster")]
    cluster: String,
}

fn main_cluster() -> String {
    role::MAIN.to_owned()
}

/// What all nodes share.
#[derive(Debug)]
struct Script {
    schema: Schema,
    state: Mutex<State>,
    /// The number of requests that have come, and of answers.
    changes: watch::Sender<u64>,
    /// How often the calls that hang were released.
    released: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct State {
    faults: Vec<Fault>,
    records: Vec<Record>,
}

impl Script {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn changed(&self) {
        self.changes.send_modify(|changes| *changes += 1);
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // Calls that hang end with the world.
        self.release();
    }
}

impl World {
    /// Starts the nodes of a case. `seed` is different for each case.
    ///
    /// # Errors
    ///
    /// One does not start.
    pub(crate) async fn start(
        specs: &BTreeMap<String, RoleSpec>,
        schema: &Schema,
        seed: u64,
        names: &mut Names,
    ) -> Result<Self> {
        let script = Arc::new(Script {
            schema: schema.clone(),
            state: Mutex::default(),
            changes: watch::Sender::new(0),
            released: watch::Sender::new(0),
        });
        let mut clusters = Backends::new();
        for (name, seed) in specs.values().flat_map(RoleSpec::clusters).zip(seed * 16..) {
            if !clusters.contains_key(name) {
                let backend = Backend::start(seed + 1).await?;
                names.saved.insert(name.to_owned(), backend.cluster_id);
                clusters.insert(name.to_owned(), Arc::new(backend));
            }
        }
        let mut nodes = BTreeMap::new();
        for name in specs.keys() {
            let node = Node::bind(name, Arc::clone(&script))?;
            names.addresses.insert(name.clone(), node.address.clone());
            nodes.insert(name.clone(), node);
        }
        let mut world = Self {
            nodes,
            clusters,
            script,
            schema: schema.clone(),
        };
        world.change(specs, names).await?;
        Ok(world)
    }

    /// The nodes have other roles from now on.
    pub(crate) async fn change(
        &mut self,
        specs: &BTreeMap<String, RoleSpec>,
        names: &Names,
    ) -> Result<()> {
        for (name, spec) in specs {
            let role = spec.role(&self.clusters, &self.schema, names)?;
            let node = self.nodes.get_mut(name);
            node.with_context(|| format!("there is no node {name:?}"))?
                .set(role)
                .await?;
        }
        Ok(())
    }

    /// The next request that it concerns meets this fault.
    pub(crate) fn add(&self, spec: &FaultSpec, names: &Names) -> Result<()> {
        let fault = spec.fault(&self.schema, names)?;
        self.script.lock().faults.push(fault);
        Ok(())
    }

    /// The calls that hang go on.
    pub(crate) fn release(&self) {
        self.script.released.send_modify(|released| *released += 1);
    }

    /// Checks which requests have come.
    pub(crate) fn check(&self, arrivals: &Arrivals, names: &mut Names) -> Result<()> {
        arrivals.check(&self.script.lock().records, names)
    }

    /// Waits until such requests have come.
    pub(crate) async fn wait_for(&self, arrivals: &Arrivals, names: &Names) -> Result<()> {
        let mut changes = self.script.changes.subscribe();
        loop {
            changes.mark_unchanged();
            if arrivals.have_come(&self.script.lock().records, names)? {
                return Ok(());
            }
            changes.changed().await?;
        }
    }

    /// Asks a true cluster directly, as another client.
    pub(crate) async fn ask(&self, direct: &Direct, names: &mut Names) -> Result<()> {
        let cluster = self.clusters.get(&direct.cluster);
        let cluster =
            cluster.with_context(|| format!("there is no cluster {:?}", direct.cluster))?;
        let method = self.schema.method(&direct.method)?;
        let request = message(&method.input(), &direct.request, names)?;
        let answer = cluster.ask(&method, &request).await?;
        matches(&answer, &direct.expect, names).with_context(|| shown(&answer))
    }

    /// The requests so far, for a report.
    pub(crate) fn requests(&self) -> Vec<String> {
        let state = self.script.lock();
        let records = state.records.iter();
        records
            .map(|it| format!("{}: {}", it.node, shown(&it.message)))
            .collect()
    }
}
