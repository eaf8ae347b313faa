package io.github.seshatkv.client;

import java.util.Optional;
import java.util.concurrent.TimeUnit;

/**
 * Until when a client may rely on its living session. Once it is lost, it stays lost.
 *
 * <p>The cluster counts the TTL from when it applies a renewal, the client from when it sent it,
 * and only 90 % of it. So the client gives up before the cluster ends the session, as long as the
 * rates of their clocks differ by at most 5 %. Safe for all threads.
 */
final class Lease {
  /** Longest time between two looks at the clocks: timers do not count suspended time. */
  static final long LOOK = TimeUnit.SECONDS.toNanos(1);

  private final long ttl;
  private final Clock clock;
  private Clock.Moment renewed;
  private Lost lost;

  /**
   * A lease of {@code ttl} nanoseconds that was granted for a request that was sent at a moment.
   */
  Lease(long ttl, Clock clock, Clock.Moment sent) {
    this.ttl = ttl;
    this.clock = clock;
    this.renewed = sent;
  }

  long ttl() {
    return ttl;
  }

  Clock.Moment now() {
    return Clock.Moment.now(clock);
  }

  private long holds() {
    return ttl / 10 * 9;
  }

  /** When it ends unless it is renewed, by the monotonic clock. */
  synchronized long end() {
    return renewed.nanos() + holds();
  }

  /** A renewal that was sent at this moment was answered. */
  synchronized void renew(Clock.Moment sent) {
    if (sent.nanos() - renewed.nanos() > 0) {
      renewed = sent;
    }
  }

  /** Ends it. Returns whether it was not lost before. */
  synchronized boolean lose(Lost why) {
    boolean news = lost == null;
    lost = news ? why : lost;
    return news;
  }

  /** Why it is lost, if it is. Reads the clocks. */
  synchronized Optional<Lost> lost() {
    if (lost == null && renewed.elapsed(clock) >= holds()) {
      lost = Lost.NOT_RENEWED;
    }
    return Optional.ofNullable(lost);
  }

  /** Whether it is time to renew it. */
  synchronized boolean isDue() {
    return renewed.elapsed(clock) >= ttl / 3;
  }

  /** When to look at it again, in nanoseconds from now. */
  synchronized long nextLook() {
    long age = renewed.elapsed(clock);
    long next = age >= ttl / 3 ? holds() - age : ttl / 3 - age;
    return Math.max(1, Math.min(next, LOOK));
  }
}
