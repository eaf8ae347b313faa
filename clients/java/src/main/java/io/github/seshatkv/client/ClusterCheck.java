package io.github.seshatkv.client;

import com.google.protobuf.ByteString;
import io.github.seshatkv.client.Node.Purpose;
import io.github.seshatkv.proto.kv.v1.GetRequest;
import io.github.seshatkv.proto.kv.v1.KvServiceGrpc;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
import java.util.OptionalLong;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;

/**
 * Keeps a watch to its cluster. Belongs to the loop.
 *
 * <p>A node of another cluster does not refuse a watch, so it is asked for its cluster before its
 * state takes the place of what the caller has.
 */
final class ClusterCheck {
  /** The longest wait for nodes that are asked for their cluster. */
  private static final long MAX_WAIT = TimeUnit.SECONDS.toNanos(1);

  /** The id of no cluster: a node that is asked for it names its own. */
  private static final long NO_CLUSTER = 0;

  private final Shared shared;

  /** The cluster of the last complete state. */
  private OptionalLong cluster;

  /** Whether any cluster is accepted, because none of the nodes belongs to that one any more. */
  private boolean any;

  ClusterCheck(Shared shared, Optional<Position> position) {
    this.shared = shared;
    this.cluster = position.map(it -> OptionalLong.of(it.cluster())).orElse(OptionalLong.empty());
  }

  private OptionalLong known() {
    return cluster.isPresent() ? cluster : shared.nodes().cluster();
  }

  /**
   * The cluster of {@code node}; absent: any is accepted. Fails with a CallError if it is of
   * another cluster than the watch, or does not answer.
   */
  CompletableFuture<OptionalLong> of(Node node) {
    OptionalLong ours = any ? OptionalLong.empty() : known();
    if (ours.isEmpty()) {
      return CompletableFuture.completedFuture(ours);
    }
    CompletableFuture<OptionalLong> result = new CompletableFuture<>();
    CompletableFuture<?> answer = ask(node, ours.getAsLong());
    Futures.cancelWith(result, answer);
    answer.whenComplete(
        (value, error) -> {
          CallError fault = error == null ? null : CallError.of(error);
          // A node of this cluster refuses at once that there is no key.
          if (fault == null || fault.is(Reason.INVALID_REQUEST)) {
            result.complete(ours);
          } else if (fault.successor().isPresent() && shared.nodes().follows()) {
            shared.nodes().note(node.of(ours), fault);
            result.complete(fault.successor());
          } else {
            result.completeExceptionally(fault);
          }
        });
    return result;
  }

  private CompletableFuture<?> ask(Node node, long named) {
    GetRequest request =
        GetRequest.newBuilder().setKey(ByteString.EMPTY).setClusterId(named).build();
    return Rpc.unary(shared.loop(), node, KvServiceGrpc.getGetMethod(), request);
  }

  /** A complete state has come from the cluster {@code id}. Fails if it had to be another one. */
  void synced(OptionalLong expected, long id) {
    OptionalLong right =
        expected.isPresent() || any ? expected : shared.nodes().learn(OptionalLong.of(id));
    if (right.isPresent() && right.getAsLong() != id) {
      throw CallError.broken("the node has changed its cluster");
    }
    cluster = OptionalLong.of(id);
    any = false;
  }

  /**
   * Whether every node that answers belongs to another cluster than the watch, as after a loss of
   * all data. Then any is accepted.
   */
  CompletableFuture<Boolean> isReplaced() {
    OptionalLong ours = known();
    if (any || shared.options().cluster().isPresent() || ours.isEmpty()) {
      return CompletableFuture.completedFuture(false);
    }
    List<OptionalLong> clusters = new ArrayList<>();
    List<CompletableFuture<?>> asked = new ArrayList<>();
    for (String address : shared.nodes().endpoints()) {
      Node node = shared.nodes().node(Purpose.CALLS, address, Loop.after(MAX_WAIT));
      asked.add(
          ask(node, NO_CLUSTER)
              .handle(
                  (value, error) -> {
                    CallError fault = error == null ? null : CallError.of(error);
                    if (fault != null && fault.is(Reason.OTHER_CLUSTER)) {
                      clusters.add(
                          OptionalLong.of(fault.detail().getOtherCluster().getClusterId()));
                    }
                    return null;
                  }));
    }
    return CompletableFuture.allOf(asked.toArray(CompletableFuture[]::new))
        .thenApply(
            all -> {
              any = !clusters.isEmpty() && !clusters.contains(ours);
              return any;
            });
  }
}
