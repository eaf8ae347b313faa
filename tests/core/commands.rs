//! The commands of a script.

use std::error::Error;
use std::fmt::Display;
use std::str::FromStr;

use bytes::Bytes;
use seshat::cluster::recovery::Order;
use seshat::kv;
use seshat::node::{OutgoingSnapshot, PeerMessage, RaftOptions};
use seshat::proto::raft as proto;
use seshat::types::{
    ClientId, ClusterId, NodeId, NodeState, NodeStatus, ProtocolLevel, RaftId, Term, WallTime,
};
use seshat::watch::{WatchBounds, WatchSpec};

use crate::cluster::{Cluster, Filter, Result, info};
use crate::show;

/// The commands, each with its arguments as a script writes them. A node is named by its number.
#[derive(goldenscript::Command)]
pub(crate) enum Command {
    /// `cluster nodes=3`: the first command, makes nodes 1 to 3 without knowledge of one another. The
    /// others set options of the core.
    Cluster {
        #[arg(key)]
        nodes: u16,
        #[arg(key)]
        append_bytes: Option<u64>,
        #[arg(key)]
        inflight: Option<usize>,
        #[arg(key)]
        uncommitted_bytes: Option<usize>,
        #[arg(key)]
        state_bytes: Option<usize>,
        #[arg(key)]
        pending: Option<usize>,
        #[arg(key)]
        read_batch: Option<usize>,
        #[arg(key)]
        compact_after: Option<usize>,
        #[arg(key)]
        compact_bytes: Option<usize>,
        #[arg(key)]
        compact_keep: Option<usize>,
        #[arg(key)]
        level: Option<u32>,
        #[arg(key)]
        watch_patience: Option<u64>,
    },
    /// `form`: ticks and delivers until all nodes take part in one cluster, with a leader, and know
    /// the same commit index.
    Form,
    /// `tick 1 2 n=5`: 5 ticks at nodes 1 and 2, or 1 tick at every node.
    Tick {
        #[arg(optional)]
        nodes: Vec<u16>,
        #[arg(key)]
        n: Option<usize>,
    },
    /// `timeout 1`: as many ticks at node 1 as its election timeout has.
    Timeout { node: u16 },
    /// `deliver from=1 to=2 kind=Heartbeat n=1`: delivers the packets under way, one link after the
    /// other, but not those that result.
    Deliver {
        #[arg(key)]
        from: Option<u16>,
        #[arg(key)]
        to: Option<u16>,
        #[arg(key)]
        kind: Option<String>,
        #[arg(key)]
        n: Option<usize>,
    },
    /// `drop …`, as `deliver`: loses it.
    Drop {
        #[arg(key)]
        from: Option<u16>,
        #[arg(key)]
        to: Option<u16>,
        #[arg(key)]
        kind: Option<String>,
        #[arg(key)]
        n: Option<usize>,
    },
    /// `stabilize`: delivers until nothing is under way.
    Stabilize,
    /// `run n=5`: 5 times a tick at every node that runs, and everything that results.
    Run {
        #[arg(key)]
        n: Option<usize>,
    },
    /// `partition 1 2`: from now on, nodes 1 and 2 reach only each other. Packets under way arrive.
    Partition { nodes: Vec<u16> },
    /// `cut 1 2`: from now on, node 1 does not reach node 2.
    Cut { from: u16, to: u16 },
    /// `heal`: all nodes reach one another.
    Heal,
    /// `crash 1`: the process ends.
    Crash { node: u16 },
    /// `restart 1`: the next incarnation of node 1 begins; the present one ends, if it has not yet. With
    /// `level=2` it is of a version that speaks this level, as are its later incarnations.
    Restart {
        node: u16,
        #[arg(key)]
        level: Option<u32>,
    },
    /// `clock 2 minutes=61`: the wall clock of node 2 is so far ahead of the others, which stand still.
    /// Without minutes its time is not credible.
    Clock {
        node: u16,
        #[arg(key)]
        minutes: Option<u64>,
    },
    /// `join 4`: node 4 is started for the first time, with a configuration for joining a running
    /// cluster.
    Join { node: u16 },
    /// `add 1 4 5`: asks node 1 to make nodes 4 and 5 members, in one turn of the driver.
    Add { node: u16, members: Vec<u16> },
    /// `remove 1 4`: asks node 1 to remove the member node 4.
    Remove { node: u16, members: Vec<u16> },
    /// `members 1`: the members that node 1 has applied, the processes that take part, and those that it
    /// can reach.
    Members {
        #[arg(optional)]
        nodes: Vec<u16>,
    },
    /// `open 1 7`: opens session 7. With `ttl=10000` it lives.
    Open {
        node: u16,
        sessions: Vec<u64>,
        #[arg(key)]
        ttl: Option<u64>,
    },
    /// `close 1 7`: ends session 7.
    Close { node: u16, sessions: Vec<u64> },
    /// `keep_alive 1 7 8`: two callers renew sessions 7 and 8.
    KeepAlive { node: u16, sessions: Vec<u64> },
    /// `list_sessions 1 after=7 limit=2`: a page of the living sessions.
    ListSessions {
        node: u16,
        #[arg(key)]
        after: Option<u64>,
        #[arg(key)]
        limit: Option<usize>,
    },
    /// `acquire 1 a number=7/1 wait=1000`: claims lock a under number 1 of session 7.
    Acquire {
        node: u16,
        name: String,
        #[arg(key)]
        number: Option<Number>,
        #[arg(key)]
        wait: Option<u64>,
    },
    /// `release 1 a number=7/1`: ends that claim.
    Release {
        node: u16,
        name: String,
        #[arg(key)]
        number: Option<Number>,
    },
    /// `claim 1 a number=7/1`: reads the state of that claim.
    Claim {
        node: u16,
        name: String,
        #[arg(key)]
        number: Option<Number>,
    },
    /// `inspect 1 a`: reads who holds lock a.
    Inspect { node: u16, name: String },
    /// `locks 1`: the claims to all locks at a node.
    Locks {
        #[arg(optional)]
        nodes: Vec<u16>,
    },
    /// `pause 1 millis=5000`: node 1 does nothing for 5 s, and then notices what time it is.
    Pause {
        node: u16,
        #[arg(key)]
        millis: u64,
    },
    /// `lifetimes 1`: the keys of a node that end, and when; its living sessions; its clock.
    Lifetimes {
        #[arg(optional)]
        nodes: Vec<u16>,
    },
    /// `sessions 1`: the sessions that a node knows, and the answers that they remember.
    Sessions {
        #[arg(optional)]
        nodes: Vec<u16>,
    },
    /// `set 1 a=1 b=2`: two writes of two callers, in one turn of the driver. `number=7/3` makes it
    /// number 3 of session 7, `number=7/3/2` says that 2 is the lowest that is outstanding.
    Set {
        node: u16,
        #[arg(key)]
        number: Option<Number>,
        #[arg(key, many)]
        pairs: Vec<(String, String)>,
    },
    /// `txn 1 when="a=1" then="set a=2; get b" otherwise="get a"`: a transaction. `number` is as for `set`.
    Txn {
        node: u16,
        #[arg(key)]
        when: Option<String>,
        #[arg(key)]
        then: Option<String>,
        #[arg(key)]
        otherwise: Option<String>,
        #[arg(key)]
        number: Option<Number>,
    },
    /// `fill 1 keys=3000 ttl=1000`: as many keys with that TTL, 100 by each transaction.
    Fill {
        node: u16,
        #[arg(key)]
        keys: u32,
        #[arg(key)]
        ttl: u64,
    },
    /// `del 1 a`: a removal.
    Del {
        node: u16,
        #[arg(key)]
        number: Option<Number>,
        keys: Vec<String>,
    },
    /// `get 1 a b`: two reads of two callers, in one turn of the driver.
    Get { node: u16, keys: Vec<String> },
    /// `watch 2 prefix=a after=3 min=4 progress=2`: a client watches the keys with a prefix at node 2. It has
    /// the state of revision 3, and has seen revision 4. Every 2 ticks it is told that nothing has changed.
    Watch {
        node: u16,
        #[arg(key)]
        prefix: Option<String>,
        #[arg(key)]
        after: Option<u64>,
        #[arg(key)]
        min: Option<u64>,
        #[arg(key)]
        progress: Option<u64>,
    },
    /// `watches`: the messages that the clients of watches have got since the last time.
    Watches,
    /// `submit 1 a/1 a b/2`: a write, a read and a write, in that order and in one turn of the driver.
    Submit { node: u16, commands: Vec<String> },
    /// `transfer 1 to=2`: transfers leadership, to the best transferee if none is named.
    Transfer {
        node: u16,
        #[arg(key)]
        to: Option<u16>,
    },
    /// `form_without 2 1`: an operator asks node 2 to form the cluster without node 1.
    FormWithout {
        node: u16,
        #[arg(optional)]
        without: Vec<u16>,
    },
    /// `recover 1`: an operator lets node 1 make a new cluster of its state. With `dry_run=true` it only
    /// describes the recovery; with `stray=true` the operator names another cluster. With `without=3`
    /// the operator states that node 3 is gone for good, with `incomplete=true` accepts a learner.
    Recover {
        node: u16,
        #[arg(key, optional)]
        dry_run: bool,
        #[arg(key, optional)]
        stray: bool,
        #[arg(key)]
        without: Option<u16>,
        #[arg(key, optional)]
        incomplete: bool,
    },
    /// `unreachable 1 peer=2`: the transport of node 1 reports that messages to 2 do not arrive.
    Unreachable {
        node: u16,
        #[arg(key)]
        peer: u16,
    },
    /// `snapshot_report 1 peer=2 delivered=true`: the transport of node 1 reports how the sending
    /// of a snapshot ended.
    SnapshotReport {
        node: u16,
        #[arg(key)]
        peer: u16,
        #[arg(key)]
        delivered: bool,
    },
    /// `send Heartbeat from=1 to=2 term=2 commit=9`: puts a message on its way that no node has
    /// sent. `term` is the receiver's unless it is given.
    Send {
        kind: String,
        #[arg(key)]
        from: u16,
        #[arg(key)]
        to: u16,
        #[arg(key)]
        term: Option<Term>,
        /// Entry before those that are appended.
        #[arg(key)]
        prev: Option<LogPosition>,
        /// Number of entries that are appended.
        #[arg(key)]
        entries: Option<u64>,
        #[arg(key)]
        commit: Option<u64>,
        /// Index that an answer to an append claims to match.
        #[arg(key = "match", optional)]
        matched: u64,
        /// Last entry of a candidate, or of a snapshot.
        #[arg(key)]
        last: Option<LogPosition>,
        /// Whether the snapshot comes without its state machine.
        #[arg(key, optional)]
        bare: bool,
        /// Whether the message is of another cluster.
        #[arg(key, optional)]
        stray: bool,
    },
    /// `status 1 2`: the status of these nodes, or of all.
    Status {
        #[arg(optional)]
        nodes: Vec<u16>,
    },
    /// `log 1`: the log of a node.
    Log {
        #[arg(optional)]
        nodes: Vec<u16>,
    },
    /// `map 1`: the map of a node.
    Map {
        #[arg(optional)]
        nodes: Vec<u16>,
    },
    /// `waiters`: the callers that have not been answered.
    Waiters,
}

/// An entry of the log, written `index@term`.
#[derive(Clone, Copy)]
pub(crate) struct LogPosition {
    index: u64,
    term: Term,
}

impl FromStr for LogPosition {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let fault = || format!("{text} is not index@term");
        let (index, term) = text.split_once('@').ok_or_else(fault)?;
        Ok(Self {
            index: index.parse().map_err(|_| fault())?,
            term: term.parse().map_err(|_| fault())?,
        })
    }
}

/// The number of a write, written `session/sequence/first_outstanding`.
#[derive(Clone, Copy)]
pub(crate) struct Number(kv::Stamp);

impl FromStr for Number {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let fault = || format!("{text} is not session/sequence/first_outstanding");
        let (session, rest) = text.split_once('/').ok_or_else(fault)?;
        let (sequence, first) = rest.split_once('/').unwrap_or((rest, "1"));
        let number = |text: &str| text.parse().map_err(|_| fault());
        Ok(Self(kv::Stamp {
            client_id: ClientId(number(session)?),
            sequence: number(sequence)?,
            first_outstanding: number(first)?,
        }))
    }
}

/// A script that runs.
#[derive(Default)]
pub(crate) struct Script {
    cluster: Option<Cluster>,
}

impl goldenscript::Runner for Script {
    type Command = Command;

    fn run(
        &mut self,
        command: &Command,
        _: &goldenscript::Context,
    ) -> std::result::Result<String, Box<dyn Error>> {
        if let Command::Cluster { .. } = command {
            return self.make_cluster(command);
        }
        let cluster = self
            .cluster
            .as_mut()
            .ok_or("a script begins with a cluster")?;
        let done = obey(cluster, command);
        let trace = cluster.take_trace();
        // A failure shows the output before it.
        done.map_err(|error| format!("{trace}{error}"))?;
        Ok(trace)
    }

    /// No caller is left without an answer.
    fn end_script(&mut self) -> std::result::Result<(), Box<dyn Error>> {
        let waiting = self
            .cluster
            .as_ref()
            .map_or_else(Vec::new, Cluster::waiting);
        if waiting.is_empty() {
            Ok(())
        } else {
            Err(format!("the script ends while callers wait: {waiting:?}").into())
        }
    }
}

impl Script {
    fn make_cluster(&mut self, command: &Command) -> Result<String> {
        let &Command::Cluster {
            nodes,
            append_bytes,
            inflight,
            uncommitted_bytes,
            state_bytes,
            pending,
            read_batch,
            compact_after,
            compact_bytes,
            compact_keep,
            level,
            watch_patience,
        } = command
        else {
            return Err("no cluster".into());
        };
        let defaults = RaftOptions::default();
        let options = RaftOptions {
            max_append_bytes: append_bytes.unwrap_or(defaults.max_append_bytes),
            max_inflight_appends: inflight.unwrap_or(defaults.max_inflight_appends),
            max_uncommitted_bytes: uncommitted_bytes.unwrap_or(defaults.max_uncommitted_bytes),
            max_state_bytes: state_bytes.unwrap_or(defaults.max_state_bytes),
            max_pending_requests: pending.unwrap_or(defaults.max_pending_requests),
            max_read_batch: read_batch.unwrap_or(defaults.max_read_batch),
            compact_after_entries: compact_after.unwrap_or(defaults.compact_after_entries),
            compact_after_bytes: compact_bytes.unwrap_or(defaults.compact_after_bytes),
            compact_keep_entries: compact_keep.unwrap_or(defaults.compact_keep_entries),
            level: level.map_or(defaults.level, ProtocolLevel::new),
            watch: WatchBounds {
                patience_ticks: watch_patience.unwrap_or(defaults.watch.patience_ticks),
                ..defaults.watch
            },
            ..defaults
        };
        self.cluster = Some(Cluster::new(nodes, options));
        Ok(String::new())
    }
}

fn node(id: u16) -> Result<NodeId> {
    NodeId::new(id).ok_or_else(|| "0 is no node".into())
}

fn nodes(cluster: &Cluster, ids: &[u16]) -> Result<Vec<NodeId>> {
    if ids.is_empty() {
        return Ok(cluster.node_ids());
    }
    ids.iter().map(|&id| node(id)).collect()
}

fn filter(
    from: Option<u16>,
    to: Option<u16>,
    kind: Option<&String>,
    limit: Option<usize>,
) -> Result<Filter> {
    Ok(Filter {
        from: from.map(node).transpose()?,
        to: to.map(node).transpose()?,
        kind: kind.cloned(),
        limit,
    })
}

fn obey(cluster: &mut Cluster, command: &Command) -> Result<()> {
    match command {
        Command::Cluster { .. } => Err("a script has one cluster".into()),
        Command::Form => form(cluster),
        Command::Tick { nodes: ids, n } => {
            for _ in 0..n.unwrap_or(1) {
                for node in nodes(cluster, ids)? {
                    cluster.tick(node)?;
                }
            }
            Ok(())
        }
        Command::Timeout { node: id } => cluster.time_out(node(*id)?),
        Command::Deliver { from, to, kind, n } => {
            match cluster.deliver(&filter(*from, *to, kind.as_ref(), *n)?)? {
                0 => Err("there is nothing to deliver".into()),
                _ => Ok(()),
            }
        }
        Command::Drop { from, to, kind, n } => {
            cluster.lose(&filter(*from, *to, kind.as_ref(), *n)?);
            Ok(())
        }
        Command::Stabilize => stabilize(cluster),
        Command::Run { n } => (0..n.unwrap_or(1)).try_for_each(|_| run(cluster)),
        Command::Partition { nodes: ids } => {
            let inside = nodes(cluster, ids)?;
            for outside in cluster.node_ids() {
                if !inside.contains(&outside) {
                    for &inside in &inside {
                        cluster.cut(inside, outside);
                        cluster.cut(outside, inside);
                    }
                }
            }
            Ok(())
        }
        Command::Cut { from, to } => {
            cluster.cut(node(*from)?, node(*to)?);
            Ok(())
        }
        Command::Heal => {
            cluster.heal();
            Ok(())
        }
        Command::Crash { node: id } => cluster.crash(node(*id)?),
        Command::Restart { node: id, level } => {
            cluster.restart(node(*id)?, level.map(ProtocolLevel::new))
        }
        Command::Clock { node: id, minutes } => {
            let micros = minutes.map(|minutes| WallTime::FIRST.micros() + minutes * 60_000_000);
            cluster.set_clock(node(*id)?, micros.and_then(WallTime::new));
            Ok(())
        }
        Command::Join { node: id } => cluster.join(node(*id)?),
        Command::Add { node: id, members } => {
            let add = |id: &u16| Ok(kv::Command::AddMember(info(node(*id)?)));
            let commands: Result<_> = members.iter().map(add).collect();
            cluster.propose(node(*id)?, commands?)
        }
        Command::Remove { node: id, members } => {
            let remove = |id: &u16| Ok(kv::Command::RemoveMember(node(*id)?));
            let commands: Result<_> = members.iter().map(remove).collect();
            cluster.propose(node(*id)?, commands?)
        }
        Command::Members { nodes: ids } => {
            for node in nodes(cluster, ids)? {
                let line = cluster.show_members(node);
                let line = line.unwrap_or_else(|error| error.to_string());
                cluster.line(line);
            }
            Ok(())
        }
        Command::Open {
            node: id,
            sessions,
            ttl,
        } => {
            let open = |&id: &u64| match *ttl {
                None => kv::Command::OpenSession(ClientId(id)),
                Some(ttl) => kv::Command::OpenLivingSession {
                    client_id: ClientId(id),
                    ttl,
                },
            };
            cluster.propose(node(*id)?, sessions.iter().map(open).collect())
        }
        Command::Close { node: id, sessions } => {
            let close = |&id: &u64| kv::Command::CloseSession(ClientId(id));
            cluster.propose(node(*id)?, sessions.iter().map(close).collect())
        }
        Command::KeepAlive { node: id, sessions } => cluster.keep_alive(node(*id)?, sessions),
        Command::ListSessions {
            node: id,
            after,
            limit,
        } => cluster.list_sessions(node(*id)?, after.unwrap_or(0), limit.unwrap_or(1000)),
        Command::Acquire {
            node: id,
            name,
            number,
            wait,
        } => {
            let acquire = kv::Write::Acquire(Box::new(kv::Acquire {
                name: name.as_str().into(),
                value: Default::default(),
                max_wait: *wait,
            }));
            cluster.propose(node(*id)?, numbered(std::iter::once(acquire), *number))
        }
        Command::Release {
            node: id,
            name,
            number,
        } => {
            let release = kv::Write::Release(name.as_str().into());
            cluster.propose(node(*id)?, numbered(std::iter::once(release), *number))
        }
        Command::Claim {
            node: id,
            name,
            number,
        } => {
            let Number(stamp) = number.ok_or("a claim has a number")?;
            let query = kv::Query::Claim {
                name: name.as_str().into(),
                id: kv::ClaimId {
                    client_id: stamp.client_id,
                    sequence: stamp.sequence,
                },
            };
            cluster.query(node(*id)?, format!("claim {name}"), query)
        }
        Command::Inspect { node: id, name } => {
            let query = kv::Query::Lock(name.as_str().into());
            cluster.query(node(*id)?, format!("inspect {name}"), query)
        }
        Command::Locks { nodes: ids } => {
            for node in nodes(cluster, ids)? {
                let line = show::locks(cluster.raft(node)?.storage().state_machine());
                cluster.line(format_args!("n{node} {line}"));
            }
            Ok(())
        }
        Command::Pause { node: id, millis } => {
            cluster.pass(node(*id)?, *millis);
            Ok(())
        }
        Command::Lifetimes { nodes: ids } => {
            for node in nodes(cluster, ids)? {
                let line = show::lifetimes(cluster.raft(node)?.storage().state_machine());
                cluster.line(format_args!("n{node} {line}"));
            }
            Ok(())
        }
        Command::Sessions { nodes: ids } => {
            for node in nodes(cluster, ids)? {
                let sessions = cluster.raft(node)?.storage().state_machine().sessions();
                let sorted = sessions.sorted();
                let lines: Vec<_> = sorted
                    .iter()
                    .map(|(id, session)| show::session((*id, session)))
                    .collect();
                cluster.line(format_args!("n{node} sessions [{}]", lines.join(", ")));
            }
            Ok(())
        }
        Command::Set {
            node: id,
            number,
            pairs,
        } => {
            let set = |(key, value): &(String, String)| kv::Write::Set {
                key: key.clone().into(),
                value: value.clone().into(),
            };
            let writes = pairs.iter().map(set);
            cluster.propose(node(*id)?, numbered(writes, *number))
        }
        Command::Fill {
            node: id,
            keys,
            ttl,
        } => {
            let keys: Vec<_> = (0..*keys).collect();
            let set = |key: &u32| format!("set {key:05}= for {ttl}");
            for keys in keys.chunks(100) {
                let sets: Vec<_> = keys.iter().map(set).collect();
                let txn = crate::txn::parse("", &sets.join(";"), "")?;
                let write = kv::Write::Txn(Box::new(txn));
                cluster.propose(node(*id)?, vec![write.into()])?;
            }
            Ok(())
        }
        Command::Txn {
            node: id,
            when,
            then,
            otherwise,
            number,
        } => {
            let text = |text: &Option<String>| text.clone().unwrap_or_default();
            let txn = crate::txn::parse(&text(when), &text(then), &text(otherwise))?;
            match txn.writes() {
                true => {
                    let write = kv::Write::Txn(Box::new(txn));
                    cluster.propose(node(*id)?, numbered([write].into_iter(), *number))
                }
                false => cluster.read_txn(node(*id)?, txn),
            }
        }
        Command::Del {
            node: id,
            number,
            keys,
        } => {
            let delete = |key: &String| kv::Write::Delete {
                key: key.clone().into(),
            };
            let writes = keys.iter().map(delete);
            cluster.propose(node(*id)?, numbered(writes, *number))
        }
        Command::Get { node: id, keys } => cluster.read(node(*id)?, keys.clone()),
        Command::Watch {
            node: id,
            prefix,
            after,
            min,
            progress,
        } => {
            let at = |revision: u64| WallTime::FIRST.micros() + revision;
            let id = node(*id)?;
            let cluster_id = cluster.status(id)?.cluster_id;
            let prefix = prefix.clone().unwrap_or_default();
            cluster.watch(
                id,
                WatchSpec {
                    range: kv::KeyRange::prefix(prefix.into()),
                    after: cluster_id.zip(after.map(at)),
                    min_revision: min.map_or(0, at),
                    keys_only: false,
                    progress_ticks: *progress,
                },
            )
        }
        Command::Watches => {
            cluster.show_watches();
            Ok(())
        }
        Command::Submit { node: id, commands } => {
            let parse = |command: &String| match command.split_once('/') {
                Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
                None => (command.clone(), None),
            };
            cluster.submit(node(*id)?, commands.iter().map(parse).collect())
        }
        Command::Transfer { node: id, to } => {
            cluster.transfer(node(*id)?, to.map(node).transpose()?)
        }
        Command::FormWithout { node: id, without } => {
            let without: Result<_> = without.iter().map(|&id| node(id)).collect();
            cluster.form_without(node(*id)?, without?)
        }
        Command::Recover {
            node: id,
            dry_run,
            stray,
            without,
            incomplete,
        } => {
            let without: Result<_> = without.iter().map(|&id| node(id)).collect();
            let order = Order {
                cluster_id: ClusterId(0),
                without: without?,
                incomplete: *incomplete,
            };
            cluster.recover(node(*id)?, order, *dry_run, *stray)
        }
        Command::Unreachable { node: id, peer } => {
            cluster.report_unreachable(node(*id)?, node(*peer)?)
        }
        Command::SnapshotReport {
            node: id,
            peer,
            delivered,
        } => cluster.report_snapshot(node(*id)?, node(*peer)?, *delivered),
        Command::Send { bare, .. } => match craft(cluster, command)? {
            PeerMessage::InstallSnapshot(request) if !*bare => {
                cluster.inject_snapshot(OutgoingSnapshot {
                    header: request.into(),
                    state_machine: kv::StateMachine::default(),
                })
            }
            message => cluster.inject(message),
        },
        Command::Status { nodes: ids } => {
            for node in nodes(cluster, ids)? {
                let line = status(cluster, node)?;
                cluster.line(line);
            }
            Ok(())
        }
        Command::Log { nodes: ids } => {
            for node in nodes(cluster, ids)? {
                let storage = cluster.raft(node)?.storage();
                let entries = (1..).filter_map(|index| storage.entry(index));
                let entries = entries.take(storage.log_entries()).map(show::log_entry);
                let entries: Vec<_> = entries.collect();
                cluster.line(format_args!("n{node} log [{}]", entries.join(", ")));
            }
            Ok(())
        }
        Command::Map { nodes: ids } => {
            for node in nodes(cluster, ids)? {
                let map = cluster.raft(node)?.storage().state_machine();
                let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
                let pairs = map.sorted_pairs().into_iter();
                let pairs = pairs.map(|(key, value)| format!("{}={}", text(&key), text(&value)));
                let pairs: Vec<_> = pairs.collect();
                cluster.line(format_args!("n{node} map [{}]", pairs.join(", ")));
            }
            Ok(())
        }
        Command::Waiters => {
            for waiting in cluster.waiting() {
                cluster.line(format_args!("{waiting}"));
            }
            Ok(())
        }
    }
}

fn numbered(writes: impl Iterator<Item = kv::Write>, number: Option<Number>) -> Vec<kv::Command> {
    let stamp = number.map(|Number(stamp)| stamp);
    let command = |write| kv::Command::Write { write, stamp };
    writes.map(command).collect()
}

fn stabilize(cluster: &mut Cluster) -> Result<()> {
    for _ in 0..100 {
        if cluster.deliver(&Filter::default())? == 0 {
            return Ok(());
        }
    }
    Err("messages cause messages without end".into())
}

/// A tick at every node, and everything that results.
fn run(cluster: &mut Cluster) -> Result<()> {
    for node in cluster.node_ids() {
        if cluster.status(node).is_ok() {
            cluster.tick(node)?;
        }
    }
    stabilize(cluster)
}

fn form(cluster: &mut Cluster) -> Result<()> {
    for _ in 0..20 {
        run(cluster)?;
        let all: Result<Vec<_>> = cluster
            .node_ids()
            .into_iter()
            .map(|node| cluster.status(node))
            .collect();
        let view = |status: &NodeStatus| (status.cluster_id, status.leader, status.commit_index);
        let mut views: Vec<_> = all?.iter().map(view).collect();
        views.dedup();
        if matches!(views.as_slice(), [(Some(_), Some(_), _)]) {
            return Ok(());
        }
    }
    Err("no cluster has formed".into())
}

fn status(cluster: &mut Cluster, node: NodeId) -> Result<String> {
    let Ok(status) = cluster.status(node) else {
        return Ok(format!("n{node} does not run"));
    };
    let state = cluster.names().state(&status);
    let Some(role) = status.role.filter(|_| status.state == NodeState::Started) else {
        return Ok(state);
    };
    let leader = status
        .leader
        .map_or_else(|| "none".to_owned(), show::process);
    let NodeStatus {
        raft_id,
        term,
        commit_index,
        applied_index,
        keys,
        ..
    } = status;
    let name = show::process(raft_id);
    Ok(format!(
        "{name} {role} term={term} leader={leader} commit={commit_index} applied={applied_index} \
         keys={keys}"
    ))
}

/// The message of a `send` command.
fn craft(cluster: &mut Cluster, command: &Command) -> Result<PeerMessage> {
    let Command::Send {
        kind,
        from,
        to,
        term,
        prev,
        entries,
        commit,
        matched,
        last,
        bare: _,
        stray,
    } = command
    else {
        return Err("nothing to send".into());
    };
    let receiver = cluster.status(node(*to)?)?;
    let sender = cluster.status(node(*from)?).map(|status| status.raft_id);
    // A process that is no node has a first incarnation as well.
    let sender = sender.or_else(|_| Ok::<_, Box<dyn Error>>(RaftId::new(node(*from)?, 1)))?;
    let (from, to) = (sender.get(), receiver.raft_id.get());
    let term = term.unwrap_or(receiver.term);
    let cluster_id = receiver.cluster_id.ok_or("the receiver has no cluster")?.0;
    let cluster_id = cluster_id ^ u64::from(*stray);
    let commit = commit.unwrap_or(receiver.commit_index);
    let needed = |position: &Option<LogPosition>, what: &dyn Display| {
        position.ok_or_else(|| format!("{kind} needs {what}=index@term"))
    };
    Ok(match kind.as_str() {
        "Heartbeat" => PeerMessage::Heartbeat(proto::HeartbeatRequest {
            term,
            leader_id: from,
            leader_commit: commit,
            read_context: Bytes::new(),
            cluster_id,
            to,
        }),
        "HeartbeatReply" => PeerMessage::HeartbeatReply(proto::HeartbeatResponse {
            term,
            follower_id: from,
            commit_index: commit,
            read_context: Bytes::new(),
            cluster_id,
            to,
            watched: false,
        }),
        "AppendEntries" => {
            let prev = needed(prev, &"prev")?;
            let indices = (prev.index + 1..).take(usize::try_from(entries.unwrap_or(0))?);
            let entry = |index| proto::Entry {
                term,
                index,
                context: Bytes::new(),
                payload: None,
            };
            PeerMessage::AppendEntries(proto::AppendEntriesRequest {
                term,
                leader_id: from,
                prev_log_index: prev.index,
                prev_log_term: prev.term,
                entries: indices.map(entry).collect(),
                leader_commit: commit,
                cluster_id,
                to,
            })
        }
        "AppendEntriesReply" => PeerMessage::AppendEntriesReply(proto::AppendEntriesResponse {
            term,
            success: true,
            follower_id: from,
            index: *matched,
            commit_index: commit,
            cluster_id,
            to,
            ..proto::AppendEntriesResponse::default()
        }),
        "RequestVote" => {
            let last = needed(last, &"last")?;
            PeerMessage::RequestVote(proto::RequestVoteRequest {
                term,
                candidate_id: from,
                last_log_index: last.index,
                last_log_term: last.term,
                campaign: proto::CampaignKind::Election.into(),
                cluster_id,
                to,
                ..proto::RequestVoteRequest::default()
            })
        }
        "TimeoutNow" => PeerMessage::TimeoutNow(proto::TimeoutNowRequest {
            term,
            leader_id: from,
            cluster_id,
            to,
        }),
        "InstallSnapshot" => {
            let last = needed(last, &"last")?;
            let members = cluster.raft(receiver.raft_id.node_id())?.voters();
            PeerMessage::InstallSnapshot(proto::InstallSnapshotRequest {
                term,
                leader_id: from,
                last_included_index: last.index,
                last_included_term: last.term,
                done: true,
                conf_state: Some(proto::ConfState {
                    voters: members.into_iter().map(RaftId::get).collect(),
                    ..proto::ConfState::default()
                }),
                cluster_id,
                to,
                ..proto::InstallSnapshotRequest::default()
            })
        }
        other => return Err(format!("no node can send a {other} here").into()),
    })
}
