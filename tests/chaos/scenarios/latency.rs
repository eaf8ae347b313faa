//! Nodes that are far from one another.

use std::time::{Duration, Instant};

use seshat::proto::admin::MemberRole;

use crate::clients::Load;
use crate::history::now;
use crate::{caller, ms, on_new_cluster};

const DELAY: Duration = Duration::from_millis(100);
const WATCH: Duration = Duration::from_secs(4);

#[test]
fn distant_nodes_form_a_cluster_and_keep_their_leader() {
    on_new_cluster("100 ms on each link", "", async |cluster| {
        cluster.links.delay(DELAY);
        cluster.start_all();
        let formed = cluster.wait_until_healed().await;
        let leader = cluster.leader().await;
        let term = cluster.own_status(leader).await.term;

        let load = Load::start(&caller(cluster), leader, "k");
        // To a follower and back.
        let first = load.write_after(now()).await;
        assert!(first >= 2 * DELAY, "{first:?}");
        let began = Instant::now();
        while began.elapsed() < WATCH {
            for node in 0..3 {
                let status = cluster.own_status(node).await;
                assert_eq!(status.term, term, "{status:?}");
                assert_eq!(
                    status.role() == MemberRole::Leader,
                    node == leader,
                    "{status:?}"
                );
            }
        }
        let counts = load.check().await;
        assert_eq!((counts.refused, counts.unknown), (0, 0), "{counts}");
        format!(
            "formed {}, first write {}, one leader in term {term}; {counts}",
            ms(formed.after),
            ms(first)
        )
    });
}
