//! A node is missing when the others are started for the first time.

use crate::clients::Load;
use crate::history::now;
use crate::{caller, ms, on_new_cluster};
use seshat_test_support::eventually;

const WAITING: &str =
    "forming: waiting for node 3 (if it is gone for good: seshat form --without 3)\n";

#[test]
fn two_nodes_form_without_the_third_and_let_it_in_later() {
    on_new_cluster("formed without a node", "", async |cluster| {
        cluster.start(0);
        cluster.start(1);
        eventually("two nodes that wait for the third", async || {
            let said = cluster.seshat(&["status"]).await;
            (said.code == 0 && said.stdout.starts_with(WAITING)).then_some(())
        })
        .await;
        let form = ["form", "--without", "3", "--json"];
        let cluster_id = cluster.seshat(&form).await.json()["cluster_id"].clone();
        let formed = now();
        let load = Load::start(&caller(cluster), 0, "k");
        let served = load.write_after(formed).await;
        let status = cluster.seshat(&["status", "--json"]).await.json();
        assert_eq!(status["state"], "degraded", "{status}");

        cluster.start(2);
        let healed = cluster.wait_until_healed().await;
        assert_eq!(cluster_id, healed.cluster_id);
        assert_eq!(healed.members, [1, 2, 3]);
        // It counts: without it the other two have no majority.
        let leader = cluster.leader().await;
        let gone = if leader == 0 { 0 } else { 1 };
        cluster.kill(&[gone]);
        let failover = load.write_after(now()).await;

        let counts = load.check().await;
        format!(
            "served {}, the third let in {}, failover {}; {counts}",
            ms(served),
            ms(healed.after),
            ms(failover)
        )
    });
}
