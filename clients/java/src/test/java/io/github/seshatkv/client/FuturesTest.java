package io.github.seshatkv.client;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionException;
import org.junit.jupiter.api.Test;

class FuturesTest {
  private final CompletableFuture<Integer> first = new CompletableFuture<>();
  private final CompletableFuture<Integer> second = new CompletableFuture<>();

  @Test
  void aCancellationReachesWhatIsUnderWay() {
    CompletableFuture<Integer> both = Futures.then(first, value -> second);
    first.complete(1);
    both.cancel(true);
    assertTrue(second.isCancelled());
  }

  @Test
  void aCancellationBeforeTheFirstIsDoneStartsNoSecond() {
    CompletableFuture<Integer> both =
        Futures.then(
            first,
            value -> {
              throw new AssertionError();
            });
    both.cancel(true);
    assertTrue(first.isCancelled());
  }

  @Test
  void errorsComeWithoutWrappers() {
    CompletableFuture<Integer> mapped =
        Futures.map(
            first,
            value -> {
              throw CallError.silence();
            });
    first.complete(1);
    CompletionException error = assertThrows(CompletionException.class, mapped::join);
    assertEquals(CallError.class, error.getCause().getClass());
  }
}
