package io.github.seshatkv.client;

import com.google.protobuf.ByteString;
import io.github.seshatkv.client.Node.Purpose;
import io.github.seshatkv.proto.lock.v1.AcquireRequest;
import io.github.seshatkv.proto.lock.v1.AcquireResponse;
import io.github.seshatkv.proto.lock.v1.AwaitRequest;
import io.github.seshatkv.proto.lock.v1.AwaitResponse;
import io.github.seshatkv.proto.lock.v1.LockServiceGrpc;
import io.github.seshatkv.proto.lock.v1.ReleaseRequest;
import io.github.seshatkv.proto.lock.v1.ReleaseResponse;
import java.time.Duration;
import java.util.Optional;
import java.util.concurrent.CompletableFuture;
import java.util.function.Function;

/**
 * What a session does to hold a lock, and to give it back. Belongs to the loop.
 *
 * <p>A claim has a number of its session. Its Acquire is repeated under that number until it is
 * answered, and its Release uses the number up, so a copy of the Acquire that arrives later claims
 * nothing. A caller that gives up on the way may have a claim nevertheless: so it is released then,
 * too.
 */
final class Claim {
  /**
   * Most claims whose state a client asks for at once. A node takes 4096 calls of one connection by
   * default, and scans and observers use the same one. A question without a place there would have
   * no answer in time, as if its node were gone.
   */
  static final int MAX_AWAITS = 3072;

  /**
   * What is claimed.
   *
   * @param maxWait absent: the claim waits as long as its session lives
   */
  record Asked(String name, ByteString value, Optional<Duration> maxWait) {}

  private final Shared shared;
  private final LivingSession session;
  private final SessionState state;
  private final boolean isAlone;
  private final Asked asked;
  private final CompletableFuture<LockAttempt> result = new CompletableFuture<>();

  /**
   * What the wait for the lock waits for now. Not linked to the result, which would keep each of
   * these until the claim ends.
   */
  private CompletableFuture<?> step = CompletableFuture.completedFuture(null);

  private long number;

  /** Whether it may be at the cluster. */
  private boolean isOpen;

  private volatile boolean isReleased;

  private Claim(LivingSession session, boolean isAlone, Asked asked) {
    this.shared = session.shared();
    this.session = session;
    this.state = session.state();
    this.isAlone = isAlone;
    this.asked = asked;
  }

  /**
   * Claims a lock, and waits until the claim holds it or has ended.
   *
   * @param isAlone whether the session is used for nothing else, and ends with the claim
   */
  static CompletableFuture<LockAttempt> make(LivingSession session, boolean isAlone, Asked asked) {
    Claim claim = new Claim(session, isAlone, asked);
    // If the session is its own, that is given back with it.
    claim.isOpen = isAlone;
    claim.result.whenComplete(
        (attempt, error) -> {
          claim.step.cancel(true);
          if (!(attempt instanceof LockAttempt.Acquired)) {
            claim.abandon();
          }
        });
    claim
        .renewal()
        .whenLost(
            claim.result,
            why -> claim.result.completeExceptionally(SeshatException.sessionLost(why)));
    if (!claim.result.isDone()) {
      claim.begin();
    }
    return claim.result;
  }

  Shared shared() {
    return shared;
  }

  LivingSession session() {
    return session;
  }

  String name() {
    return asked.name;
  }

  /** Safe for all threads. */
  boolean isReleased() {
    return isReleased;
  }

  private Renewal renewal() {
    return state.renewal().orElseThrow();
  }

  private long deadline() {
    return Loop.after(session.timeout());
  }

  private void begin() {
    long deadline = deadline();
    CompletableFuture<Long> next = state.next(shared.loop(), 1, deadline);
    Futures.cancelWith(result, next);
    next.whenComplete(
        (given, error) -> {
          if (error != null) {
            result.completeExceptionally(Futures.unwrap(error));
          } else {
            number = given;
            acquire(deadline);
          }
        });
  }

  private void acquire(long deadline) {
    isOpen = true;
    CompletableFuture<AcquireResponse> acquired =
        call(
            Purpose.CALLS,
            deadline,
            node -> {
              AcquireRequest.Builder request =
                  AcquireRequest.newBuilder()
                      .setName(asked.name)
                      .setSession(state.numbers().stamp(number))
                      .setValue(asked.value);
              asked.maxWait.ifPresent(wait -> request.setMaxWait(Durations.toProto(wait)));
              node.cluster().ifPresent(request::setClusterId);
              return Futures.map(
                  Rpc.unary(
                      shared.loop(), node, LockServiceGrpc.getAcquireMethod(), request.build()),
                  answer -> {
                    if (answer.getResultCase() == AcquireResponse.ResultCase.RESULT_NOT_SET) {
                      throw CallError.broken("a state of a claim that this version does not know");
                    }
                    return answer;
                  });
            });
    Futures.cancelWith(result, acquired);
    acquired.whenComplete(
        (answer, error) -> {
          // The claim goes on, and further writes of the session need the place of its number.
          state.numbers().release(number);
          if (error == null) {
            acquired(answer);
          } else if (!result.isDone()) {
            SeshatException failed = Futures.error(error);
            isOpen = isAlone || failed.applied() != Applied.NO;
            result.completeExceptionally(failed);
          }
        });
  }

  private void acquired(AcquireResponse answer) {
    switch (answer.getResultCase()) {
      case HELD -> held(answer.getHeld().getToken());
      case WAITING -> await();
      case OCCUPIED -> over(new LockAttempt.Occupied(Holder.of(answer.getOccupied().getHolder())));
      case GONE, RESULT_NOT_SET -> over(new LockAttempt.TimedOut());
    }
  }

  private void held(long token) {
    if (result.isDone()) {
      return;
    }
    Optional<Lost> lost = renewal().lost();
    if (lost.isPresent()) {
      result.completeExceptionally(SeshatException.sessionLost(lost.get()));
    } else {
      result.complete(new LockAttempt.Acquired(new Lock(this, token)));
    }
  }

  /** The claim has ended without the lock. */
  private void over(LockAttempt outcome) {
    isOpen = isAlone;
    if (asked.maxWait.isEmpty()) {
      // Only the end of its session ends such a claim.
      renewal().lose(Lost.ENDED);
      result.completeExceptionally(SeshatException.sessionLost(Lost.ENDED));
    } else {
      result.complete(outcome);
    }
  }

  /** Waits until the claim holds the lock or has ended. */
  private void await() {
    if (result.isDone()) {
      return;
    }
    CompletableFuture<Void> turn = shared.awaits().take();
    step = turn;
    turn.whenComplete(
        (mine, gone) -> {
          if (gone == null) {
            ask();
          }
        });
  }

  /** Asks for the state of the claim, over a connection of its own, and ends its turn. */
  private void ask() {
    CompletableFuture<AwaitResponse> state =
        call(
            Purpose.STREAMS,
            deadline(),
            node -> {
              AwaitRequest.Builder request =
                  AwaitRequest.newBuilder()
                      .setName(asked.name)
                      .setClientId(session.id())
                      .setClaim(number);
              node.cluster().ifPresent(request::setClusterId);
              return Rpc.unary(
                  shared.loop(), node, LockServiceGrpc.getAwaitMethod(), request.build());
            });
    step = state;
    state.whenComplete(
        (answer, error) -> {
          // Not at once: the next one would ask within this call, and the one after it within that.
          shared.loop().execute(shared.awaits()::give);
          if (error != null && !Futures.error(error).isOutage()) {
            result.completeExceptionally(Futures.error(error));
          } else if (error != null) {
            // The claim waits, whether there is a leader or not.
            shared.loop().execute(this::await);
          } else {
            switch (answer.getResultCase()) {
              case HELD -> held(answer.getHeld().getToken());
              case GONE -> over(new LockAttempt.TimedOut());
              case WAITING, RESULT_NOT_SET -> shared.loop().execute(this::await);
            }
          }
        });
  }

  /** Releases the claim. If that is not acknowledged in time, it goes on in the background. */
  CompletableFuture<Void> release() {
    CompletableFuture<Void> released = new CompletableFuture<>();
    CompletableFuture<Void> release;
    if (isReleased) {
      return CompletableFuture.completedFuture(null);
    }
    isReleased = true;
    try {
      renewal().holds();
      release = isAlone ? renewal().end(deadline()) : releaseOnce();
    } catch (SeshatException lost) {
      release = CompletableFuture.failedFuture(lost);
    }
    release.whenComplete(
        (done, error) -> {
          if (error == null) {
            isOpen = false;
            released.complete(null);
          } else {
            abandon();
            released.completeExceptionally(Futures.unwrap(error));
          }
        });
    return released;
  }

  private CompletableFuture<Void> releaseOnce() {
    CompletableFuture<ReleaseResponse> answer =
        call(
            Purpose.CALLS,
            deadline(),
            node -> {
              ReleaseRequest.Builder request =
                  ReleaseRequest.newBuilder()
                      .setName(asked.name)
                      .setSession(state.numbers().stamp(number));
              node.cluster().ifPresent(request::setClusterId);
              return Rpc.unary(
                  shared.loop(), node, LockServiceGrpc.getReleaseMethod(), request.build());
            });
    return Futures.map(answer, done -> null);
  }

  /** Releases the claim in the background, until that is acknowledged or the session is lost. */
  void abandon() {
    isReleased = true;
    if (!isOpen || renewal().lost().isPresent()) {
      return;
    }
    isOpen = false;
    if (isAlone) {
      renewal().end(Loop.after(renewal().lease().ttl()));
    } else {
      releaseAtLast(shared.options().backoff().first());
    }
  }

  private void releaseAtLast(long pause) {
    if (renewal().lost().isPresent()) {
      return;
    }
    releaseOnce()
        .whenComplete(
            (done, error) -> {
              if (error != null && Futures.error(error).isOutage()) {
                long longer = shared.options().backoff().longer(pause);
                shared.loop().at(Loop.after(pause), () -> releaseAtLast(longer));
              }
            });
  }

  private <T> CompletableFuture<T> call(
      Purpose purpose, long deadline, Function<Node, CompletableFuture<T>> make) {
    Call.Scope scope = new Call.Scope(session.timeout(), state.cluster(), purpose);
    return Call.make(shared, scope, deadline, Repeat.NUMBERED, make);
  }
}
