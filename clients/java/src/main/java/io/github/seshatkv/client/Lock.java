package io.github.seshatkv.client;

import java.util.concurrent.CompletableFuture;

/**
 * A lock that this client holds, or its leadership, until it is released or its session is lost.
 *
 * <p>While {@link #isLost} is false, no other claim holds the lock, as long as the rates of the
 * clocks differ by at most 5 %. But a program may be stopped at any moment, also between that
 * question and what it does next. So what must never be done by two holders needs the {@link
 * #token}: a write to Seshat names it ({@link SetCall#ifHeld}, {@link Condition#held}); any other
 * resource refuses one that is lower than the highest that it has seen.
 */
public final class Lock implements AutoCloseable {
  private final Claim claim;
  private final long token;

  Lock(Claim claim, long token) {
    this.claim = claim;
    this.token = token;
  }

  /** The name of the lock. */
  public String name() {
    return claim.name();
  }

  /** The fencing token. Every later holder has a higher one, also after a loss of all data. */
  public long token() {
    return token;
  }

  /** The session that holds the lock. */
  public LivingSession session() {
    return claim.session();
  }

  /** Whether the lock is lost, or was released. Reads the clocks. */
  public boolean isLost() {
    return claim.isReleased() || session().isLost();
  }

  /** Completes when the lock is lost, because its session is. */
  public CompletableFuture<Lost> lost() {
    return session().lost();
  }

  /**
   * Releases the lock. The next claim holds it when this returns.
   *
   * @throws SeshatException the lock was lost before, or the release was not acknowledged in time:
   *     it goes on in the background
   */
  public void release() {
    claim.shared().await(true, claim::release);
  }

  /** See {@link #release}. */
  public CompletableFuture<Void> releaseAsync() {
    return claim.shared().start(claim::release);
  }

  /** Releases the lock; what is not acknowledged within the timeout goes on in the background. */
  @Override
  public void close() {
    try {
      release();
    } catch (SeshatException unacknowledged) {
      // It is lost, or is released in the background.
    }
  }

  /** Releases the lock in the background. */
  void abandon() {
    claim.shared().loop().execute(claim::abandon);
  }
}
