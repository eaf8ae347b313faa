package io.github.seshatkv.client;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.seshatkv.proto.kv.v1.Session;
import java.util.concurrent.CompletableFuture;
import org.junit.jupiter.api.Test;

class NumbersTest {
  private final Numbers numbers = new Numbers(-7);

  private long next() {
    return numbers.next(1).join();
  }

  private static Session stamp(long sequence, long firstOutstanding) {
    return Session.newBuilder()
        .setClientId(-7)
        .setSequence(sequence)
        .setFirstOutstanding(firstOutstanding)
        .build();
  }

  @Test
  void countFromOneWithoutARepetition() {
    assertEquals(1, next());
    assertEquals(2, next());
    numbers.release(1);
    numbers.release(2);
    assertEquals(3, next());
  }

  @Test
  void aStampHasTheLowestNumberThatIsOutstandingNow() {
    next();
    next();
    next();
    assertEquals(stamp(3, 1), numbers.stamp(3));
    numbers.release(1);
    assertEquals(stamp(3, 2), numbers.stamp(3));
    numbers.release(2);
    assertEquals(stamp(3, 3), numbers.stamp(3));
  }

  @Test
  void aStampOfANumberThatWasAnsweredNamesNoHigherOne() {
    next();
    numbers.release(1);
    next();
    assertEquals(stamp(1, 1), numbers.stamp(1));
  }

  @Test
  void atMost1024AreOutstandingAndFurtherOnesWaitInOrder() {
    numbers.next(Numbers.MAX_OUTSTANDING);
    CompletableFuture<Long> batch = numbers.next(2);
    CompletableFuture<Long> single = numbers.next(1);
    numbers.release(2);
    assertFalse(batch.isDone());
    numbers.release(1);
    // Room for two, which the batch has.
    assertEquals(1025, batch.join());
    assertFalse(single.isDone());
    numbers.release(3);
    assertEquals(1027, single.join());
  }

  @Test
  void oneThatWaitsNoLongerDelaysNoOther() {
    numbers.next(Numbers.MAX_OUTSTANDING);
    CompletableFuture<Long> batch = numbers.next(500);
    CompletableFuture<Long> single = numbers.next(1);
    numbers.release(1);
    assertFalse(single.isDone());
    batch.cancel(true);
    assertTrue(single.isDone());
    assertEquals(1025, single.join());
  }
}
