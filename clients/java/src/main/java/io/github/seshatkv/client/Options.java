package io.github.seshatkv.client;

import java.time.Duration;
import java.util.OptionalLong;
import java.util.concurrent.Executor;

/**
 * The settings of a client, as its builder sets them; times are in nanoseconds.
 *
 * @param timeout of each whole call
 * @param connectTimeout the longest wait for a connection
 * @param attemptTimeout the longest first wait for one node
 * @param trust how long an answer of the leader counts, before a write that must not be sent twice
 * @param backoff the pauses between attempts
 * @param awaits claims whose state is asked for at once
 * @param cluster the cluster whose answers count; absent: that of the first answer
 * @param follows whether a cluster that was recovered from that one takes its place
 * @param callbacks runs what depends on the futures that a program gets
 * @param clock measures leases
 */
record Options(
    long timeout,
    Duration connectTimeout,
    long attemptTimeout,
    long trust,
    Backoff backoff,
    int awaits,
    OptionalLong cluster,
    boolean follows,
    Executor callbacks,
    Clock clock) {}
