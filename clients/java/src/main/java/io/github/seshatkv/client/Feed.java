package io.github.seshatkv.client;

import java.time.Duration;
import java.util.Optional;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.Future;
import java.util.function.Supplier;

/**
 * Gives the news of a stream to the program, one by one. A caller that gives up loses none: the
 * next one gets it.
 *
 * @param <T> the news
 */
final class Feed<T> {
  /** News for a caller that may have gone. */
  record Delivery<T>(Feed<T> feed, T news) {
    /** The caller had gone: the next one gets it. */
    void giveBack() {
      feed.shared.loop().execute(() -> feed.current = CompletableFuture.completedFuture(news));
    }
  }

  private final Shared shared;
  private final Supplier<CompletableFuture<T>> produce;

  /** What is under way. Belongs to the loop, like {@code closed}. */
  private CompletableFuture<T> current;

  private boolean closed;

  /** A feed of what {@code produce} gives, which begins the next news on the loop. */
  Feed(Shared shared, Supplier<CompletableFuture<T>> produce) {
    this.shared = shared;
    this.produce = produce;
  }

  /** Waits for the next news. */
  T next() {
    return shared.await(false, this::take).news();
  }

  /** Waits for the next news, at most for {@code wait}. */
  Optional<T> next(Duration wait) {
    return shared.await(false, () -> poll(wait)).map(Delivery::news);
  }

  CompletableFuture<T> nextAsync() {
    return Futures.map(shared.start(this::take), Delivery::news);
  }

  private CompletableFuture<Optional<Delivery<T>>> poll(Duration wait) {
    CompletableFuture<Delivery<T>> taken = take();
    CompletableFuture<Optional<Delivery<T>>> result = new CompletableFuture<>();
    Future<?> timer =
        shared
            .loop()
            .at(Loop.after(Durations.nanos(wait)), () -> result.complete(Optional.empty()));
    Futures.link(Futures.map(taken, Optional::of), result);
    result.whenComplete((value, error) -> timer.cancel(false));
    return result;
  }

  private CompletableFuture<Delivery<T>> take() {
    if (closed) {
      return CompletableFuture.failedFuture(closedError());
    }
    if (current == null) {
      current = produce.get();
    }
    CompletableFuture<T> from = current;
    CompletableFuture<Delivery<T>> taken = new CompletableFuture<>();
    from.whenComplete(
        (news, error) -> {
          if (taken.isDone()) {
            return;
          }
          if (error != null) {
            taken.completeExceptionally(closed ? closedError() : Futures.unwrap(error));
          } else if (current == from) {
            current = null;
            taken.complete(new Delivery<>(this, news));
          } else {
            // Another caller has taken it.
            Futures.link(take(), taken);
          }
        });
    return taken;
  }

  private static SeshatException closedError() {
    return SeshatException.of(SeshatException.Kind.CANCELLED, Applied.NO, "it was closed");
  }

  /** Ends it, and what is under way. */
  void close(Runnable then) {
    shared
        .loop()
        .execute(
            () -> {
              closed = true;
              if (current != null) {
                current.cancel(true);
              }
              then.run();
            });
  }
}
