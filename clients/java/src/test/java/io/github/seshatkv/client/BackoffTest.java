package io.github.seshatkv.client;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.ArrayList;
import java.util.List;
import java.util.Random;
import java.util.stream.LongStream;
import org.junit.jupiter.api.Test;

class BackoffTest {
  @Test
  void doublesFrom20To500Milliseconds() {
    List<Long> pauses = new ArrayList<>();
    long pause = Backoff.DEFAULT.first();
    for (int i = 0; i < 7; i++) {
      pauses.add(pause / 1_000_000);
      pause = Backoff.DEFAULT.longer(pause);
    }
    assertEquals(List.of(20L, 40L, 80L, 160L, 320L, 500L, 500L), pauses);
  }

  @Test
  void aPauseIsDrawnBetweenItsHalfAndAllOfIt() {
    Random random = new Random(7);
    long[] drawn = LongStream.generate(() -> Backoff.jittered(100, random)).limit(2000).toArray();
    assertEquals(50, LongStream.of(drawn).min().getAsLong());
    assertEquals(100, LongStream.of(drawn).max().getAsLong());
    assertTrue(LongStream.of(drawn).distinct().count() > 40);
  }
}
