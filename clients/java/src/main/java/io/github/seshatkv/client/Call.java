package io.github.seshatkv.client;

import io.github.seshatkv.client.Node.Purpose;
import java.util.Map;
import java.util.Optional;
import java.util.OptionalLong;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.function.Function;

/**
 * One call, from the first attempt to its deadline. Belongs to the loop.
 *
 * <p>It goes to the node that served last; if none is known, a search finds the leader first. A
 * failed attempt is repeated only where that is safe. The outcome of the call is that of all
 * attempts.
 *
 * @param <T> the answer
 */
final class Call<T> {
  /**
   * The shortest time that says anything about a node that has served other calls lately: a call
   * may have a deadline that no node can keep.
   */
  private static final long SILENCE = TimeUnit.MILLISECONDS.toNanos(100);

  private final Shared shared;
  private final Scope scope;
  private final long deadline;
  private final Repeat repeat;
  private final Function<Node, CompletableFuture<T>> make;
  private final CompletableFuture<T> result = new CompletableFuture<>();
  private long pause;
  private long attemptTimeout;
  private boolean inDoubt;

  /**
   * What a call goes to.
   *
   * @param timeout for the message of its error
   * @param cluster the cluster that it names; absent: the one that the client knows
   * @param purpose the connections that it uses
   */
  record Scope(long timeout, OptionalLong cluster, Purpose purpose) {}

  private Call(
      Shared shared,
      Scope scope,
      long deadline,
      Repeat repeat,
      Function<Node, CompletableFuture<T>> make) {
    this.shared = shared;
    this.scope = scope;
    this.deadline = deadline;
    this.repeat = repeat;
    this.make = make;
    this.pause = shared.options().backoff().first();
    this.attemptTimeout = shared.options().attemptTimeout();
  }

  /**
   * Makes a call until it is answered or {@code deadline} has come.
   *
   * @param make makes one attempt at a node, until the deadline of that; it fails with a CallError
   * @return the answer, or a SeshatException; to cancel it ends the call
   */
  static <T> CompletableFuture<T> make(
      Shared shared,
      Scope scope,
      long deadline,
      Repeat repeat,
      Function<Node, CompletableFuture<T>> make) {
    Call<T> call = new Call<>(shared, scope, deadline, repeat, make);
    call.begin(Optional.empty());
    return call.result;
  }

  private void begin(Optional<String> hint) {
    long age = repeat == Repeat.ONCE ? shared.options().trust() : Long.MAX_VALUE;
    CompletableFuture<Node> leader = shared.leaders().find(deadline, scope.timeout, age, hint);
    Futures.cancelWith(result, leader);
    leader.whenComplete(
        (node, error) -> {
          if (result.isDone()) {
            return;
          }
          if (error != null) {
            result.completeExceptionally(Futures.error(error).inDoubt(inDoubt));
          } else {
            attempt(node);
          }
        });
  }

  private void attempt(Node leader) {
    OptionalLong cluster = scope.cluster.isPresent() ? scope.cluster : leader.cluster();
    Node connected = shared.nodes().over(scope.purpose, leader).of(cluster);
    long until = deadline;
    if (repeat != Repeat.ONCE) {
      // A third at most, so that enough time is left for another node.
      long longest = Math.min(attemptTimeout, Loop.left(deadline) / 3);
      until = Loop.earlier(deadline, Loop.after(longest));
    }
    Node node = connected.until(until);
    long given = Loop.left(until);
    CompletableFuture<T> attempt = make.apply(node);
    Futures.cancelWith(result, attempt);
    attempt.whenComplete(
        (value, error) -> {
          if (result.isDone()) {
            return;
          }
          if (error == null) {
            shared.nodes().served(node.address());
            result.complete(value);
          } else {
            failed(node, CallError.of(error), given);
          }
        });
  }

  private void failed(Node node, CallError said, long given) {
    CallError fault = repeat == Repeat.READ ? said.notApplied() : said;
    note(shared, node, fault, given);
    if (scope.purpose == Purpose.STREAMS && fault.sendsElsewhere()) {
      shared.nodes().drop(node);
    }
    inDoubt |= fault.applied() == Applied.UNKNOWN;
    if (!again(fault)) {
      result.completeExceptionally(fault.ended(node.address()).inDoubt(inDoubt));
      return;
    }
    long next = Loop.after(Backoff.jittered(pause, shared.random()));
    if (next - deadline >= 0) {
      Map<String, CallError> faults = Map.of(node.address(), fault);
      result.completeExceptionally(Search.tooLate(scope.timeout, faults).inDoubt(inDoubt));
      return;
    }
    pause = shared.options().backoff().longer(pause);
    if (fault.silent()) {
      attemptTimeout *= 2;
    }
    Optional<String> hint = fault.leaderAddress().flatMap(Endpoints::parse);
    Future<?> timer = shared.loop().at(next, () -> begin(hint));
    result.whenComplete((value, error) -> timer.cancel(false));
  }

  private boolean again(CallError fault) {
    if (repeat == Repeat.ONCE && fault.applied() == Applied.UNKNOWN) {
      return false;
    }
    // A session ends with its cluster.
    if (repeat == Repeat.NUMBERED && fault.successor().isPresent()) {
      return false;
    }
    return fault.retry() == Retry.LATER;
  }

  /**
   * Updates what is known after a fault of {@code node}, which had so long to answer, in
   * nanoseconds. How long the attempt took in the end depends on the load of this machine, too.
   */
  static void note(Shared shared, Node node, CallError fault, long given) {
    boolean wasHeard =
        shared
            .nodes()
            .leader(shared.options().trust())
            .filter(address -> address.equals(node.address()))
            .isPresent();
    if (!(fault.silent() && given < SILENCE && wasHeard)) {
      shared.nodes().note(node, fault);
    }
  }
}
