//! The opener of a connection: the node whose process holds the other end of it.
//!
//! All nodes reach a node at the same address, so an accepted connection does not show its origin. Linux
//! knows it: the table of sockets has the inode of each, and each process lists its sockets.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};

/// The processes of the nodes, which change whenever a node is started again.
#[derive(Debug, Clone, Default)]
pub(crate) struct Openers(Arc<Mutex<BTreeMap<usize, u32>>>);

impl Openers {
    /// `node` runs as process `id` from now on, or does not run.
    pub(crate) fn set(&self, node: usize, id: Option<u32>) {
        let mut processes = self.0.lock().expect("not poisoned");
        match id {
            Some(id) => processes.insert(node, id),
            None => processes.remove(&node),
        };
    }

    /// The node that connected from `local` to `remote`, unless its process has gone meanwhile.
    pub(crate) async fn find(&self, local: SocketAddr, remote: SocketAddr) -> Option<usize> {
        let processes = self.0.lock().expect("not poisoned").clone();
        let search = tokio::task::spawn_blocking(move || {
            let socket = format!("socket:[{}]", inode(local, remote)?);
            let mut processes = processes.into_iter();
            let holder = processes.find(|(_, id)| holds(*id, Path::new(&socket)));
            holder.map(|(node, _)| node)
        });
        search.await.expect("a search does not panic")
    }
}

/// The inode of the socket that is connected from `local` to `remote`.
fn inode(local: SocketAddr, remote: SocketAddr) -> Option<String> {
    let ends = [hexadecimal(local), hexadecimal(remote)];
    let table = fs::read_to_string("/proc/net/tcp").expect("a table of sockets");
    table.lines().find_map(|line| {
        let columns: Vec<_> = line.split_whitespace().collect();
        (columns.get(1..3)? == ends).then(|| columns.get(9).map(|inode| (*inode).to_owned()))?
    })
}

/// An address as the table of sockets has it: its bytes as one number of this machine.
fn hexadecimal(addr: SocketAddr) -> String {
    let SocketAddr::V4(addr) = addr else {
        panic!("{addr} is not IPv4");
    };
    let ip = u32::from_ne_bytes(addr.ip().octets());
    format!("{ip:08X}:{:04X}", addr.port())
}

/// Whether process `id` holds `socket`. One that has gone holds nothing.
fn holds(id: u32, socket: &Path) -> bool {
    let Ok(files) = fs::read_dir(format!("/proc/{id}/fd")) else {
        return false;
    };
    let mut targets = files.filter_map(|file| fs::read_link(file.ok()?.path()).ok());
    targets.any(|target| target == socket)
}
