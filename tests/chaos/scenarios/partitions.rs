//! One node is cut off from the others, both ways or one way.

use std::time::Duration;

use seshat::proto::admin::{ClusterState, MemberRole};

use crate::clients::{Load, Pinned};
use crate::cluster::Cluster;
use crate::history::now;
use crate::links::{Fate, Links};
use crate::operator::seshat;
use crate::{caller, ms, scenario, watch_for};
use seshat_test_support::eventually;

/// Longest wait for service after a leader was cut off: it has to notice, the others have to elect,
/// and clients have to give up waiting for the old one.
const RESUMES: Duration = Duration::from_secs(5);
/// How long a partition lasts at least: connections that carry nothing break within 3 s.
const PARTITION_MILLIS: u64 = 3_500;

#[test]
fn a_minority_refuses_while_the_majority_serves() {
    scenario("follower isolated", async |cluster| {
        let leader = cluster.leader().await;
        let follower = (leader + 1) % 3;
        let caller = caller(cluster);
        let load = Load::start(&caller, leader, "k");
        load.write_after(now()).await;
        let before = cluster.own_status(leader).await;

        cluster.links.isolate(follower, Fate::Vanish);
        let pinned = Pinned::start(&caller, follower, "k0");
        watch_for(PARTITION_MILLIS).await;
        load.write_after(now()).await;
        let during = load.counts();
        // It would refuse in health too, and name the leader. Cut off, it reaches no member, and no
        // member reaches it.
        let alone = cluster.status(follower).await.expect("it answers");
        assert_eq!(alone.state(), ClusterState::NoQuorum, "{alone:?}");
        assert_eq!(alone.leader_id, None, "{alone:?}");
        let said = cluster.seshat(&["status"]).await.done().stdout;
        // The proxies accept connections.
        let silent = "accepts connections and does not answer";
        let degraded = format!("degraded: node {} {silent}", follower + 1);
        assert!(said.starts_with(&degraded), "{said}");
        let refused = pinned.stop_unserved().await;

        cluster.links.heal();
        let healed = cluster.wait_until_healed().await;
        load.write_after(now()).await;
        let after = cluster.own_status(leader).await;
        let counts = load.check().await;
        // A member that returns disturbs no other.
        assert_eq!(
            (after.role(), after.term),
            (MemberRole::Leader, before.term)
        );
        assert!(during.writes > 100, "{during}");
        format!(
            "{refused} calls refused by the minority, healed {}; {counts}",
            ms(healed.after)
        )
    });
}

/// Seen: 8 of 9 calls at that node failed, although the cluster was healthy.
#[test]
fn a_node_cut_off_only_from_the_leader_names_the_leader() {
    const CALLS: usize = 9;
    scenario("one cut link", async |cluster| {
        let leader = cluster.leader().await;
        let apart = (leader + 1) % 3;
        let caller = caller(cluster);
        let load = Load::start(&caller, leader, "k");
        load.write_after(now()).await;

        cluster.links.between(leader, apart, Fate::Vanish);
        watch_for(PARTITION_MILLIS).await;
        let endpoint = &cluster.client_addrs()[apart];
        let mut longest = Duration::ZERO;
        for call in 0..CALLS {
            let began = now();
            let set = ["set", "apart", &call.to_string()];
            let said = seshat(endpoint, &set).await;
            assert_eq!(said.code, 0, "call {call}: {}", said.stderr);
            longest = longest.max(Duration::from_nanos(now() - began));
        }

        cluster.links.heal();
        let healed = cluster.wait_until_healed().await;
        load.write_after(now()).await;
        let counts = load.check().await;
        format!(
            "{CALLS} calls served through it, the longest took {}, healed {}; {counts}",
            ms(longest),
            ms(healed.after)
        )
    });
}

#[test]
fn an_isolated_leader_acknowledges_nothing_and_steps_down() {
    scenario("leader isolated", async |cluster| {
        let leader = cluster.leader().await;
        let caller = caller(cluster);
        let load = Load::start(&caller, leader, "k");
        load.write_after(now()).await;

        cluster.links.isolate(leader, Fate::Vanish);
        let cut = now();
        let pinned = Pinned::start(&caller, leader, "k0");
        let stepped_down = stepped_down(cluster, leader).await;
        let resumed = load.write_after(cut).await;
        watch_for(PARTITION_MILLIS).await;
        let refused = pinned.stop_unserved().await;

        cluster.links.heal();
        let healed = cluster.wait_until_healed().await;
        load.write_after(now()).await;
        let counts = load.check().await;
        assert!(resumed < RESUMES, "{resumed:?}");
        assert!(stepped_down < RESUMES, "{stepped_down:?}");
        format!(
            "served again {}, stepped down {}, {refused} calls refused, healed {}; {counts}",
            ms(resumed),
            ms(stepped_down),
            ms(healed.after)
        )
    });
}

#[test]
fn a_leader_that_cannot_be_heard_is_replaced() {
    one_way("leader mute", Links::outgoing);
}

#[test]
fn a_leader_that_cannot_hear_is_replaced() {
    one_way("leader deaf", Links::incoming);
}

/// Cuts the leader off in one direction.
fn one_way(name: &str, cut: impl FnOnce(&Links, usize, Fate)) {
    scenario(name, async |cluster| {
        let leader = cluster.leader().await;
        let caller = caller(cluster);
        let load = Load::start(&caller, leader, "k");
        load.write_after(now()).await;

        cut(&cluster.links, leader, Fate::Vanish);
        let cut = now();
        // A value that a client reads there has to fit to the writes elsewhere.
        let pinned = Pinned::start(&caller, leader, "k0");
        let resumed = load.write_after(cut).await;
        let stepped_down = stepped_down(cluster, leader).await;
        watch_for(PARTITION_MILLIS).await;
        let refused = pinned.stop_unserved().await;

        cluster.links.heal();
        let healed = cluster.wait_until_healed().await;
        load.write_after(now()).await;
        let counts = load.check().await;
        assert!(resumed < RESUMES, "{resumed:?}");
        format!(
            "served again {}, stepped down {}, {refused} calls refused, healed {}; {counts}",
            ms(resumed),
            ms(stepped_down),
            ms(healed.after)
        )
    });
}

/// Waits until a node says that it does not lead, and returns the time that it took.
async fn stepped_down(cluster: &Cluster, leader: usize) -> Duration {
    let began = now();
    eventually("a leader that steps down", async || {
        let role = cluster.own_status(leader).await.role();
        (role != MemberRole::Leader).then_some(())
    })
    .await;
    Duration::from_nanos(now() - began)
}
