package io.github.seshatkv.client;

import io.grpc.ManagedChannel;
import java.util.OptionalLong;

/**
 * A node, and a connection to it, for one request.
 *
 * @param address where it is, as {@code host:port}
 * @param purpose what the connection is for
 * @param connection which of the connections there it is
 * @param deadline when the request ends
 * @param cluster the cluster that the request names
 */
record Node(
    String address,
    Purpose purpose,
    ManagedChannel connection,
    long deadline,
    OptionalLong cluster) {

  /**
   * The use of a connection. What is read slowly fills its connection, and must not delay calls.
   */
  enum Purpose {
    /** Calls, and pipelines. */
    CALLS,
    /** Answers of many parts, and calls that wait for a lock. */
    STREAMS,
    /** Watches. */
    WATCHES
  }

  Node until(long time) {
    return new Node(address, purpose, connection, time, cluster);
  }

  Node of(OptionalLong other) {
    return new Node(address, purpose, connection, deadline, other);
  }
}
