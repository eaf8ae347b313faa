package io.github.seshatkv.client;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.time.Duration;
import java.util.Optional;
import org.junit.jupiter.api.Test;

class LeaseTest {
  private static final Duration TTL = Duration.ofSeconds(10);
  private final FakeClock clock = new FakeClock();
  private final Lease lease = new Lease(TTL.toNanos(), clock, Clock.Moment.now(clock));

  @Test
  void holdsForNinetyPercentOfItsTtl() {
    clock.advance(Duration.ofMillis(8999));
    assertEquals(Optional.empty(), lease.lost());
    clock.advance(Duration.ofMillis(1));
    assertEquals(Optional.of(Lost.NOT_RENEWED), lease.lost());
  }

  @Test
  void countsFromWhenTheRenewalWasSent() {
    Clock.Moment sent = lease.now();
    clock.advance(Duration.ofSeconds(5));
    lease.renew(sent);
    clock.advance(Duration.ofSeconds(4));
    assertEquals(Optional.of(Lost.NOT_RENEWED), lease.lost());
  }

  @Test
  void aRenewalMovesItsEnd() {
    clock.advance(Duration.ofSeconds(5));
    lease.renew(lease.now());
    clock.advance(Duration.ofSeconds(8));
    assertEquals(Optional.empty(), lease.lost());
    assertEquals(clock.nanos() + Duration.ofSeconds(1).toNanos(), lease.end());
  }

  @Test
  void anOlderRenewalDoesNotMoveItsEndBack() {
    Clock.Moment older = lease.now();
    clock.advance(Duration.ofSeconds(5));
    lease.renew(lease.now());
    lease.renew(older);
    clock.advance(Duration.ofSeconds(8));
    assertEquals(Optional.empty(), lease.lost());
  }

  @Test
  void countsTimeInWhichTheMachineIsSuspended() {
    clock.suspend(Duration.ofSeconds(9));
    assertEquals(Optional.of(Lost.NOT_RENEWED), lease.lost());
  }

  @Test
  void staysLost() {
    clock.advance(Duration.ofSeconds(9));
    lease.lost();
    lease.renew(lease.now());
    assertEquals(Optional.of(Lost.NOT_RENEWED), lease.lost());
    assertFalse(lease.lose(Lost.CLOSED));
    assertEquals(Optional.of(Lost.NOT_RENEWED), lease.lost());
  }

  @Test
  void isDueAfterAThirdOfItsTtl() {
    clock.advance(TTL.dividedBy(3).minusNanos(1));
    assertFalse(lease.isDue());
    clock.advance(Duration.ofNanos(1));
    assertTrue(lease.isDue());
  }

  @Test
  void isLookedAtEverySecondAndWhenSomethingIsDue() {
    assertEquals(Lease.LOOK, lease.nextLook());
    clock.advance(Duration.ofSeconds(3));
    assertEquals(TTL.toNanos() / 3 - Duration.ofSeconds(3).toNanos(), lease.nextLook());
    clock.advance(Duration.ofMillis(5900));
    assertEquals(Duration.ofMillis(100).toNanos(), lease.nextLook());
  }
}
