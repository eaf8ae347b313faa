//! Two nodes of three lose their memory at once: the third must not guess.

use seshat::proto::admin::{ClusterState, MemberRole};
use seshat::proto::kv::error_detail::Reason;

use crate::clients::{Caller, Failure, Load, Pinned};
use crate::cluster::Cluster;
use crate::common::eventually;
use crate::history::{Told, now};
use crate::{caller, ms, scenario, watch_for};

/// How long the cluster is watched for an answer that nobody may give.
const WATCH_MILLIS: u64 = 2_500;

#[test]
fn a_follower_halts_when_the_two_others_forgot_everything() {
    scenario("two killed, a follower survives", async |cluster| {
        let survivor = (cluster.leader().await + 1) % 3;
        survivor_halts(cluster, survivor).await
    });
}

#[test]
fn a_leader_halts_when_the_two_others_forgot_everything() {
    scenario("two killed, the leader survives", async |cluster| {
        let survivor = cluster.leader().await;
        survivor_halts(cluster, survivor).await
    });
}

async fn survivor_halts(cluster: &mut Cluster, survivor: usize) -> String {
    let caller = caller(cluster);
    let load = Load::start(&caller, cluster.leader().await, "k");
    load.write_after(now()).await;
    load.stop().await;

    let lost: Vec<_> = (0..3).filter(|&node| node != survivor).collect();
    cluster.kill(&lost);
    for &node in &lost {
        cluster.start(node);
    }
    let began = now();
    let pinned = Pinned::start(&caller, survivor, "k0");
    halted(cluster, survivor).await;
    let halted_after = std::time::Duration::from_nanos(now() - began);
    watch_for(WATCH_MILLIS).await;
    halted(cluster, survivor).await;
    let refused = pinned.stop_unserved().await;
    for &node in &lost {
        refuses_as_outsider(&caller, node).await;
    }
    // What it holds is still there.
    let own = cluster.own_status(survivor).await;
    assert!(own.keys > 0, "{own:?}");

    // The way back, by an operator's command, belongs here: it ends with `load.check()`, which
    // finds every write that the survivor had.
    format!("halted {}, {refused} calls refused", ms(halted_after))
}

/// Waits until the survivor says that nobody decides, and that the others wait outside.
async fn halted(cluster: &Cluster, survivor: usize) {
    eventually("a survivor that halts", async || {
        let status = cluster.status(survivor).await?;
        let outside = |role| role == MemberRole::Outside;
        let others = status.members.iter().enumerate();
        let mut others = others.filter(|(node, _)| *node != survivor);
        let halted = status.state() == ClusterState::NoQuorum
            && status.leader_id.is_none()
            && status.members[survivor].role() != MemberRole::Leader
            && others.all(|(_, other)| other.reachable && outside(other.role()));
        halted.then_some(())
    })
    .await;
}

/// Fails unless a node that was started again says that it is not part of a cluster.
async fn refuses_as_outsider(caller: &Caller, node: usize) {
    let (_, written, why) = caller.write(node, "k0").await;
    let (read, _) = caller.read(node, "k0").await;
    assert_eq!((written, read), (Told::NotDone, Told::NotDone));
    assert!(
        matches!(why, Some(Failure::Refused(Some(Reason::Forming(_))))),
        "{why:?}"
    );
}
