//! Two nodes of three lose their memory at once: the third must not guess, and an operator decides.

use std::time::Duration;

use seshat::proto::admin::{ClusterState, MemberRole};

use crate::clients::{Load, Pinned};
use crate::cluster::{Cluster, member};
use crate::history::now;
use crate::{caller, ms, scenario, watch_for};
use seshat_test_support::eventually;

/// How long the cluster is watched for an answer that no node may give.
const WATCH_MILLIS: u64 = 2_000;
/// For how long a node hangs: until its peers have given up their questions, and asked again.
const HANGS_NANOS: u64 = 12_000_000_000;
/// The name of a cluster that does not exist.
const WRONG_ID: &str = "0123456789abcdef";

#[test]
fn a_follower_halts_when_the_two_others_forgot_everything() {
    scenario("two killed, a follower survives", async |cluster| {
        let survivor = (cluster.leader().await + 1) % 3;
        survivor_halts_and_is_recovered(cluster, survivor).await
    });
}

#[test]
fn a_leader_halts_when_the_two_others_forgot_everything() {
    scenario("two killed, the leader survives", async |cluster| {
        let survivor = cluster.leader().await;
        survivor_halts_and_is_recovered(cluster, survivor).await
    });
}

/// The survivor's kernel accepts connections, and nothing answers.
#[test]
fn no_cluster_forms_anew_while_a_survivor_hangs() {
    scenario("two killed while the third hangs", async |cluster| {
        let before = cluster.wait_until_healed().await.cluster_id;
        let survivor = (cluster.leader().await + 1) % 3;
        let caller = caller(cluster);
        let load = Load::start(&caller, cluster.leader().await, "k");
        load.write_after(now()).await;
        load.stop().await;
        caught_up(cluster, survivor).await;

        cluster.pause(survivor);
        let lost: Vec<_> = (0..3).filter(|&node| node != survivor).collect();
        cluster.kill(&lost);
        for &node in &lost {
            cluster.start(node);
        }
        let hung = (survivor + 1).to_string();
        let words = format!("node {hung} accepts connections and does not answer: it may hang");
        let began = now();
        eventually("a node that is said to hang", async || {
            let said = cluster.seshat(&["status"]).await.stdout;
            assert!(!said.contains("seshat form"), "{said}");
            said.contains(&words).then_some(())
        })
        .await;
        let named = Duration::from_nanos(now() - began);
        let began = now();
        while now() - began < HANGS_NANOS {
            let form = cluster.seshat(&["form", "--without", &hung]).await;
            assert_eq!(form.code, 3, "{form:?}");
            assert!(form.stderr.contains(&words), "{form:?}");
            let said = cluster.seshat(&["status"]).await.stdout;
            assert!(
                said.contains(&words) && !said.contains("seshat form"),
                "{said}"
            );
        }

        cluster.resume(survivor);
        halted(cluster, survivor).await;
        let after = recover(cluster, survivor, &before).await;
        assert_eq!(cluster.wait_until_healed().await.cluster_id, after);
        let load = Load::start(&caller, survivor, "k");
        load.write_after(now()).await;
        let counts = load.check().await;
        format!("named {}; {counts}", ms(named))
    });
}

async fn survivor_halts_and_is_recovered(cluster: &mut Cluster, survivor: usize) -> String {
    let before = cluster.wait_until_healed().await.cluster_id;
    let caller = caller(cluster);
    let load = Load::start(&caller, cluster.leader().await, "k");
    load.write_after(now()).await;
    watch_for(300).await;
    let acknowledged = load.stop().await.writes;
    caught_up(cluster, survivor).await;

    let lost: Vec<_> = (0..3).filter(|&node| node != survivor).collect();
    cluster.kill(&lost);
    for &node in &lost {
        cluster.start(node);
    }
    let began = now();
    let pinned = Pinned::start(&caller, survivor, "k0");
    halted(cluster, survivor).await;
    let halted_after = Duration::from_nanos(now() - began);
    watch_for(WATCH_MILLIS).await;
    halted(cluster, survivor).await;
    let refused = pinned.stop_unserved().await;
    for &node in &lost {
        caller.is_refused_outside(node, "k0").await;
    }

    let began = now();
    let after = recover(cluster, survivor, &before).await;
    let recovered = Duration::from_nanos(now() - began);
    let healed = cluster.wait_until_healed().await;
    assert_eq!(
        (&healed.cluster_id, &healed.members[..]),
        (&after, &[1, 2, 3][..])
    );
    assert_ne!(after, before);

    // The same keys and the same history: the survivor had every write that was acknowledged.
    let load = Load::start(&caller, survivor, "k");
    let served = load.write_after(now()).await;
    watch_for(300).await;
    let counts = load.check().await;
    format!(
        "halted {}, {refused} calls refused, recovered and healed {}, served {}; {acknowledged} \
         writes before, {counts} in all",
        ms(halted_after),
        ms(recovered),
        ms(served)
    )
}

/// Waits until the survivor has applied all that the leader has committed.
async fn caught_up(cluster: &Cluster, survivor: usize) {
    let leader = cluster.leader().await;
    let committed = cluster.own_status(leader).await.commit_index;
    eventually("a survivor that has everything", async || {
        let own = cluster.own_status(survivor).await;
        (own.applied_index >= committed).then_some(())
    })
    .await;
}

/// Waits until the survivor reports that no leader can ever be elected, and that the others wait
/// outside, and until an operator gets this status.
async fn halted(cluster: &Cluster, survivor: usize) {
    eventually("a survivor that halts", async || {
        let status = cluster.status(survivor).await?;
        let halted = status.state() == ClusterState::Halted && status.leader_id.is_none();
        let roles = (0..3).map(|node| Some(member(status.clone(), node)?.role()));
        let fits = roles
            .enumerate()
            .all(|(node, role)| match node == survivor {
                true => role.is_some_and(|role| role != MemberRole::Leader),
                false => role == Some(MemberRole::Outside),
            });
        (halted && fits).then_some(())
    })
    .await;
    let said = cluster.seshat(&["status"]).await.done().stdout;
    let words = "halted: 2 of 3 lost their memory (nodes ";
    assert!(said.starts_with(words), "{said}");
    let way_out = format!("seshat recover --from {}\n", survivor + 1);
    assert!(said.contains(&way_out), "{said}");
}

/// Recovers the cluster `before` from the survivor, and returns the id of the new one.
async fn recover(cluster: &Cluster, survivor: usize, before: &str) -> String {
    let node = (survivor + 1).to_string();
    // One order without confirmation, and one for another cluster.
    for confirm in [&[][..], &["--confirm", WRONG_ID]] {
        let refused = cluster
            .seshat(&[&["recover", "--from", &node], confirm].concat())
            .await;
        assert_eq!(refused.code, 2, "{refused:?}");
        let dry_run = format!("Node {node} gives up cluster {before} and makes a new one");
        assert!(refused.stderr.starts_with(&dry_run), "{refused:?}");
        assert!(
            refused.stderr.contains("nothing was changed"),
            "{refused:?}"
        );
        halted(cluster, survivor).await;
        if confirm.is_empty() {
            println!("{}", refused.stderr);
        }
    }
    let recover = ["recover", "--from", &node, "--confirm", before, "--json"];
    let recovered = cluster.seshat(&recover).await.json();
    assert_eq!(recovered["cluster_id"], *before, "{recovered}");
    assert_eq!(recovered["healed"], true, "{recovered}");
    let new = recovered["new_cluster_id"].as_str();
    new.expect("an id").to_owned()
}
