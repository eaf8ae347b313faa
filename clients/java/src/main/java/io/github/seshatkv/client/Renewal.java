package io.github.seshatkv.client;

import io.github.seshatkv.proto.kv.v1.CloseSessionRequest;
import io.github.seshatkv.proto.kv.v1.CloseSessionResponse;
import io.github.seshatkv.proto.kv.v1.KeepAliveRequest;
import io.github.seshatkv.proto.kv.v1.KvServiceGrpc;
import java.util.ArrayList;
import java.util.LinkedHashSet;
import java.util.Optional;
import java.util.OptionalLong;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.Future;
import java.util.function.Consumer;
import java.util.function.Function;

/** Renews one living session, tells when it is lost, and ends it. Belongs to the loop. */
final class Renewal {
  private final Shared shared;
  private final OptionalLong cluster;
  private final long session;
  private final Lease lease;
  private final Set<Consumer<Lost>> listeners = new LinkedHashSet<>();

  /** What the program gets. */
  private final CompletableFuture<Lost> told = new CompletableFuture<>();

  private CompletableFuture<?> keepAlive;
  private CompletableFuture<Void> ended;
  private Future<?> timer;
  private long pause;
  private long notBefore;
  private boolean isOver;

  Renewal(Shared shared, OptionalLong cluster, long session, Lease lease) {
    this.shared = shared;
    this.cluster = cluster;
    this.session = session;
    this.lease = lease;
    this.pause = shared.options().backoff().first();
    this.notBefore = Loop.now();
    shared.renewals().add(this);
    look();
  }

  Lease lease() {
    return lease;
  }

  /** Completes when the session is lost, on the executor for callbacks. */
  CompletableFuture<Lost> told() {
    return told;
  }

  /** Why the session is lost, if it is. Safe for all threads. */
  Optional<Lost> lost() {
    return lease.lost();
  }

  /** Fails if the session is lost. Safe for all threads. */
  void holds() {
    lost()
        .ifPresent(
            why -> {
              throw SeshatException.sessionLost(why);
            });
  }

  /** Runs {@code listener} when the session is lost, unless {@code done} is done before. */
  void whenLost(CompletableFuture<?> done, Consumer<Lost> listener) {
    if (isOver) {
      lost().ifPresent(listener);
      return;
    }
    listeners.add(listener);
    done.whenComplete((value, error) -> listeners.remove(listener));
  }

  /** Looks at the clocks, and does what is due. */
  private void look() {
    if (isOver) {
      return;
    }
    Optional<Lost> lost = lost();
    if (lost.isPresent()) {
      over(lost.get());
      return;
    }
    long next = lease.nextLook();
    if (keepAlive == null && lease.isDue()) {
      if (Loop.passed(notBefore)) {
        renew();
      } else {
        next = Math.min(next, Math.max(Loop.left(notBefore), 1));
      }
    }
    if (timer != null) {
      timer.cancel(false);
    }
    timer = shared.loop().at(Loop.after(next), this::look);
  }

  private void renew() {
    CompletableFuture<Clock.Moment> answered =
        call(
            lease.end(),
            cluster,
            node -> {
              Clock.Moment sent = lease.now();
              KeepAliveRequest.Builder request = KeepAliveRequest.newBuilder().setClientId(session);
              node.cluster().ifPresent(request::setClusterId);
              return Futures.map(
                  Rpc.unary(
                      shared.loop(), node, KvServiceGrpc.getKeepAliveMethod(), request.build()),
                  answer -> sent);
            });
    keepAlive = answered;
    answered.whenComplete(
        (sent, error) -> {
          keepAlive = null;
          if (isOver) {
            return;
          }
          if (error == null) {
            lease.renew(sent);
            pause = shared.options().backoff().first();
          } else if (Futures.error(error).isSessionExpired()) {
            lose(Lost.ENDED);
          } else {
            notBefore = Loop.after(Backoff.jittered(pause, shared.random()));
            pause = shared.options().backoff().longer(pause);
          }
          shared.loop().execute(this::look);
        });
  }

  /** The session is lost from now on, unless it was before. */
  void lose(Lost why) {
    lease.lose(why);
    over(lease.lost().orElse(why));
  }

  private void over(Lost why) {
    if (isOver) {
      return;
    }
    isOver = true;
    shared.renewals().remove(this);
    if (timer != null) {
      timer.cancel(false);
    }
    if (keepAlive != null) {
      keepAlive.cancel(true);
    }
    shared.options().callbacks().execute(() -> told.complete(why));
    new ArrayList<>(listeners).forEach(listener -> listener.accept(why));
    listeners.clear();
  }

  /**
   * Ends the session until {@code deadline}. It is lost at once: callers have to know it before the
   * cluster does. Fails if it was lost before, or if no node has acknowledged its end.
   */
  CompletableFuture<Void> end(long deadline) {
    if (ended == null) {
      Optional<Lost> lost = lost();
      if (lost.isPresent()) {
        return CompletableFuture.failedFuture(SeshatException.sessionLost(lost.get()));
      }
      lose(Lost.CLOSED);
      ended = new CompletableFuture<>();
      close(deadline, cluster)
          .whenComplete(
              (answer, error) -> {
                if (error != null && Futures.error(error).isSuccessor()) {
                  // A cluster that was recovered has the session, too.
                  Futures.link(
                      Futures.map(close(deadline, OptionalLong.empty()), it -> null), ended);
                } else if (error != null) {
                  ended.completeExceptionally(Futures.unwrap(error));
                } else {
                  ended.complete(null);
                }
              });
    }
    // A caller that waits no longer does not stop it.
    return ended.copy();
  }

  private CompletableFuture<CloseSessionResponse> close(long deadline, OptionalLong of) {
    return call(
        deadline,
        of,
        node -> {
          CloseSessionRequest.Builder request =
              CloseSessionRequest.newBuilder().setClientId(session);
          node.cluster().ifPresent(request::setClusterId);
          return Rpc.unary(
              shared.loop(), node, KvServiceGrpc.getCloseSessionMethod(), request.build());
        });
  }

  private <T> CompletableFuture<T> call(
      long deadline, OptionalLong of, Function<Node, CompletableFuture<T>> make) {
    Call.Scope scope = new Call.Scope(Loop.left(deadline), of, Node.Purpose.CALLS);
    return Call.make(shared, scope, deadline, Repeat.NUMBERED, make);
  }
}
