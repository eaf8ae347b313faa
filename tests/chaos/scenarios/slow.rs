//! Links that are slow or long.

use std::time::Duration;

use seshat::proto::kv::SetRequest;
use seshat::proto::kv::kv_service_client::KvServiceClient;

use crate::links::Throttle;
use crate::on_new_cluster;
use seshat_test_support::cluster::channel;

/// Timing for nodes that are far from one another.
fn raft(heartbeat: u64, election: u64) -> String {
    format!(
        "[raft]\nheartbeat_interval_ms = {heartbeat}\nelection_timeout_min_ms = {election}\n\
         election_timeout_max_ms = {}\n",
        2 * election
    )
}

#[test]
fn nodes_form_a_cluster_over_links_of_600_ms_each_way() {
    let raft = raft(500, 2_500);
    on_new_cluster("600 ms each way", &raft, async |cluster| {
        cluster.links.delay(Duration::from_millis(600));
        cluster.start_all();
        let healed = cluster.wait_until_healed().await;
        format!("healed after {:.1} s", healed.after.as_secs_f64())
    });
}

#[test]
fn a_node_comes_back_over_links_of_260_ms_each_way() {
    let raft = raft(200, 1_400);
    on_new_cluster("260 ms each way", &raft, async |cluster| {
        cluster.links.delay(Duration::from_millis(260));
        cluster.start_all();
        let formed = cluster.wait_until_healed().await;
        let follower = (cluster.leader().await + 1) % 3;
        cluster.kill(&[follower]);
        cluster.start(follower);
        let healed = cluster.wait_until_healed().await;
        format!(
            "formed after {:.1} s, healed after {:.1} s",
            formed.after.as_secs_f64(),
            healed.after.as_secs_f64()
        )
    });
}

/// The buffer alone takes 8 s to empty, four times the former timeout of a ping. Lost messages were sent
/// anew, for ever.
#[test]
fn a_snapshot_arrives_over_a_narrow_link_with_a_deep_buffer() {
    on_new_cluster("a narrow link", "", async |cluster| {
        cluster.start_all();
        cluster.wait_until_healed().await;
        let leader = cluster.leader().await;
        let mut kv = KvServiceClient::new(channel(&cluster.client_addrs()[leader]));
        for key in 0..10_u8 {
            let request = SetRequest {
                key: vec![key].into(),
                value: vec![key; 1 << 20].into(),
                ..SetRequest::default()
            };
            kv.set(request).await.expect("a write");
        }
        let follower = (leader + 1) % 3;
        cluster.kill(&[follower]);
        cluster.links.throttle(
            follower,
            Throttle {
                bytes_per_second: 4_000_000 / 8,
                buffer_bytes: 4 << 20,
            },
        );
        cluster.start(follower);
        let healed = cluster.wait_until_healed_within("50s").await;
        format!("healed after {:.1} s", healed.after.as_secs_f64())
    });
}
