package io.github.seshatkv.client;

import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionException;
import java.util.concurrent.ExecutionException;
import java.util.function.Function;

/** Futures whose cancellation reaches what they wait for. */
final class Futures {
  private Futures() {}

  /** What {@code next} makes of the outcome of {@code first}. Its cancellation cancels both. */
  static <A, B> CompletableFuture<B> then(
      CompletableFuture<A> first, Function<A, CompletableFuture<B>> next) {
    CompletableFuture<B> result = new CompletableFuture<>();
    cancelWith(result, first);
    first.whenComplete(
        (value, error) -> {
          if (error != null) {
            result.completeExceptionally(unwrap(error));
          } else if (!result.isDone()) {
            try {
              link(next.apply(value), result);
            } catch (RuntimeException thrown) {
              result.completeExceptionally(thrown);
            }
          }
        });
    return result;
  }

  /** The outcome of {@code first}, changed. Its cancellation cancels both. */
  static <A, B> CompletableFuture<B> map(CompletableFuture<A> first, Function<A, B> change) {
    return then(first, value -> CompletableFuture.completedFuture(change.apply(value)));
  }

  /** Completes {@code to} with the outcome of {@code from}, and cancels {@code from} with it. */
  static <T> void link(CompletableFuture<T> from, CompletableFuture<T> to) {
    cancelWith(to, from);
    from.whenComplete(
        (value, error) -> {
          if (error != null) {
            to.completeExceptionally(unwrap(error));
          } else {
            to.complete(value);
          }
        });
  }

  /** Cancels {@code other} as soon as {@code result} is done without it. */
  static void cancelWith(CompletableFuture<?> result, CompletableFuture<?> other) {
    result.whenComplete(
        (value, error) -> {
          if (!other.isDone()) {
            other.cancel(true);
          }
        });
  }

  /** The cause behind the wrappers of futures. */
  static Throwable unwrap(Throwable error) {
    boolean wraps = error instanceof CompletionException || error instanceof ExecutionException;
    return wraps && error.getCause() != null ? unwrap(error.getCause()) : error;
  }

  /** The error of a call that failed with {@code thrown}. */
  static SeshatException error(Throwable thrown) {
    Throwable cause = unwrap(thrown);
    if (cause instanceof SeshatException error) {
      return error;
    }
    SeshatException error =
        SeshatException.of(
            SeshatException.Kind.UNREACHABLE, Applied.UNKNOWN, String.valueOf(cause));
    error.initCause(cause);
    return error;
  }
}
