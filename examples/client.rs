//! The client, with a running cluster: `seshat dev` in one terminal, and in another `cargo run --example
//! client`. Other endpoints follow `--`.

use seshat::client::{Client, Condition, Conditional, Operation, PipelineOptions, TxnOperation};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut endpoints: Vec<_> = std::env::args().skip(1).collect();
    if endpoints.is_empty() {
        endpoints = ["127.0.0.1:6379", "127.0.0.1:6380", "127.0.0.1:6381"]
            .map(str::to_owned)
            .to_vec();
    }
    let client = Client::connect(endpoints)?;
    client.ready().await?;

    client.set("city", "Uruk").await?;
    match client.get("city").await? {
        Some(city) => println!("city: {}", String::from_utf8_lossy(&city)),
        None => println!("no city"),
    }

    // A write of a session may be sent again, and is applied once: the answer tells what it did.
    let session = client.session().await?;
    let existed = session.delete("city").await?.existed;
    println!("this call deleted it: {existed}");

    // A write on a condition, and several keys at once.
    match client.set("owner", "me").if_absent().await? {
        Conditional::Succeeded(written) => println!("claimed at {}", written.applied_index),
        Conditional::Failed(found) => println!("bound by revision {}", found.revision),
    }
    let outcome = client
        .txn()
        .when(Condition::value("owner", "me"))
        .then(TxnOperation::delete("owner"))
        .otherwise(TxnOperation::get("owner"))
        .await?;
    println!("given up: {}", outcome.succeeded);

    // Many commands in flight on one stream, which take effect in order.
    let pipeline = client.pipeline(PipelineOptions::default()).await?;
    let batch = [
        Operation::set("city", "Ur"),
        Operation::get("city"),
        Operation::delete("city"),
    ];
    for answer in pipeline.submit(batch).await?.await {
        println!("{:?}", answer?);
    }
    Ok(())
}
