//! The two sections that hold nothing but numbers, each with its unit, default and bounds.

use std::ops::RangeInclusive;

use super::fault::Faults;
use super::memory;
use super::read::Reader;

/// Makes a section of numbers: the struct, its defaults, and how it is read and checked, so that a
/// number's name, default and bounds are written once.
macro_rules! section {
    (
        $(#[$section_doc:meta])*
        $section:literal $name:ident {
            $(
                $(#[$doc:meta])*
                $field:ident: $type:ty = $default:expr, $range:expr;
            )*
        }
    ) => {
        $(#[$section_doc])*
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct $name {
            $(
                $(#[$doc])*
                #[doc = concat!("\n\nDefault `", stringify!($default), "`, bounds `", stringify!($range), "`.")]
                pub $field: $type,
            )*
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $($field: $default,)* }
            }
        }

        impl $name {
            pub(crate) const FIELDS: &'static [&'static str] =
                &[$(concat!($section, ".", stringify!($field)),)*];

            pub(super) fn read(reader: &mut Reader<'_>) -> Self {
                Self {
                    $($field: {
                        let range: RangeInclusive<$type> = $range;
                        reader.number(concat!($section, ".", stringify!($field)), $default, &range)
                    },)*
                }
            }

            /// Notes every number that is out of range, in a section that was made in code.
            pub(super) fn check_ranges(&self, faults: &mut Faults) {
                $({
                    let field = concat!($section, ".", stringify!($field));
                    let range: RangeInclusive<$type> = $range;
                    if faults.usable(&[field]) && !range.contains(&self.$field) {
                        faults.out_of_range(field, self.$field, &range);
                    }
                })*
            }

            /// Every number with its field.
            pub(super) fn values(&self) -> impl Iterator<Item = (&'static str, u128)> {
                let values = [$(u128::try_from(self.$field).unwrap_or(u128::MAX),)*];
                Self::FIELDS.iter().copied().zip(values)
            }
        }
    };
}

section! {
    /// Section `[raft]`: the timing of elections. The same on every machine.
    "raft" RaftConfig {
        /// Milliseconds between two heartbeats of a leader. This is the length of one Raft tick, so
        /// the election timeouts are whole multiples of it.
        heartbeat_interval_ms: u64 = 100, 1..=10_000;
        /// Shortest time in milliseconds without a leader after which a follower stands for
        /// election. At least 3 heartbeats, so that one lost heartbeat is no lost leader.
        election_timeout_min_ms: u64 = 500, 1..=100_000;
        /// Each timeout is drawn at random from the minimum up to this, in whole heartbeats and
        /// without this itself, so that nodes rarely stand at once. At least 2 heartbeats above the
        /// minimum: with less there would be nothing to draw.
        election_timeout_max_ms: u64 = 1_000, 1..=100_000;
        /// Longest time in seconds that a call to another node may take. At least the longest
        /// election timeout, so that no vote is given up that could still decide an election.
        /// Snapshots are exempt: they may take as long as they make progress.
        raft_rpc_timeout_secs: u64 = 5, 1..=300;
    }
}

section! {
    /// Section `[limits]`: everything that is bounded. The same on every machine.
    ///
    /// Bytes and lengths in memory are `usize`; what is handed to raft-rs, counts log entries or
    /// milliseconds is `u64`.
    "limits" Limits {
        /// Longest key, in bytes.
        max_key_bytes: usize = 4 * 1024, 1..=64 * 1024;
        /// Longest value, in bytes.
        max_value_bytes: usize = 1024 * 1024, 1..=64 * 1024 * 1024;
        /// Memory in bytes that keys, values and sessions may take. While this node leads, a write
        /// that would take more is refused as full; deletions, and writes that need no more than what
        /// they replace, never are. A key takes 224 bytes beside its own and those of its value, a
        /// session some 450. By default a third of the memory that the process may have: of the
        /// machine's, of its control group's, or of its limit of addresses, whichever is least. What a
        /// node may have of a state by this bound it also takes as a snapshot.
        max_state_bytes: usize = memory::a_third(), 1024 * 1024..=1024 * 1024 * 1024 * 1024 * 1024;
        /// Bytes of log entries in one append message (raft-rs `max_size_per_msg`). An entry that
        /// is larger than this travels alone.
        max_append_bytes: u64 = 512 * 1024, 1024..=64 * 1024 * 1024;
        /// Largest gRPC message in bytes, sent or received, on both listeners and in clients. It
        /// has room for the largest entry, the largest append and the largest snapshot chunk.
        max_grpc_message_bytes: usize = 4 * 1024 * 1024, 128 * 1024..=256 * 1024 * 1024;
        /// Bytes of one chunk of a snapshot on its way to a follower. The thread that answers clients
        /// carries a chunk at a time between two other things that it does, so small is gentle.
        snapshot_chunk_bytes: usize = 128 * 1024, 1024..=64 * 1024 * 1024;
        /// Append messages that a leader sends to a follower ahead of its answers (raft-rs
        /// `max_inflight_msgs`).
        max_inflight_appends: usize = 128, 1..=4_096;
        /// Bytes that wait to be sent to one peer. What does not fit is dropped and the leader is
        /// told so, which Raft allows. Appends of `max_append_bytes` always fit; a burst of entries
        /// that are larger than that may not.
        peer_queue_bytes: usize = 64 * 1024 * 1024, 1024 * 1024..=1024 * 1024 * 1024;
        /// Messages from peers that wait for the driver. When it is full, the streams that they
        /// come on are held back.
        peer_inbox_messages: usize = 64, 1..=4_096;
        /// Bytes of entries that a leader takes on before a majority holds them (raft-rs
        /// `max_uncommitted_size`). Beyond it, writes are refused as overloaded.
        max_uncommitted_bytes: u64 = 64 * 1024 * 1024, 64 * 1024..=1024 * 1024 * 1024;
        /// Client requests that a node holds at once, each command of a batch counted, and calls whose
        /// answers have not been sent. One more is
        /// refused as overloaded, and so is one whose connection has more of them than are left
        /// free. Batches of pipelines may have half of this, and are held back.
        max_pending_requests: usize = 65_536, 1..=1_048_576;
        /// Bytes of keys and values in the client requests that a node holds at once, and of messages
        /// of which only a part has come. One more is refused as overloaded, and so is one whose
        /// connection has more of them than are left free. Batches of pipelines may have half of this,
        /// and are held back.
        max_pending_bytes: usize = 256 * 1024 * 1024, 64 * 1024..=1024 * 1024 * 1024;
        /// Requests, of those, that are on their way through the log or wait for a round of
        /// heartbeats. The others wait for a turn, which connections share. More of them make a
        /// lone request wait longer beside many; fewer cost throughput where nodes are far from one
        /// another, because no more than these are served in the time of a round trip.
        max_inflight_requests: usize = 4_096, 1..=1_048_576;
        /// Bytes of answers that clients have not taken yet. A stream of a connection that holds as much
        /// as is left free is not read on, and a value that has no room is refused as overloaded. Then
        /// the connection is closed that holds most of those that have taken nothing for 10 seconds. The
        /// buffers of the answers may be twice as large.
        max_unread_bytes: usize = 256 * 1024 * 1024, 256 * 1024..=1024 * 1024 * 1024 * 1024;
        /// Requests that one turn of the driver takes.
        max_batch_requests: usize = 2_048, 1..=65_536;
        /// Bytes of keys and values that one turn of the driver proposes. A write that is larger
        /// than this is proposed alone.
        max_batch_bytes: usize = 1024 * 1024, 1024..=64 * 1024 * 1024;
        /// Reads that share one round of heartbeats.
        max_read_batch: usize = 4_096, 1..=65_536;
        /// Applied entries in the log at which it is compacted.
        compact_after_entries: u64 = 10_000, 2..=10_000_000;
        /// Bytes of applied entries in the log at which it is compacted, if that comes first. While
        /// a follower is being sent a snapshot, the log may grow to 4 times this.
        compact_after_bytes: u64 = 64 * 1024 * 1024, 64 * 1024..=1024 * 1024 * 1024;
        /// Newest applied entries that a compaction leaves in the log, so that a follower which is
        /// a little behind needs no snapshot.
        compact_keep_entries: u64 = 1_000, 1..=1_000_000;
        /// Connections of clients that a node holds at once. One more takes the place of one that has
        /// not greeted yet, or else of the one that has been idle for longest. Only if calls are under
        /// way on all of them is its client refused, as overloaded; an operator is not. Each takes a
        /// descriptor, and a node keeps some hundred to itself.
        max_connections: usize = 1_024, 16..=1_048_576;
        /// Calls and streams that one connection holds at once. Further ones wait in the client.
        max_concurrent_streams: u32 = 4_096, 16..=1_048_576;
        /// Longest time in milliseconds that a client's request waits on the node. At least the
        /// longest election timeout, so that a request can outlast the loss of a leader.
        request_timeout_ms: u64 = 5_000, 1..=600_000;
        /// Longest time in milliseconds that a shutdown takes; what is still open then is cut. At
        /// least the longest election timeout, which a leader may need to hand over.
        shutdown_timeout_ms: u64 = 10_000, 1..=600_000;
    }
}
