package io.github.seshatkv.client;

import io.github.seshatkv.proto.kv.v1.Session;
import java.util.ArrayDeque;
import java.util.Queue;
import java.util.TreeSet;
import java.util.concurrent.CompletableFuture;

/**
 * The numbers of a session's writes, and which of them are outstanding. Belongs to the loop.
 *
 * <p>A number is given once. It is outstanding while a caller waits for its answer; then the
 * session moves past it, and nodes refuse a copy of that write that is still under way. Numbers are
 * given first come, first served.
 */
final class Numbers {
  /** Numbers that may be outstanding: a node refuses more. */
  static final int MAX_OUTSTANDING = 1024;

  private record Waiter(int count, CompletableFuture<Long> first) {}

  private final long session;
  private final TreeSet<Long> outstanding = new TreeSet<>();
  private final Queue<Waiter> waiters = new ArrayDeque<>();
  private long next = 1;

  Numbers(long session) {
    this.session = session;
  }

  long session() {
    return session;
  }

  private long firstOutstanding() {
    return outstanding.isEmpty() ? next : outstanding.first();
  }

  /**
   * The first of the next {@code count} numbers, at most {@link #MAX_OUTSTANDING}. Waits until so
   * many may be outstanding. They have to be {@linkplain #release released}.
   */
  CompletableFuture<Long> next(int count) {
    Waiter waiter = new Waiter(count, new CompletableFuture<>());
    waiters.add(waiter);
    serve();
    waiter.first.whenComplete(
        (value, error) -> {
          if (error != null) {
            // One that waits no longer must not stand before the others.
            waiters.remove(waiter);
            serve();
          }
        });
    return waiter.first;
  }

  private void serve() {
    while (!waiters.isEmpty()) {
      Waiter waiter = waiters.peek();
      long end = next + waiter.count;
      if (end > firstOutstanding() + MAX_OUTSTANDING) {
        return;
      }
      waiters.remove();
      if (waiter.first.isDone()) {
        continue;
      }
      long first = next;
      for (; next < end; next++) {
        outstanding.add(next);
      }
      waiter.first.complete(first);
    }
  }

  /** The caller of this number waits no longer. */
  void release(long sequence) {
    if (outstanding.remove(sequence)) {
      serve();
    }
  }

  /** The stamp of a request about the write of this number, if it is sent now. */
  Session stamp(long sequence) {
    return Session.newBuilder()
        .setClientId(session)
        .setSequence(sequence)
        .setFirstOutstanding(Math.min(firstOutstanding(), sequence))
        .build();
  }
}
