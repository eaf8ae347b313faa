//! Peers that are gone, frozen, or another process than the addressed one.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::io::DuplexStream;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;
use tower::service_fn;

use super::super::{Connector, Transport, TransportOptions};
use super::calls::{call_id, identify};
use super::harness::*;
use crate::driver::{DriverHandle, Network, Notice, Probe, Reply};
use crate::types::{Answering, NodeInfo, RaftId};
use crate::wire::PeerMessage;

#[tokio::test]
async fn a_broken_stream_is_reported_and_opened_again() {
    let mut follower = Node::new(2, &[], options()).await;
    let link = Link::new(follower.addr).await;
    let mut leader = Node::leader(link.addr, options()).await;
    for _ in 0..3 {
        leader.reach(&mut follower).await;
        link.break_connections();
        let Notice::Unreachable(peer) = leader.notice().await else {
            panic!("a report");
        };
        assert_eq!(peer, raft_id_of(2));
    }
    leader.reach(&mut follower).await;
}

#[tokio::test]
async fn nothing_waits_for_a_peer_that_is_down() {
    let mut follower = Node::new(2, &[], options()).await;
    let link = Link::new(follower.addr).await;
    let mut leader = Node::leader(link.addr, options()).await;
    leader.reach(&mut follower).await;
    link.cut();
    assert!(matches!(leader.notice().await, Notice::Unreachable(_)));

    // Long enough for many attempts.
    let begin = Instant::now();
    let mut ticks = tokio::time::interval(Duration::from_millis(1));
    while begin.elapsed() < Duration::from_millis(200) {
        ticks.tick().await;
        let lost = PeerMessage::AppendEntries(append(raft_id_of(2), 1, 10));
        assert!(!leader.network.send(lost));
    }
    link.mend();
    while let Ok(notice) = leader.driver.notices.try_recv() {
        assert!(matches!(notice, Notice::Unreachable(_)));
    }
    let heard = leader.reach(&mut follower).await;
    let appends = heard
        .iter()
        .any(|message| matches!(message, PeerMessage::AppendEntries(_)));
    assert!(!appends, "what was refused is not sent later");
}

#[tokio::test]
async fn a_peer_that_falls_silent_is_noticed() {
    let watchful = TransportOptions {
        keepalive_interval: Duration::from_millis(20),
        keepalive_timeout: Duration::from_millis(20),
        ..options()
    };
    let mut follower = Node::new(2, &[], options()).await;
    let link = Link::new(follower.addr).await;
    let mut leader = Node::leader(link.addr, watchful).await;
    leader.reach(&mut follower).await;
    link.swallow();
    assert!(matches!(leader.notice().await, Notice::Unreachable(_)));
}

#[tokio::test]
async fn an_earlier_incarnation_is_down_while_the_present_one_is_up() {
    let mut follower = Node::new(2, &[], options()).await;
    let mut leader = Node::leader(follower.addr, options()).await;
    let former = RaftId::new(node_id(2), 0xdead);
    let mut reports = 0;
    for _ in 0..50 {
        leader.network.send(heartbeat(former));
        assert!(leader.network.send(heartbeat(raft_id_of(2))));
        assert_eq!(follower.message().await, heartbeat(raft_id_of(2)));
        follower
            .network
            .send(PeerMessage::HeartbeatReply(heartbeat_reply()));
        loop {
            match leader.notice().await {
                Notice::Step(PeerMessage::HeartbeatReply(_)) => break,
                Notice::Unreachable(peer) if peer == former => reports += 1,
                other => panic!("{other:?}"),
            }
        }
    }
    if reports == 0 {
        assert!(matches!(leader.notice().await, Notice::Unreachable(peer) if peer == former));
    }
}

/// The port of node 2 for nodes.
const PORT: u16 = 7379;

/// A transport whose connections come from a function, in simulated time, which passes only while all
/// tasks wait.
fn simulated<F>(
    connect: impl Fn() -> F + Send + Sync + 'static,
) -> (Transport, crate::driver::Detached)
where
    F: Future<Output = std::io::Result<DuplexStream>> + Send + 'static,
{
    simulated_ports(move |_| connect())
}

/// The same, where the function knows to which port a connection goes.
fn simulated_ports<F>(
    connect: impl Fn(u16) -> F + Send + Sync + 'static,
) -> (Transport, crate::driver::Detached)
where
    F: Future<Output = std::io::Result<DuplexStream>> + Send + 'static,
{
    let connect = Arc::new(connect);
    let connector = Connector::new(move |endpoint| {
        let connect = Arc::clone(&connect);
        endpoint.connect_with_connector_lazy(service_fn(move |uri: http::Uri| {
            let connecting = connect(uri.port_u16().unwrap());
            async move { Ok::<_, std::io::Error>(TokioIo::new(connecting.await?)) }
        }))
    });
    let options = TransportOptions {
        peers: vec![NodeInfo {
            id: node_id(2),
            addr: format!("kvstore-2:{PORT}"),
            client_addr: "kvstore-2:6379".to_owned(),
        }],
        seed: 42,
        ..TransportOptions::default()
    };
    let (handle, driver) = DriverHandle::detached(started(raft_id_of(1)), 4096);
    (Transport::new(options, handle, &connector).unwrap(), driver)
}

/// A kernel that accepts connections for a process that hangs: they stay open, and no bytes come.
fn takes_connections(taken: &Arc<Mutex<Vec<DuplexStream>>>) -> std::io::Result<DuplexStream> {
    let (ours, theirs) = tokio::io::duplex(1 << 20);
    taken.lock().unwrap().push(theirs);
    Ok(ours)
}

/// Leads for a minute, with a heartbeat each 100 ms, and returns the number of reports to the driver.
async fn lead_for_a_minute(
    transport: &mut Transport,
    driver: &mut crate::driver::Detached,
) -> usize {
    transport.network.set_leading(true);
    let mut ticks = tokio::time::interval(Duration::from_millis(100));
    let mut reports = 0;
    for _ in 0..600 {
        ticks.tick().await;
        transport.network.send(heartbeat(raft_id_of(2)));
        transport
            .network
            .send(PeerMessage::AppendEntries(append(raft_id_of(2), 1, 10)));
        while let Ok(notice) = driver.notices.try_recv() {
            assert!(matches!(notice, Notice::Unreachable(_)), "{notice:?}");
            reports += 1;
        }
    }
    reports
}

async fn refuse() -> std::io::Result<DuplexStream> {
    Err(std::io::ErrorKind::ConnectionRefused.into())
}

#[tokio::test(start_paused = true)]
async fn a_dead_peer_costs_an_attempt_now_and_then() {
    let attempts = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&attempts);
    let (mut transport, mut driver) = simulated(move || {
        counted.fetch_add(1, Ordering::Relaxed);
        refuse()
    });
    let reports = lead_for_a_minute(&mut transport, &mut driver).await;
    let attempts = attempts.load(Ordering::Relaxed);
    // Each attempt makes two connections, unless the first fails before the second is begun.
    assert!(
        (100..=400).contains(&attempts),
        "{attempts} attempts in a minute"
    );
    assert!(
        (100..=200).contains(&reports),
        "{reports} reports in a minute"
    );
}

#[tokio::test(start_paused = true)]
async fn a_peer_behind_a_black_hole_costs_no_more() {
    let attempts = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&attempts);
    let (mut transport, mut driver) = simulated(move || {
        counted.fetch_add(1, Ordering::Relaxed);
        std::future::pending()
    });
    lead_for_a_minute(&mut transport, &mut driver).await;
    let attempts = attempts.load(Ordering::Relaxed);
    assert!(
        (60..=120).contains(&attempts),
        "{attempts} attempts in a minute"
    );
}

/// The kernel of a process that hangs has room for only some hundreds of connections.
#[tokio::test(start_paused = true)]
async fn a_peer_that_hangs_is_left_alone_and_told_from_one_that_is_gone() {
    let taken = Arc::new(Mutex::new(Vec::new()));
    let hangs = Arc::new(AtomicBool::new(true));
    let (kernel, state) = (Arc::clone(&taken), Arc::clone(&hangs));
    let (mut transport, mut driver) = simulated(move || {
        let hangs = state.load(Ordering::Relaxed);
        let connection = hangs.then(|| takes_connections(&kernel));
        async { connection.unwrap_or(Err(std::io::ErrorKind::ConnectionRefused.into())) }
    });
    for _ in 0..10 {
        lead_for_a_minute(&mut transport, &mut driver).await;
        let max_wait = Duration::from_secs(1);
        let found = transport.prober.identify(node_id(2), max_wait).await;
        assert_eq!(found.unwrap_err().answering(), Answering::Hung);
    }
    let attempts = taken.lock().unwrap().len();
    assert!(attempts <= 12, "{attempts} attempts in ten minutes");

    hangs.store(false, Ordering::Relaxed);
    taken.lock().unwrap().clear();
    let max_wait = Duration::from_secs(1);
    let found = loop {
        tokio::time::sleep(Duration::from_millis(10)).await;
        match transport.prober.identify(node_id(2), max_wait).await {
            Err(error) if error.answering() == Answering::Hung => {}
            found => break found,
        }
    };
    assert_eq!(found.unwrap_err().answering(), Answering::Silent);
}

/// Seen: a form without the node that held the last copy was offered, and carried out.
#[tokio::test(start_paused = true)]
async fn a_peer_whose_kernel_takes_no_more_for_it_is_told_from_one_that_is_gone() {
    let taken = Arc::new(Mutex::new(Vec::new()));
    let is_off = Arc::new(AtomicBool::new(false));
    let (kernel, off) = (Arc::clone(&taken), Arc::clone(&is_off));
    let (mut transport, mut driver) = simulated_ports(move |port| {
        let takes = port != PORT && !off.load(Ordering::Relaxed);
        let connection = takes.then(|| takes_connections(&kernel));
        async {
            match connection {
                Some(connection) => connection,
                None => std::future::pending().await,
            }
        }
    });
    let max_wait = Duration::from_secs(5);
    let asked = Instant::now();
    while asked.elapsed() < Duration::from_secs(600) {
        let found = transport.prober.identify(node_id(2), max_wait).await;
        let found = found.unwrap_err();
        assert_eq!(
            found.answering(),
            Answering::Hung,
            "{found} {:?}",
            asked.elapsed()
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let attempts = taken.lock().unwrap().len();
    assert!(attempts <= 12, "{attempts} attempts in ten minutes");

    is_off.store(true, Ordering::Relaxed);
    taken.lock().unwrap().clear();
    lead_for_a_minute(&mut transport, &mut driver).await;
    let asked = Instant::now();
    while asked.elapsed() < Duration::from_secs(60) {
        let found = transport.prober.identify(node_id(2), max_wait).await;
        assert_eq!(found.unwrap_err().answering(), Answering::Silent);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// The same with a real kernel: it has room for two connections, and drops what comes then.
#[tokio::test]
async fn a_full_queue_of_connections_does_not_look_like_a_machine_that_is_off() {
    let queue = |room| {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        socket.listen(room).unwrap()
    };
    let (full, other) = (queue(1), queue(128));
    let addr = full.local_addr().unwrap();
    let mut connections = Vec::new();
    let short = Duration::from_millis(200);
    while let Ok(connection) = tokio::time::timeout(short, TcpStream::connect(addr)).await {
        connections.push(connection.unwrap());
    }
    let hung = NodeInfo {
        id: node_id(2),
        addr: addr.to_string(),
        client_addr: other.local_addr().unwrap().to_string(),
    };
    let impatient = TransportOptions {
        connect_timeout: short,
        ..options()
    };
    let mut node = Node::new(1, &[], impatient).await;
    node.network.set_members(&[hung].into_iter().collect());
    for _ in 0..3 {
        node.network.call(call_id(2), identify());
        let Notice::Replied(_, reply) = node.notice().await else {
            panic!("a reply");
        };
        assert_eq!(reply, Reply::Misdirected(Answering::Hung));
        tokio::time::sleep(short * 3).await;
    }
}

/// A connection that was made before the host was lost does not show the loss.
#[tokio::test(start_paused = true)]
async fn a_host_that_is_gone_does_not_count_as_hung_for_long() {
    let taken = Arc::new(Mutex::new(Vec::new()));
    let kernel = Arc::clone(&taken);
    let first = AtomicBool::new(true);
    let (mut transport, mut driver) = simulated(move || {
        let here = first.swap(false, Ordering::Relaxed);
        let connection = here.then(|| takes_connections(&kernel));
        async {
            match connection {
                Some(connection) => connection,
                None => std::future::pending().await,
            }
        }
    });
    let max_wait = Duration::from_secs(1);
    let found = transport.prober.identify(node_id(2), max_wait).await;
    assert_eq!(
        found.unwrap_err().answering(),
        Answering::Hung,
        "it may be either"
    );
    lead_for_a_minute(&mut transport, &mut driver).await;
    let found = transport.prober.identify(node_id(2), max_wait).await;
    assert_eq!(found.unwrap_err().answering(), Answering::Silent);
}

/// A process that was stopped for a while continues with its state.
#[tokio::test]
async fn a_peer_that_hangs_is_back_as_soon_as_it_answers() {
    let watchful = TransportOptions {
        keepalive_interval: Duration::from_millis(20),
        keepalive_timeout: Duration::from_millis(20),
        ..options()
    };
    let port = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut node = Node::new(1, &[(2, port.local_addr().unwrap())], watchful).await;
    for _ in 0..2 {
        node.network.call(call_id(2), identify());
        let Notice::Replied(_, reply) = node.notice().await else {
            panic!("a reply");
        };
        assert_eq!(reply, Reply::Misdirected(Answering::Hung));
    }
    let _awake = Node::at(port, 2, &[], options(), 4096).await;
    soon(async {
        while node.prober.identify(node_id(2), MAX_WAIT).await.is_err() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// A proxy accepts connections for a process that has ended, and closes them.
#[tokio::test]
async fn a_process_that_closes_its_connections_does_not_hang() {
    let port = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut node = Node::new(1, &[(2, port.local_addr().unwrap())], options()).await;
    tokio::spawn(async move { while port.accept().await.is_ok() {} });
    soon(async {
        loop {
            node.network.call(call_id(2), identify());
            match node.notice().await {
                Notice::Replied(_, Reply::Failed) => break,
                Notice::Replied(_, Reply::Misdirected(Answering::Hung)) => {}
                other => panic!("{other:?}"),
            }
        }
    })
    .await;
}

/// Seen: a new leader stepped down repeatedly, although its heartbeats were answered, because the
/// connection for appends took longer to make than an election.
#[tokio::test]
async fn heartbeats_are_answered_while_the_connection_for_appends_is_made() {
    let mut follower = Node::new(2, &[], options()).await;
    let link = Link::new(follower.addr).await;
    let mut leader = Node::leader(link.addr, options()).await;
    leader.reach(&mut follower).await;
    leader.network.set_leading(false);
    link.hold();
    leader.network.set_leading(true);
    leader.reach(&mut follower).await;
    follower
        .network
        .send(PeerMessage::HeartbeatReply(heartbeat_reply()));
    match leader.notice().await {
        Notice::Step(PeerMessage::HeartbeatReply(_)) => {}
        other => panic!("{other:?}"),
    }
}
