package io.github.seshatkv.client;

import java.util.concurrent.TimeUnit;
import java.util.random.RandomGenerator;

/**
 * Pauses between attempts: each is twice as long as the one before. In nanoseconds.
 *
 * @param first the first pause
 * @param longest the longest one
 */
record Backoff(long first, long longest) {
  static final Backoff DEFAULT =
      new Backoff(TimeUnit.MILLISECONDS.toNanos(20), TimeUnit.MILLISECONDS.toNanos(500));

  /** The pause after {@code pause}. */
  long longer(long pause) {
    return Math.min(pause * 2, longest);
  }

  /**
   * A random time between half of {@code pause} and all of it: clients that failed together must
   * not return together.
   */
  static long jittered(long pause, RandomGenerator random) {
    return random.nextLong(pause / 2, pause + 1);
  }
}
