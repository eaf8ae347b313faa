package io.github.seshatkv.client;

import java.time.Duration;

/** Clocks that a test moves. */
final class FakeClock implements Clock {
  private long nanos = Long.MAX_VALUE - 1000;
  private long bootNanos = 5;

  @Override
  public long nanos() {
    return nanos;
  }

  @Override
  public long bootNanos() {
    return bootNanos;
  }

  void advance(Duration time) {
    nanos += time.toNanos();
    bootNanos += time.toNanos();
  }

  /** The machine was suspended: only one of the clocks counts. */
  void suspend(Duration time) {
    bootNanos += time.toNanos();
  }
}
