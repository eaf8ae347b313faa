package io.github.seshatkv.client;

import java.util.concurrent.CompletableFuture;
import java.util.concurrent.Executor;
import java.util.concurrent.Future;
import java.util.concurrent.RejectedExecutionException;
import java.util.concurrent.ScheduledThreadPoolExecutor;
import java.util.concurrent.TimeUnit;

/**
 * The one thread of a client: all of its state belongs to it, and it waits for nothing.
 *
 * <p>Times are in nanoseconds of {@link System#nanoTime}.
 */
final class Loop implements Executor {
  private final ScheduledThreadPoolExecutor thread;

  Loop() {
    thread =
        new ScheduledThreadPoolExecutor(
            1,
            run -> {
              Thread made = new Thread(run, "seshat-client");
              made.setDaemon(true);
              return made;
            });
    thread.setRemoveOnCancelPolicy(true);
    thread.setExecuteExistingDelayedTasksAfterShutdownPolicy(false);
  }

  static long now() {
    return System.nanoTime();
  }

  /** The time {@code nanos} from now; a time very far away if that is very long. */
  static long after(long nanos) {
    return now() + Math.min(Math.max(nanos, 0), Long.MAX_VALUE / 4);
  }

  /** How long it is until a time; 0: it has passed. */
  static long left(long time) {
    return Math.max(time - now(), 0);
  }

  static boolean passed(long time) {
    return time - now() <= 0;
  }

  static long earlier(long one, long other) {
    return one - other < 0 ? one : other;
  }

  @Override
  public void execute(Runnable task) {
    try {
      thread.execute(task);
    } catch (RejectedExecutionException closed) {
      // The client is closed: what waits for it has been told.
    }
  }

  /** Runs {@code task} at a time. The future cancels it. */
  Future<?> at(long time, Runnable task) {
    try {
      return thread.schedule(task, left(time), TimeUnit.NANOSECONDS);
    } catch (RejectedExecutionException closed) {
      return CompletableFuture.completedFuture(null);
    }
  }

  /** The outcome of {@code future}, or silence if there is none until {@code deadline}. */
  <T> CompletableFuture<T> within(long deadline, CompletableFuture<T> future) {
    if (future.isDone()) {
      return future;
    }
    CompletableFuture<T> result = new CompletableFuture<>();
    Future<?> timer = at(deadline, () -> result.completeExceptionally(CallError.silence()));
    Futures.link(future, result);
    result.whenComplete((value, error) -> timer.cancel(false));
    return result;
  }

  /** Completes {@code future} with {@code value} at a time, unless it is done before. */
  <T> void completeAt(long time, CompletableFuture<T> future, T value) {
    Future<?> timer = at(time, () -> future.complete(value));
    future.whenComplete((done, error) -> timer.cancel(false));
  }

  void close() {
    thread.shutdown();
  }
}
