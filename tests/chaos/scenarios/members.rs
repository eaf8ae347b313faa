//! Nodes that are added, and members that are removed, while clients keep writing.

use crate::clients::{Caller, Load};
use crate::cluster::Cluster;
use crate::history::now;
use crate::{caller, ms, scenario, watch_for};

/// How long the remaining members are watched.
const WATCH_MILLIS: u64 = 1_000;

#[test]
fn a_cluster_grows_to_five_and_shrinks_to_three_under_load() {
    scenario("3 members, 5, 3", async |cluster| {
        let newcomers = [cluster.extend().await, cluster.extend().await];
        let caller = caller(cluster);
        let leader = cluster.leader().await;
        let load = Load::start(&caller, leader, "k");
        load.write_after(now()).await;
        let term = cluster.own_status(leader).await.term;

        let mut members = vec![0, 1, 2];
        let mut took = Vec::new();
        for node in newcomers {
            cluster.start(node);
            members.push(node);
            let began = now();
            assert_eq!(cluster.add_member(node).await, ids(&members));
            took.push(format!("+{} {}", node + 1, millis_since(began)));
            load.write_after(now()).await;
        }
        assert_terms(cluster, &members, term).await;

        let follower = (leader + 1) % 3;
        // A removed member disturbs no other; when it is the leader, another one takes over.
        for (node, term) in [(follower, term), (leader, term + 1)] {
            members.retain(|&member| member != node);
            let began = now();
            assert_eq!(cluster.remove_member(node).await, ids(&members));
            took.push(format!("-{} {}", node + 1, millis_since(began)));
            cluster.ends_as_removed(node).await;
            load.write_after(now()).await;
            assert_terms(cluster, &members, term).await;
            does_no_harm(cluster, &caller, node).await;
            assert_terms(cluster, &members, term).await;
        }

        let healed = cluster.wait_until_healed().await;
        assert_eq!(healed.members, ids(&members));
        let counts = load.check().await;
        format!(
            "{}, the leader was node {}; {counts}",
            took.join(", "),
            leader + 1
        )
    });
}

fn millis_since(moment: u64) -> String {
    ms(std::time::Duration::from_nanos(now() - moment))
}

fn ids(nodes: &[usize]) -> Vec<u64> {
    let ids = nodes.iter().map(|node| u64::try_from(node + 1));
    ids.collect::<Result<_, _>>().expect("a small number")
}

/// Fails unless each of `members` is in `term`: no process has begun another one.
async fn assert_terms(cluster: &Cluster, members: &[usize], term: u64) {
    for &member in members {
        let own = cluster.own_status(member).await;
        assert_eq!(own.term, term, "{own:?}");
    }
}

/// Restarts a removed node, which then serves nothing and is heard by no member.
async fn does_no_harm(cluster: &mut Cluster, caller: &Caller, node: usize) {
    cluster.start(node);
    watch_for(WATCH_MILLIS).await;
    caller.is_refused_outside(node, "k0").await;
    cluster.kill(&[node]);
}
