package io.github.seshatkv.client;

import com.google.protobuf.ByteString;
import io.github.seshatkv.client.Node.Purpose;
import io.github.seshatkv.proto.kv.v1.GetRequest;
import io.github.seshatkv.proto.kv.v1.GetResponse;
import io.github.seshatkv.proto.kv.v1.KvServiceGrpc;
import java.util.ArrayDeque;
import java.util.Map;
import java.util.Optional;
import java.util.OptionalLong;
import java.util.Queue;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.Future;

/**
 * Finds the leader. All calls of a client wait for one search. Belongs to the loop.
 *
 * <p>A node that answers a read leads, reaches a majority, and has a working connection.
 */
final class Leaders {
  /** A key that is read only to find the node that serves reads. */
  private static final ByteString PROBED_KEY = ByteString.copyFrom(new byte[] {0});

  /** A call that needs the leader. */
  private record Waiter(
      long deadline,
      long timeout,
      long age,
      String hint,
      CompletableFuture<Node> found,
      Future<?> timer) {}

  private final Shared shared;
  private final Queue<Waiter> waiters = new ArrayDeque<>();
  private boolean searching;

  Leaders(Shared shared) {
    this.shared = shared;
  }

  /**
   * The leader, if it has served a call within {@code age}; otherwise the one that a search finds.
   * The node at {@code hint} is among the first that it asks.
   */
  CompletableFuture<Node> find(long deadline, long timeout, long age, Optional<String> hint) {
    Optional<Node> known = known(age, deadline);
    if (known.isPresent()) {
      return CompletableFuture.completedFuture(known.get());
    }
    CompletableFuture<Node> found = new CompletableFuture<>();
    Future<?> timer =
        shared
            .loop()
            .at(deadline, () -> found.completeExceptionally(Search.tooLate(timeout, Map.of())));
    found.whenComplete((node, error) -> timer.cancel(false));
    waiters.add(new Waiter(deadline, timeout, age, hint.orElse(null), found, timer));
    if (!searching) {
      next();
    }
    return found;
  }

  private Optional<Node> known(long age, long deadline) {
    return shared
        .nodes()
        .leader(age)
        .map(address -> shared.nodes().node(Purpose.CALLS, address, deadline));
  }

  /** Serves the waiters in order, until one of them needs a search. */
  private void next() {
    searching = false;
    while (!searching && !waiters.isEmpty()) {
      Waiter waiter = waiters.remove();
      if (waiter.found.isDone()) {
        continue;
      }
      Optional<Node> known = known(waiter.age, waiter.deadline);
      if (known.isPresent()) {
        waiter.found.complete(known.get());
      } else {
        searching = true;
        search(waiter);
      }
    }
  }

  private void search(Waiter waiter) {
    // The search has the same deadline, and its error says more.
    waiter.timer.cancel(false);
    Search<GetResponse> search =
        new Search<>(shared, Purpose.CALLS, waiter.deadline, waiter.timeout, this::probe);
    search.endpoints(null).also(shared.nodes().connected());
    shared.nodes().leader(Long.MAX_VALUE).ifPresent(search::add);
    if (waiter.hint != null) {
      search.add(waiter.hint);
    }
    CompletableFuture<Search.Answer<GetResponse>> answer = search.run();
    Futures.cancelWith(waiter.found, answer);
    answer.whenComplete(
        (found, error) -> {
          if (error != null) {
            waiter.found.completeExceptionally(Futures.unwrap(error));
          } else {
            waiter.found.complete(accept(found, waiter.deadline));
          }
          shared.loop().execute(this::next);
        });
  }

  private Node accept(Search.Answer<GetResponse> answer, long deadline) {
    GetResponse response = answer.value();
    OptionalLong named =
        response.hasClusterId() ? OptionalLong.of(response.getClusterId()) : OptionalLong.empty();
    OptionalLong cluster = shared.nodes().learn(named);
    shared.nodes().rememberLeader(answer.node().address());
    return answer.node().until(deadline).of(cluster);
  }

  /** Asks a node for a read whose value is not needed. */
  private CompletableFuture<GetResponse> probe(Node node) {
    GetRequest.Builder request = GetRequest.newBuilder().setKey(PROBED_KEY);
    node.cluster().ifPresent(request::setClusterId);
    return Rpc.unary(shared.loop(), node, KvServiceGrpc.getGetMethod(), request.build());
  }
}
