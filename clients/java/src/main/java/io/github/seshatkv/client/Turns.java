package io.github.seshatkv.client;

import java.util.ArrayDeque;
import java.util.Queue;
import java.util.concurrent.CompletableFuture;

/** What a number of tasks have at a time: first come, first served. Belongs to the loop. */
final class Turns {
  private final Queue<CompletableFuture<Void>> waiting = new ArrayDeque<>();
  private int free;

  Turns(int places) {
    this.free = places;
  }

  /**
   * Completes when it is the turn of this task, which then has to {@linkplain #give give} it back.
   * To cancel it before ends the wait.
   */
  CompletableFuture<Void> take() {
    CompletableFuture<Void> turn = new CompletableFuture<>();
    if (free > 0) {
      free--;
      turn.complete(null);
    } else {
      waiting.add(turn);
      turn.whenComplete(
          (mine, gone) -> {
            if (gone != null) {
              waiting.remove(turn);
            }
          });
    }
    return turn;
  }

  /** The turn of one task is over. */
  void give() {
    CompletableFuture<Void> next = waiting.poll();
    if (next == null) {
      free++;
    } else {
      next.complete(null);
    }
  }
}
