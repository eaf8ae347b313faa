package io.github.seshatkv.client;

import java.security.SecureRandom;
import java.util.HashSet;
import java.util.List;
import java.util.Optional;
import java.util.Set;
import java.util.concurrent.CancellationException;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ExecutionException;
import java.util.function.Supplier;
import java.util.random.RandomGenerator;

/** What all calls, sessions and streams of a client share, and how threads of the program enter. */
final class Shared {
  private final Options options;
  private final Loop loop = new Loop();
  private final RandomGenerator random = new SecureRandom();
  private final Nodes nodes;
  private final Leaders leaders = new Leaders(this);
  private final Turns awaits;

  /** The calls that are under way. */
  private final Set<CompletableFuture<?>> pending = ConcurrentHashMap.newKeySet();

  /** The sessions that are renewed. Belongs to the loop. */
  private final Set<Renewal> renewals = new HashSet<>();

  private volatile boolean closed;

  Shared(List<String> endpoints, Options options) {
    this.options = options;
    this.awaits = new Turns(options.awaits());
    int connectMillis = (int) Math.min(options.connectTimeout().toMillis(), Integer.MAX_VALUE);
    this.nodes = new Nodes(endpoints, options.cluster(), options.follows(), connectMillis);
  }

  Options options() {
    return options;
  }

  Loop loop() {
    return loop;
  }

  RandomGenerator random() {
    return random;
  }

  Nodes nodes() {
    return nodes;
  }

  Leaders leaders() {
    return leaders;
  }

  /** Those of the claims whose state is asked for. */
  Turns awaits() {
    return awaits;
  }

  Set<Renewal> renewals() {
    return renewals;
  }

  /**
   * Begins {@code body} on the loop. What depends on the future runs on the executor for callbacks,
   * never on the loop. To cancel the future ends the call.
   */
  <T> CompletableFuture<T> start(Supplier<CompletableFuture<T>> body) {
    CompletableFuture<T> result = new CompletableFuture<>();
    enter(result, body, true);
    return result;
  }

  /** Begins {@code body} on the loop, and waits for its outcome. */
  <T> T await(boolean writes, Supplier<CompletableFuture<T>> body) {
    CompletableFuture<T> result = new CompletableFuture<>();
    enter(result, body, false);
    Applied applied = writes ? Applied.UNKNOWN : Applied.NO;
    try {
      return result.get();
    } catch (ExecutionException failed) {
      throw Futures.error(failed).here();
    } catch (CancellationException cancelled) {
      throw SeshatException.of(
          SeshatException.Kind.CANCELLED, applied, "the client was closed during the call");
    } catch (InterruptedException interrupted) {
      result.cancel(true);
      Thread.currentThread().interrupt();
      throw SeshatException.of(
          SeshatException.Kind.CANCELLED, applied, "the thread was interrupted during the call");
    }
  }

  private <T> void enter(
      CompletableFuture<T> result, Supplier<CompletableFuture<T>> body, boolean elsewhere) {
    pending.add(result);
    result.whenComplete((value, error) -> pending.remove(result));
    if (closed) {
      result.completeExceptionally(SeshatException.invalid("the client is closed"));
      return;
    }
    loop.execute(() -> begin(result, body, elsewhere));
  }

  private <T> void begin(
      CompletableFuture<T> result, Supplier<CompletableFuture<T>> body, boolean elsewhere) {
    if (result.isDone()) {
      return;
    }
    CompletableFuture<T> inner;
    try {
      inner = body.get();
    } catch (RuntimeException thrown) {
      inner = CompletableFuture.failedFuture(thrown);
    }
    CompletableFuture<T> outcome = inner;
    result.whenComplete(
        (value, error) -> {
          if (result.isCancelled()) {
            loop.execute(() -> outcome.cancel(true));
          }
        });
    outcome.whenComplete(
        (value, error) -> {
          if (elsewhere) {
            options.callbacks().execute(() -> settle(result, value, error));
          } else {
            settle(result, value, error);
          }
        });
  }

  private static <T> void settle(CompletableFuture<T> result, T value, Throwable error) {
    if (error == null) {
      if (!result.complete(value)) {
        abandon(value);
      }
    } else {
      result.completeExceptionally(Futures.error(error));
    }
  }

  /** Gives back what came when its caller had gone. */
  private static void abandon(Object value) {
    if (value instanceof LivingSession session) {
      session.abandon();
    } else if (value instanceof Lock lock) {
      lock.abandon();
    } else if (value instanceof LockAttempt.Acquired acquired) {
      acquired.lock().abandon();
    } else if (value instanceof Feed.Delivery<?> delivery) {
      delivery.giveBack();
    } else if (value instanceof Optional<?> optional) {
      optional.ifPresent(Shared::abandon);
    } else if (value instanceof Pipeline pipeline) {
      pipeline.close();
    }
  }

  /** Ends the living sessions, as well as that can be done, and then everything else. */
  void close() {
    if (closed) {
      return;
    }
    try {
      await(
          false,
          () -> {
            List<CompletableFuture<Void>> ends =
                List.copyOf(renewals).stream()
                    .map(it -> it.end(Loop.after(options.timeout())))
                    .toList();
            CompletableFuture<Void> all =
                CompletableFuture.allOf(ends.toArray(CompletableFuture[]::new));
            return all.exceptionally(unacknowledged -> null);
          });
    } catch (SeshatException interrupted) {
      // Then the cluster ends them when their TTL has passed.
    }
    closed = true;
    loop.execute(
        () -> {
          nodes.close();
          List.copyOf(pending).forEach(call -> call.cancel(true));
          loop.close();
        });
  }
}
