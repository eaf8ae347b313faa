package io.github.seshatkv.client;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import org.junit.jupiter.api.Test;

class ClockTest {
  @Test
  void readsTheFirstNumberOfUptime() {
    assertEquals(75_031_420_000_000L, Clock.SystemClock.parse("75031.42 149000.00\n"));
    assertEquals(10_000_000L, Clock.SystemClock.parse("0.01 0.00\n"));
  }

  @Test
  void countsAlsoWhenItsThreadWasInterrupted() {
    long before = Clock.SYSTEM.bootNanos();
    Thread.currentThread().interrupt();
    long during = Clock.SYSTEM.bootNanos();
    assertTrue(Thread.interrupted());
    assertTrue(during >= before);
    assertTrue(Clock.SYSTEM.bootNanos() >= during);
  }

  @Test
  void takesTheClockThatHasCountedMore() {
    FakeClock clock = new FakeClock();
    Clock.Moment begun = Clock.Moment.now(clock);
    clock.advance(java.time.Duration.ofNanos(2000));
    assertEquals(2000, begun.elapsed(clock));
    clock.suspend(java.time.Duration.ofNanos(30));
    assertEquals(2030, begun.elapsed(clock));
  }
}
