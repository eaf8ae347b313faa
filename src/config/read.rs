//! A whole [`Config`], read field by field.

use super::fault::Problems;
use super::numbers::{Limits, RaftConfig};
use super::reader::{CLIENT_LISTENER, INTERNAL_LISTENER, Reader};
use super::settings::Settings;
use super::{ClusterConfig, Config, NodeConfig};

/// Reads every field.
pub(super) fn config(settings: Settings, faults: &mut Problems) -> Config {
    let mut reader = Reader::new(settings, faults);
    let node = NodeConfig {
        id: reader.node_id(
            "node.id",
            "the id of this machine, one of cluster.initial_members",
        ),
        client_addr: reader.address("node.client_addr", CLIENT_LISTENER),
        internal_addr: reader.address("node.internal_addr", INTERNAL_LISTENER),
        data_dir: reader.data_dir(),
        log_format: reader.log_format(),
    };
    let bootstrap = reader.boolean("cluster.bootstrap", true);
    let wait_for_survivors = reader.boolean("cluster.wait_for_survivors", true);
    let initial_members = reader.members();
    let replication_factor = reader.number(
        "cluster.replication_factor",
        initial_members.len(),
        &(1..=usize::from(u16::MAX)),
    );
    Config {
        node,
        cluster: ClusterConfig {
            bootstrap,
            wait_for_survivors,
            initial_members,
            replication_factor,
        },
        raft: RaftConfig::read(&mut reader),
        limits: Limits::read(&mut reader),
    }
}
