//! The two sections that consist of numbers, each with its unit, default and bounds.

use std::ops::RangeInclusive;

use super::fault::Problems;
use super::memory;
use super::reader::Reader;

/// Defines a section of numbers: the struct, its defaults, and how it is read and checked. So a number's
/// name, default and bounds are written once.
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

            /// Notes every number that is out of range, for a section that was made in code.
            pub(super) fn check_ranges(&self, faults: &mut Problems) {
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
        /// Shortest time in milliseconds without a leader after which a follower stands for election. At
        /// least 3 heartbeats, so that one lost heartbeat is not taken for a lost leader.
        election_timeout_min_ms: u64 = 500, 1..=100_000;
        /// Each timeout is drawn at random, in whole heartbeats, from the minimum up to this,
        /// exclusively, so that nodes rarely stand for election at once. At least 2 heartbeats above the
        /// minimum: otherwise there would be only one value to draw.
        election_timeout_max_ms: u64 = 1_000, 1..=100_000;
        /// Longest duration in seconds of a call to another node. At least the longest election timeout,
        /// so that no call is given up whose vote could still decide an election. Snapshots are exempt:
        /// they may take as long as they make progress.
        raft_rpc_timeout_secs: u64 = 5, 1..=300;
    }
}

section! {
    /// Section `[limits]`: all bounds. The same on every machine.
    ///
    /// Bytes and lengths in memory are `usize`; values for raft-rs, counts of log entries and
    /// milliseconds are `u64`.
    "limits" Limits {
        /// Longest key, in bytes.
        max_key_bytes: usize = 4 * 1024, 1..=64 * 1024;
        /// Longest value, in bytes.
        max_value_bytes: usize = 1024 * 1024, 1..=64 * 1024 * 1024;
        /// Memory in bytes that keys, values and sessions may take. While this node leads, it refuses a
        /// write that would exceed this as full. It never refuses deletions, and writes that need no more
        /// than the value that they replace. A key takes twice its bytes, those of its value and 232
        /// more, a session some 450. Default: a third of the memory that the process may use, which is
        /// the least of the machine's memory, its control group's limit, and its limit of addresses. A
        /// state within this bound is also accepted as a snapshot.
        max_state_bytes: usize = memory::a_third(), 1024 * 1024..=1024 * 1024 * 1024 * 1024 * 1024;
        /// Bytes of log entries in one append message (raft-rs `max_size_per_msg`). A larger entry is
        /// sent alone.
        max_append_bytes: u64 = 512 * 1024, 1024..=64 * 1024 * 1024;
        /// Largest gRPC message in bytes, sent or received, on both listeners and in clients. It
        /// has room for the largest entry, the largest append and the largest snapshot chunk.
        max_grpc_message_bytes: usize = 4 * 1024 * 1024, 128 * 1024..=256 * 1024 * 1024;
        /// Bytes of one chunk of a snapshot that is sent to a follower. The thread that answers clients
        /// passes on one chunk at a time, between other work, so a small chunk delays clients less.
        snapshot_chunk_bytes: usize = 128 * 1024, 1024..=64 * 1024 * 1024;
        /// Append messages that a leader sends to a follower before it has their answers (raft-rs
        /// `max_inflight_msgs`).
        max_inflight_appends: usize = 128, 1..=4_096;
        /// Bytes that may wait to be sent to one peer. A message that does not fit is dropped, and the
        /// leader is told, which Raft allows. Appends of `max_append_bytes` always fit; a burst of larger
        /// entries may not.
        peer_queue_bytes: usize = 64 * 1024 * 1024, 1024 * 1024..=1024 * 1024 * 1024;
        /// Messages from peers that may wait for the driver. When the queue is full, the peers' streams
        /// are held back.
        peer_inbox_messages: usize = 64, 1..=4_096;
        /// Bytes of entries that a leader accepts before a majority holds them (raft-rs
        /// `max_uncommitted_size`). Beyond it, writes are refused as overloaded.
        max_uncommitted_bytes: u64 = 64 * 1024 * 1024, 64 * 1024..=1024 * 1024 * 1024;
        /// Client requests that a node holds at once: single calls, each command of a batch, and calls
        /// whose answers have not been sent. One more is refused as overloaded. A connection may hold no
        /// more of them than it leaves free for others. Batches of pipelines may take half of this;
        /// beyond it they are held back.
        max_pending_requests: usize = 65_536, 1..=1_048_576;
        /// Bytes of keys and values in the client requests that a node holds at once, and of messages
        /// that have arrived only in part. One more is refused as overloaded. A connection may hold no
        /// more of them than it leaves free for others. Batches of pipelines may take half of this;
        /// beyond it they are held back.
        max_pending_bytes: usize = 256 * 1024 * 1024, 64 * 1024..=1024 * 1024 * 1024;
        /// How many of those requests may be in the log before they are applied, or wait for a round of
        /// heartbeats. The others wait for a turn, and connections take turns. More of them make a lone
        /// request wait longer next to many; fewer cost throughput if nodes are far from one another,
        /// because at most so many are served within one round trip.
        max_inflight_requests: usize = 4_096, 1..=1_048_576;
        /// Bytes of answers that clients have not read yet. If a connection holds as much as it leaves
        /// free for others, its streams are not read further, and a value without room is refused as
        /// overloaded. Then the connection that holds most, among those that have read nothing for 10
        /// seconds, is closed. The buffers of the answers may be twice as large.
        max_unread_bytes: usize = 256 * 1024 * 1024, 256 * 1024..=1024 * 1024 * 1024 * 1024;
        /// Most requests of one turn of the driver.
        max_batch_requests: usize = 2_048, 1..=65_536;
        /// Bytes of keys and values that one turn of the driver proposes. A larger write is proposed
        /// alone.
        max_batch_bytes: usize = 1024 * 1024, 1024..=64 * 1024 * 1024;
        /// Most reads that share one round of heartbeats.
        max_read_batch: usize = 4_096, 1..=65_536;
        /// Number of applied entries at which the log is compacted.
        compact_after_entries: u64 = 10_000, 2..=10_000_000;
        /// Bytes of applied entries at which the log is compacted, if that comes first. While a snapshot
        /// is being sent to a follower, the log may grow to 4 times this.
        compact_after_bytes: u64 = 64 * 1024 * 1024, 64 * 1024..=1024 * 1024 * 1024;
        /// Newest applied entries that a compaction leaves in the log, so that a follower which is
        /// slightly behind needs no snapshot.
        compact_keep_entries: u64 = 1_000, 1..=1_000_000;
        /// Connections of clients that a node holds at once. One more gets the slot of one that has not
        /// sent its preface yet, or else of the one that has been idle for longest. If calls are in
        /// flight on all of them, the new client is refused as overloaded, but an operator is not. Each
        /// takes a descriptor, and a node reserves some hundred for itself.
        max_connections: usize = 1_024, 16..=1_048_576;
        /// Calls and streams at once on one connection. Further ones wait in the client.
        max_concurrent_streams: u32 = 4_096, 16..=1_048_576;
        /// Longest wait in milliseconds of a client's request on the node. At least the longest election
        /// timeout, so that a request can outlast the loss of a leader.
        request_timeout_ms: u64 = 5_000, 1..=600_000;
        /// Longest duration in milliseconds of a shutdown; open connections are cut then. At least the
        /// longest election timeout, which a leader may need to transfer leadership.
        shutdown_timeout_ms: u64 = 10_000, 1..=600_000;
    }
}
