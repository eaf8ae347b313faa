package io.github.seshatkv.client;

import io.github.seshatkv.client.Node.Purpose;
import io.grpc.ManagedChannel;
import io.grpc.netty.shaded.io.grpc.netty.NettyChannelBuilder;
import io.grpc.netty.shaded.io.netty.channel.ChannelOption;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.OptionalLong;
import java.util.concurrent.TimeUnit;

/**
 * The nodes that a client knows, its connections to them, the leader, and the cluster. Belongs to
 * the loop.
 *
 * <p>A connection that could not be made, or is silent, is replaced when it is needed again. Calls
 * that still wait on it may finish.
 */
final class Nodes {
  /** Nodes that are known besides the endpoints because other nodes named them. */
  private static final int MAX_LEARNED = 64;

  /** The largest message that a node may send. */
  private static final int MAX_MESSAGE_BYTES = 256 << 20;

  /** The library takes no less than 10 s for the first one. */
  private static final long KEEP_ALIVE_SECONDS = 10;

  private static final long KEEP_ALIVE_TIMEOUT_SECONDS = 5;

  private record Key(String address, Purpose purpose) {}

  private final List<String> endpoints;
  private final boolean follows;
  private final int connectMillis;
  private final Map<Key, ManagedChannel> connections = new HashMap<>();

  private String leader;
  private long heard;
  private volatile OptionalLong cluster;
  private boolean closed;

  Nodes(List<String> endpoints, OptionalLong cluster, boolean follows, int connectMillis) {
    this.endpoints = endpoints;
    this.cluster = cluster;
    this.follows = follows;
    this.connectMillis = connectMillis;
  }

  List<String> endpoints() {
    return endpoints;
  }

  /** The cluster that requests name. Safe for all threads. */
  OptionalLong cluster() {
    return cluster;
  }

  boolean follows() {
    return follows;
  }

  /** The node that served last, if that was within {@code age} nanoseconds. */
  Optional<String> leader(long age) {
    return leader != null && Loop.now() - heard < age ? Optional.of(leader) : Optional.empty();
  }

  /** The node has just served a call, as only the leader does. */
  void served(String address) {
    if (address.equals(leader)) {
      heard = Loop.now();
    }
  }

  void rememberLeader(String address) {
    leader = address;
    heard = Loop.now();
  }

  /** The nodes that calls went to, endpoints or not. */
  List<String> connected() {
    List<String> addresses = new ArrayList<>();
    for (Key key : connections.keySet()) {
      if (key.purpose == Purpose.CALLS) {
        addresses.add(key.address);
      }
    }
    return addresses;
  }

  /** The leader that was found first names the cluster. Returns the one that requests name. */
  OptionalLong learn(OptionalLong named) {
    cluster = cluster.isPresent() ? cluster : named;
    return cluster;
  }

  /** Updates what is known after a fault of {@code node}. */
  void note(Node node, CallError fault) {
    OptionalLong successor = fault.successor();
    if (successor.isPresent() && follows && cluster.equals(node.cluster())) {
      cluster = successor;
    }
    if (fault.endsLeadership() && node.address().equals(leader)) {
      leader = null;
    }
    if (fault.spoilsConnection()) {
      drop(node);
    }
  }

  /** Connects anew when the address is used next: it may lead to another node then. */
  void drop(Node node) {
    if (connections.remove(new Key(node.address(), node.purpose()), node.connection())) {
      node.connection().shutdown();
    }
  }

  /** The node at {@code address}, for a request that ends at {@code deadline}. */
  Node node(Purpose purpose, String address, long deadline) {
    Key key = new Key(address, purpose);
    ManagedChannel connection = connections.get(key);
    if (connection == null) {
      forgetSome();
      connection = connect(address);
      if (closed) {
        connection.shutdownNow();
      } else {
        connections.put(key, connection);
      }
    }
    return new Node(address, purpose, connection, deadline, cluster);
  }

  /** The same node, over a connection for {@code purpose}. */
  Node over(Purpose purpose, Node node) {
    return node.purpose() == purpose
        ? node
        : node(purpose, node.address(), node.deadline()).of(node.cluster());
  }

  /** Makes room for another connection. */
  private void forgetSome() {
    if (connections.size() < (endpoints.size() + MAX_LEARNED) * Purpose.values().length) {
      return;
    }
    connections
        .entrySet()
        .removeIf(
            entry -> {
              boolean learned = !endpoints.contains(entry.getKey().address);
              if (learned) {
                entry.getValue().shutdown();
              }
              return learned;
            });
  }

  private ManagedChannel connect(String address) {
    return NettyChannelBuilder.forTarget("dns:///" + address)
        .usePlaintext()
        .disableRetry()
        .disableServiceConfigLookUp()
        .proxyDetector(target -> null)
        .maxInboundMessageSize(MAX_MESSAGE_BYTES)
        .keepAliveTime(KEEP_ALIVE_SECONDS, TimeUnit.SECONDS)
        .keepAliveTimeout(KEEP_ALIVE_TIMEOUT_SECONDS, TimeUnit.SECONDS)
        .withOption(ChannelOption.CONNECT_TIMEOUT_MILLIS, connectMillis)
        .build();
  }

  /** Ends all connections, and the calls on them. */
  void close() {
    closed = true;
    connections.values().forEach(ManagedChannel::shutdownNow);
    connections.clear();
  }
}
