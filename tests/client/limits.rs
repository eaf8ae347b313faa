//! Extreme durations: no call panics, and each ends in time.

use std::time::Duration;

use seshat::client::{Applied, Builder, Client, Error, Operation, PipelineOptions};

use super::mock::Mock;

/// A setter of a duration, by its name.
type Setter = (&'static str, fn(Builder, Duration) -> Builder);

const SETTERS: [Setter; 6] = [
    ("timeout", Builder::timeout),
    ("connect_timeout", Builder::connect_timeout),
    ("attempt_timeout", Builder::attempt_timeout),
    ("trust", Builder::trust),
    ("backoff min", |builder, min| {
        builder.backoff(min, Duration::MAX)
    }),
    ("backoff max", |builder, max| {
        builder.backoff(Duration::ZERO, max)
    }),
];

/// One of each kind of call.
async fn calls(client: &Client) -> Result<(), Error> {
    client.set("k", "v").await?;
    client.get("k").await?;
    let session = client.session().await?;
    session.delete("k").await?;
    let pipeline = session.pipeline(PipelineOptions::default()).await?;
    let batch = [Operation::set("k", "1"), Operation::set("k", "2")];
    for answer in pipeline.submit(batch).await?.await {
        answer?;
    }
    Ok(())
}

fn builder(node: &Mock) -> Builder {
    let builder = Client::builder().endpoints([&node.address]);
    builder.timeout(Duration::from_secs(30))
}

#[tokio::test]
async fn the_longest_durations_are_as_good_as_any() {
    let node = Mock::leader().await;
    for (name, set) in SETTERS {
        let client = set(builder(&node), Duration::MAX).build().unwrap();
        let done = calls(&client).await;
        assert!(done.is_ok(), "{name}: {done:?}");
    }
    let all = SETTERS.iter().fold(builder(&node), |builder, (_, set)| {
        set(builder, Duration::MAX)
    });
    calls(&all.build().unwrap()).await.unwrap();
    let client = builder(&node).build().unwrap();
    calls(&client.with_timeout(Duration::MAX)).await.unwrap();
    calls(&client.within(Duration::MAX)).await.unwrap();
}

#[tokio::test]
async fn the_shortest_durations_end_calls_and_nothing_else() {
    let node = Mock::leader().await;
    for shortest in [Duration::ZERO, Duration::from_nanos(1)] {
        for (name, set) in SETTERS {
            let client = set(builder(&node), shortest).build().unwrap();
            match calls(&client).await {
                Ok(()) => {}
                Err(error) if name == "timeout" => assert_eq!(error.applied(), Applied::No),
                Err(error) => panic!("{name} of {shortest:?}: {error:?}"),
            }
        }
    }
}

/// A failed call is repeated, and every pause and every timeout grows meanwhile.
#[tokio::test]
async fn the_longest_wait_ends_at_the_deadline() {
    let node = Mock::follower(None).await;
    for (name, set) in SETTERS {
        let client = set(builder(&node), Duration::MAX).build().unwrap();
        let client = client.with_timeout(Duration::from_millis(200));
        let error = client.get("k").await.unwrap_err();
        assert!(matches!(error, Error::Deadline { .. }), "{name}: {error:?}");
    }
    node.leads();
    let client = builder(&node)
        .attempt_timeout(Duration::MAX)
        .build()
        .unwrap();
    let session = client.session().await.unwrap();
    node.falls_silent();
    let hasty = session.with_timeout(Duration::from_millis(200));
    let error = hasty.set("k", "v").await.unwrap_err();
    assert_eq!(error.applied(), Applied::Unknown, "{error:?}");
}
