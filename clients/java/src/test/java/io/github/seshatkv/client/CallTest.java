package io.github.seshatkv.client;

import static org.junit.jupiter.api.Assertions.assertEquals;

import io.github.seshatkv.client.Node.Purpose;
import java.time.Duration;
import java.util.List;
import java.util.Optional;
import java.util.OptionalLong;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;

class CallTest {
  private static final String ADDRESS = "127.0.0.1:1";
  private static final long LONG = TimeUnit.MINUTES.toNanos(10);

  private final Shared shared =
      new Shared(
          List.of(ADDRESS),
          new Options(
              LONG,
              Duration.ofSeconds(1),
              LONG,
              LONG,
              Backoff.DEFAULT,
              Claim.MAX_AWAITS,
              OptionalLong.empty(),
              true,
              Runnable::run,
              Clock.SYSTEM));

  @BeforeEach
  void aNodeHasServedACall() {
    shared.nodes().rememberLeader(ADDRESS);
  }

  @AfterEach
  void close() {
    shared.close();
  }

  private Optional<String> leaderAfterASilenceOf(Duration given) {
    Node node = shared.nodes().node(Purpose.CALLS, ADDRESS, Loop.now());
    Call.note(shared, node, CallError.silence(), given.toNanos());
    return shared.nodes().leader(LONG);
  }

  @Test
  void aNodeThatServesOthersIsNotGivenUpForAHastyCall() {
    assertEquals(Optional.of(ADDRESS), leaderAfterASilenceOf(Duration.ofMillis(99)));
  }

  @Test
  void aNodeThatHadLongEnoughIsGivenUp() {
    assertEquals(Optional.empty(), leaderAfterASilenceOf(Duration.ofMillis(100)));
  }

  @Test
  void aNodeIsJudgedByTheTimeThatItHadToAnswer() {
    Call.Scope scope = new Call.Scope(LONG, OptionalLong.empty(), Purpose.CALLS);
    // It had minutes, and no time at all has passed.
    Call.make(
            shared,
            scope,
            Loop.after(LONG),
            Repeat.ONCE,
            node -> CompletableFuture.failedFuture(CallError.silence()))
        .exceptionally(silent -> null)
        .join();
    assertEquals(Optional.empty(), shared.nodes().leader(LONG));
  }
}
