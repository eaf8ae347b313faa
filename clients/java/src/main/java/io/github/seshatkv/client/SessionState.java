package io.github.seshatkv.client;

import io.github.seshatkv.client.Node.Purpose;
import io.github.seshatkv.proto.kv.v1.KvServiceGrpc;
import io.github.seshatkv.proto.kv.v1.OpenSessionRequest;
import java.time.Duration;
import java.util.Optional;
import java.util.OptionalLong;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.Future;

/**
 * A session that is open. Belongs to the loop, except {@link #holds}.
 *
 * @param cluster the cluster that has it
 * @param numbers the numbers of its writes
 * @param renewal renews it, if it lives
 */
record SessionState(OptionalLong cluster, Numbers numbers, Optional<Renewal> renewal) {
  /** Fails if the session is lost. One that does not live never is. */
  void holds() {
    renewal.ifPresent(Renewal::holds);
  }

  /** The first of the next numbers, until a deadline. They have to be released. */
  CompletableFuture<Long> next(Loop loop, int count, long deadline) {
    CompletableFuture<Long> number = numbers.next(count);
    SeshatException full =
        SeshatException.of(
            SeshatException.Kind.DEADLINE,
            Applied.NO,
            "too many writes of the session are outstanding");
    Future<?> timer = loop.at(deadline, () -> number.completeExceptionally(full));
    number.whenComplete((first, error) -> timer.cancel(false));
    return number;
  }

  /** Opens a session, which lives if it has a TTL. */
  static CompletableFuture<SessionState> open(Shared shared, long timeout, Optional<Duration> ttl) {
    Call.Scope scope = new Call.Scope(timeout, OptionalLong.empty(), Purpose.CALLS);
    // One that a lost attempt has opened does no harm: so the call is repeated like a read.
    return Call.make(
        shared, scope, Loop.after(timeout), Repeat.READ, node -> attempt(shared, node, ttl));
  }

  /** Every attempt opens another session: a late copy must not open one again that has ended. */
  private static CompletableFuture<SessionState> attempt(
      Shared shared, Node node, Optional<Duration> ttl) {
    long id = shared.random().nextLong();
    Clock.Moment sent = Clock.Moment.now(shared.options().clock());
    OpenSessionRequest.Builder request =
        OpenSessionRequest.newBuilder().setClientId(id == 0 ? 1 : id);
    node.cluster().ifPresent(request::setClusterId);
    ttl.ifPresent(it -> request.setTtl(Durations.toProto(it)));
    return Futures.map(
        Rpc.unary(shared.loop(), node, KvServiceGrpc.getOpenSessionMethod(), request.build()),
        answer -> {
          Numbers numbers = new Numbers(request.getClientId());
          if (ttl.isEmpty()) {
            return new SessionState(node.cluster(), numbers, Optional.empty());
          }
          if (!answer.hasTtl()) {
            throw CallError.older("living sessions");
          }
          long granted = Durations.nanos(Durations.of(answer.getTtl()));
          Lease lease = new Lease(granted, shared.options().clock(), sent);
          Renewal renewal = new Renewal(shared, node.cluster(), numbers.session(), lease);
          return new SessionState(node.cluster(), numbers, Optional.of(renewal));
        });
  }
}
