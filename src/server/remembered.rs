//! The last members that a node knew, in a small file below `node.data_dir` that outlives the process.
//!
//! The file holds ids and addresses and nothing of the state. A restarted process also asks these members
//! before it helps to form a cluster: its configuration may list the members of long ago, and the rest of
//! its cluster may run on other nodes only.
//!
//! The file is replaced as a whole, so it is never half written. A file that cannot be read stops the
//! start with an error: a start without it could form a second cluster. A file that cannot be written
//! stops neither the start nor the process, as a cluster may need its node more than the file: a warning
//! says so, at the start already, and the write is retried.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use super::ServerError;
use crate::driver::{DriverHandle, Workers};
use crate::types::{ClusterMembership, NodeId, NodeInfo, NodeState};

/// The name of the file.
const FILE: &str = "members";
/// Its first line: what it is, and the version of its format.
const HEAD: &str = "seshat-members 1";
/// Most bytes of the file: enough for thousands of members.
const MAX_BYTES: u64 = 1 << 20;
/// Pause before a failed write is retried, unless the members change. So it bounds how often the warning
/// is logged.
const RETRY: Duration = Duration::from_secs(30);

/// The file of one node.
#[derive(Debug, Clone)]
pub(super) struct Remembered {
    dir: PathBuf,
    node: NodeId,
    workers: Workers,
}

impl Remembered {
    /// The file of `node` in `dir`, and the members that it holds. Without a file there are none.
    ///
    /// # Errors
    ///
    /// [`ServerError::Remembered`]: the file cannot be read, is damaged or belongs to another node.
    /// [`ServerError::NoDirectory`]: `dir` is not a directory.
    pub(super) async fn open(
        dir: &Path,
        node: NodeId,
        workers: Workers,
    ) -> Result<(Self, ClusterMembership), ServerError> {
        let (path, parent) = (dir.join(FILE), dir.to_owned());
        let read = workers
            .run(move || match parent.exists() && !parent.is_dir() {
                true => None,
                false => Some(read(&path, node)),
            })
            .await;
        let read = read.unwrap_or_else(|error| Some(Err(error.to_string())));
        let read = read.ok_or_else(|| ServerError::NoDirectory(dir.to_owned()))?;
        let members = read.map_err(|reason| ServerError::Remembered {
            path: dir.join(FILE),
            reason,
        })?;
        let dir = dir.to_owned();
        Ok((Self { dir, node, workers }, members))
    }

    /// Warns at the start if the file cannot be written: an operator who starts the node is likely to
    /// read its log lines, and is not later, when the file is needed.
    pub(super) async fn try_out(&self) {
        let dir = self.dir.clone();
        let tried = self.workers.run(move || probe(&dir)).await;
        if let Err(error) = tried.map_err(io::Error::other).flatten() {
            self.warn(&error);
        }
    }

    fn warn(&self, error: &io::Error) {
        let (node, path) = (self.node, self.dir.join(FILE));
        tracing::warn!(
            %node, %error, path = %path.display(),
            "cannot store the addresses of the members: after a restart this node would know only those of \
             its configuration",
        );
    }

    /// Writes the members that `driver` has applied to the file whenever they change, until the driver
    /// stops.
    pub(super) async fn follow(self, driver: DriverHandle) {
        let mut status = driver.watch();
        let mut members = driver.watch_members();
        let mut written = None;
        loop {
            // Before the node has applied any members, `members` holds those of the configuration.
            let applied = {
                let now = status.borrow_and_update();
                now.state == NodeState::Started && !now.conf.members.is_empty()
            };
            let known = Arc::clone(&members.borrow_and_update());
            let mut failed = false;
            if applied && written.as_ref() != Some(&known) {
                match self.write(&known).await {
                    Ok(()) => written = Some(known),
                    Err(error) => {
                        failed = true;
                        self.warn(&error);
                    }
                }
            }
            // The status changes with every write, so after a failure it is not awaited.
            let goes_on = tokio::select! {
                changed = status.changed(), if !failed => changed.is_ok(),
                changed = members.changed() => changed.is_ok(),
                () = sleep(RETRY), if failed => true,
            };
            if !goes_on {
                return;
            }
        }
    }

    async fn write(&self, members: &ClusterMembership) -> io::Result<()> {
        let (dir, text) = (self.dir.clone(), encode(self.node, members));
        let written = self.workers.run(move || replace(&dir, &text)).await;
        written.map_err(io::Error::other)?
    }
}

/// Checks that a file can be written in `dir`, which is made if it does not exist.
fn probe(dir: &Path) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    let new = dir.join(format!("{FILE}.new"));
    fs::write(&new, HEAD)?;
    fs::remove_file(new)
}

/// Replaces the file in `dir` by one with `text`.
fn replace(dir: &Path, text: &str) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    let new = dir.join(format!("{FILE}.new"));
    let mut file = File::create(&new)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&new, dir.join(FILE))?;
    // Not every system can sync a directory; then a crash of the machine may bring back the earlier file.
    let _ = File::open(dir).and_then(|dir| dir.sync_all());
    Ok(())
}

fn read(path: &Path, node: NodeId) -> Result<ClusterMembership, String> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok(ClusterMembership::default());
        }
        Err(error) => return Err(error.to_string()),
    };
    let mut bytes = Vec::new();
    let read = file.take(MAX_BYTES + 1).read_to_end(&mut bytes);
    read.map_err(|error| error.to_string())?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length > MAX_BYTES) {
        return Err(format!("it has more than {MAX_BYTES} bytes"));
    }
    let text = std::str::from_utf8(&bytes).map_err(|error| error.to_string())?;
    decode(text, node)
}

/// A line for the node, one for each member, and the CRC-32 of the lines before it.
fn encode(node: NodeId, members: &ClusterMembership) -> String {
    let mut text = format!("{HEAD}\nnode {node}\n");
    for NodeInfo {
        id,
        addr,
        client_addr,
    } in members.iter()
    {
        // Writing into a string does not fail.
        let _ = writeln!(text, "member {id} {addr} {client_addr}");
    }
    let sum = crc32fast::hash(text.as_bytes());
    let _ = writeln!(text, "crc32 {sum:08x}");
    text
}

fn decode(text: &str, node: NodeId) -> Result<ClusterMembership, String> {
    let damaged = || "it is damaged".to_owned();
    if !text.starts_with(HEAD) {
        return Err(format!("it does not begin with {HEAD:?}"));
    }
    let (body, sum) = text.rsplit_once("crc32 ").ok_or_else(damaged)?;
    let expected = format!("{:08x}\n", crc32fast::hash(body.as_bytes()));
    if sum != expected {
        return Err(damaged());
    }
    let mut lines = body.lines().skip(1);
    let owner = lines.next().and_then(|line| line.strip_prefix("node "));
    let owner = owner.ok_or_else(damaged)?;
    if owner != node.to_string() {
        return Err(format!("it is the file of node {owner}"));
    }
    let member = |line: &str| {
        let mut words = line.strip_prefix("member ")?.split(' ');
        let (id, addr, client_addr) = (words.next()?, words.next()?, words.next()?);
        Some(NodeInfo {
            id: id.parse().ok().and_then(NodeId::new)?,
            addr: addr.to_owned(),
            client_addr: client_addr.to_owned(),
        })
    };
    lines.map(|line| member(line).ok_or_else(damaged)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Conf, NodeStatus, RaftId};

    fn node(id: u16) -> NodeId {
        NodeId::new(id).expect("a node id")
    }

    fn scratch(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("seshat-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        dir
    }

    async fn open(dir: &Path, id: u16) -> Result<(Remembered, ClusterMembership), ServerError> {
        Remembered::open(dir, node(id), Workers::Inline).await
    }

    #[tokio::test]
    async fn a_file_is_read_as_written_and_damage_is_refused() {
        let dir = scratch("remembered");
        let members: ClusterMembership = [1, 2, 4].map(node).into();
        let (file, none) = open(&dir, 1).await.expect("no file yet");
        assert!(none.is_empty());
        file.write(&[node(7)].into()).await.expect("a directory");
        file.write(&members).await.expect("a directory");
        let (_, read) = open(&dir, 1).await.expect("it was written");
        assert_eq!(read, members);

        let error = open(&dir, 2).await.expect_err("another node");
        let error = error.to_string();
        assert!(error.contains("it is the file of node 1"), "{error}");
        let text = fs::read_to_string(dir.join(FILE)).expect("the file");
        for damage in [
            text.replace("kvstore-4", "kvstore-5"),
            text.replace("member 2", "member 3"),
            text[..text.len() - 9].to_owned(),
            text.clone() + "member 5 a:1 a:2\n",
            "a word".to_owned(),
            String::new(),
        ] {
            fs::write(dir.join(FILE), &damage).expect("a file");
            let error = open(&dir, 1).await.expect_err(&damage).to_string();
            assert!(error.contains("delete it"), "{error}");
        }
        fs::remove_dir_all(&dir).expect("the directory");
    }

    #[test]
    fn a_directory_is_tried_out_and_nothing_stays_in_it() {
        let dir = scratch("tried");
        probe(&dir).expect("it is made");
        assert_eq!(fs::read_dir(&dir).expect("it is there").count(), 0);
        fs::write(dir.join("file"), "").expect("a file");
        probe(&dir.join("file").join("below")).expect_err("not below a file");
        fs::remove_dir_all(&dir).expect("the directory");
    }

    #[tokio::test]
    async fn only_members_that_are_part_of_the_state_are_written_down() {
        let dir = scratch("followed");
        let (file, _) = open(&dir, 1).await.expect("no file yet");
        let status = NodeStatus::fresh(RaftId::new(node(1), 1));
        let (handle, driver) = DriverHandle::detached(status.clone(), 1);
        let members = |ids: [u16; 2]| Arc::new(ClusterMembership::from(ids.map(node)));
        driver.members.send_replace(members([1, 2]));
        let follow = tokio::spawn(file.follow(handle));
        let settle = async || {
            for _ in 0..10 {
                tokio::task::yield_now().await;
            }
        };
        settle().await;
        assert!(!dir.join(FILE).exists(), "these are of the configuration");

        let conf = Conf {
            members: [1, 2].map(node).to_vec(),
            ..Conf::default()
        };
        driver.status.send_replace(NodeStatus {
            state: NodeState::Started,
            conf: Arc::new(conf),
            ..status
        });
        settle().await;
        let (_, read) = open(&dir, 1).await.expect("it was written");
        assert_eq!(read, *members([1, 2]));
        driver.members.send_replace(members([1, 4]));
        settle().await;
        let (_, read) = open(&dir, 1).await.expect("it was written");
        assert_eq!(read, *members([1, 4]));
        drop(driver);
        follow.await.expect("it ends with the driver");
        fs::remove_dir_all(&dir).expect("the directory");
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_that_cannot_be_written_is_not_tried_again_with_every_change_of_the_status() {
        let dir = scratch("retried");
        let (file, _) = open(&dir, 1).await.expect("no file yet");
        fs::write(&dir, "in the way").expect("a file");
        let error = open(&dir, 1).await.expect_err("no directory").to_string();
        let words = format!("node.data_dir: {} is not a directory", dir.display());
        assert_eq!(error, words);
        let status = NodeStatus::fresh(RaftId::new(node(1), 1));
        let (handle, driver) = DriverHandle::detached(status.clone(), 1);
        driver
            .members
            .send_replace(Arc::new([1, 2].map(node).into()));
        let started = |commit_index| NodeStatus {
            state: NodeState::Started,
            conf: Arc::new(Conf {
                members: [1, 2].map(node).to_vec(),
                ..Conf::default()
            }),
            commit_index,
            ..status.clone()
        };
        let follow = tokio::spawn(file.follow(handle));
        let work = async || {
            for commit_index in 0..10 {
                driver.status.send_replace(started(commit_index));
                tokio::task::yield_now().await;
            }
        };
        work().await;
        fs::remove_file(&dir).expect("the file");
        work().await;
        assert!(!dir.exists(), "it was tried again at once");
        sleep(RETRY * 2).await;
        assert!(dir.join(FILE).exists(), "it was not tried again");
        drop(driver);
        follow.await.expect("it ends with the driver");
        fs::remove_dir_all(&dir).expect("the directory");
    }
}
