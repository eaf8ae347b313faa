//! A whole cluster in one process: `cargo run --example embedded`.
//!
//! A service usually embeds *one* node, with a [`Config`] read from its own file, and the two other
//! machines run one each. Here all three share a process, for demonstration.

use seshat::client::Client;
use seshat::config::Config;
use seshat::error::Reason;
use seshat::server::Server;
use seshat::types::NodeId;
use tokio::sync::watch;
use tokio::task::JoinSet;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let (stop, stopped) = watch::channel(false);
    let mut nodes = JoinSet::new();
    let mut endpoints = Vec::new();
    let mut stores = Vec::new();
    for id in (1..=3).filter_map(NodeId::new) {
        // Clients on ports 26379 to 26381, nodes on 27379 to 27381, all on 127.0.0.1.
        let config = Config::for_dev(id, 3, 26379, 27379)?;
        endpoints.push(config.node.client_addr.clone());
        let server = Server::bind(config).await?;
        stores.push(server.local());
        let mut stopped = stopped.clone();
        nodes.spawn(server.run(async move {
            let _ = stopped.wait_for(|stop| *stop).await;
        }));
    }

    // The client finds the leader, wherever it is.
    let client = Client::connect(endpoints)?;
    client.ready().await?;
    client.set("city", "Uruk").await?;

    // Without a connection only the leader serves; the others say who that is.
    for store in &stores {
        let me = store.status().raft_id.node_id();
        match store.get("city").await {
            Ok(city) => {
                let city = city.unwrap_or_default();
                println!("node {me}: {}", String::from_utf8_lossy(&city));
            }
            Err(refusal) => match refusal.reason {
                Reason::NotLeader {
                    leader_id: Some(leader),
                } => println!("node {me}: ask node {leader}"),
                _ => return Err(refusal.into()),
            },
        }
    }

    // Each node transfers its leadership, answers what it has begun, and ends.
    stop.send_replace(true);
    while let Some(ended) = nodes.join_next().await {
        ended??;
    }
    Ok(())
}
