package io.github.seshatkv.client;

import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.concurrent.CompletableFuture;
import org.junit.jupiter.api.Test;

class TurnsTest {
  private final Turns turns = new Turns(2);

  @Test
  void comeInTheOrderOfThoseWhoWait() {
    assertTrue(turns.take().isDone());
    assertTrue(turns.take().isDone());
    CompletableFuture<Void> third = turns.take();
    CompletableFuture<Void> fourth = turns.take();
    assertFalse(third.isDone());
    turns.give();
    assertTrue(third.isDone());
    assertFalse(fourth.isDone());
    turns.give();
    assertTrue(fourth.isDone());
  }

  @Test
  void areFreeWhenNoTaskWaits() {
    turns.take();
    turns.take();
    turns.give();
    assertTrue(turns.take().isDone());
    assertFalse(turns.take().isDone());
  }

  @Test
  void areNotForThoseWhoWaitNoLonger() {
    turns.take();
    turns.take();
    CompletableFuture<Void> third = turns.take();
    CompletableFuture<Void> fourth = turns.take();
    third.cancel(true);
    turns.give();
    assertTrue(fourth.isDone());
  }
}
