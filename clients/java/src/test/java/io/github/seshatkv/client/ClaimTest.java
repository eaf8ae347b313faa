package io.github.seshatkv.client;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.time.Duration;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.OptionalLong;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

@Timeout(20)
class ClaimTest {
  private static final Duration HOUR = Duration.ofHours(1);

  /** A client that asks for the state of so many claims at once. */
  private static Client client(TestNode node, int awaits) {
    long hour = HOUR.toNanos();
    Options options =
        new Options(
            hour,
            HOUR,
            hour,
            hour,
            Backoff.DEFAULT,
            awaits,
            OptionalLong.empty(),
            true,
            Runnable::run,
            Clock.SYSTEM);
    return new Client(new Shared(List.of(node.address()), options), hour);
  }

  @Test
  void claimsTakeTurnsWhereMoreWaitThanAreAskedForAtOnce() throws Exception {
    try (TestNode node = new TestNode();
        Client client = client(node, 2)) {
      LivingSession session = client.session(HOUR);
      List<CompletableFuture<Lock>> locks = new ArrayList<>();
      for (int claim = 0; claim < 5; claim++) {
        locks.add(session.lockAsync("k"));
      }
      // It keeps its place, and all others take turns at the other one.
      TestNode.Question first = node.questions.take();
      Set<Long> seen = new HashSet<>(Set.of(first.claim()));
      while (seen.size() < 5) {
        TestNode.Question question = node.questions.take();
        // A third question would come before the answers to these.
        for (int read = 0; read < 20; read++) {
          client.get("k");
        }
        assertTrue(node.questions.isEmpty());
        seen.add(question.claim());
        question.stillWaiting();
      }
      first.held();
      for (int claim = 1; claim < 5; claim++) {
        node.questions.take().held();
      }
      for (CompletableFuture<Lock> lock : locks) {
        assertEquals(9, lock.get().token());
      }
    }
  }

  @Test
  void aClaimThatHasNoTurnEndsWithItsCaller() throws Exception {
    try (TestNode node = new TestNode();
        Client client = client(node, 1)) {
      LivingSession session = client.session(HOUR);
      List<CompletableFuture<Lock>> locks = new ArrayList<>();
      for (int claim = 0; claim < 3; claim++) {
        locks.add(session.lockAsync("k"));
      }
      TestNode.Question first = node.questions.take();
      int asking = (int) first.claim() - 1;
      locks.get((asking + 1) % 3).cancel(true);
      locks.get(asking).cancel(true);
      node.questions.take().held();
      assertEquals(9, locks.get((asking + 2) % 3).get().token());
    }
  }
}
