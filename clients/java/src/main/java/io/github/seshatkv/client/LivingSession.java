package io.github.seshatkv.client;

import java.time.Duration;
import java.util.concurrent.CompletableFuture;

/**
 * A session that the client renews, and that the cluster ends when no renewal has come for its TTL.
 * It may {@linkplain SetCall#ownedBy own keys} and hold {@linkplain #lock locks}, which end with
 * it.
 *
 * <p>The session is lost for the client when 90 % of the TTL have passed since it sent the last
 * renewal that was answered. Until then it lives in the cluster, as long as the rates of the clocks
 * differ by at most 5 %. From then on every call of it fails with {@link
 * SeshatException.Kind#SESSION_LOST}, and nothing brings it back: end what relied on it, and open
 * another one.
 *
 * <p>Time counts while the machine is suspended, too, on Linux ({@code /proc/uptime}). On other
 * systems do not rely on the session after a suspension.
 */
public final class LivingSession extends Session implements AutoCloseable {
  private final Renewal renewal;

  LivingSession(Shared shared, long timeout, SessionState state) {
    super(shared, timeout, state);
    this.renewal = state.renewal().orElseThrow();
  }

  /** The TTL, as the cluster has granted it. */
  public Duration ttl() {
    return Duration.ofNanos(renewal.lease().ttl());
  }

  /**
   * Whether the session is lost. Reads the clocks: it is right also when the program has just been
   * stopped or suspended.
   */
  public boolean isLost() {
    return renewal.lost().isPresent();
  }

  /** Completes when the session is lost. After a suspension of the machine it may take a second. */
  public CompletableFuture<Lost> lost() {
    return renewal.told().copy();
  }

  @Override
  public LivingSession withTimeout(Duration other) {
    return new LivingSession(shared(), Durations.nanos(other), state());
  }

  /**
   * Acquires a lock, and waits as long as the session lives; an interrupt of the thread ends the
   * wait. Each call is a claim of its own: a session that acquires a lock twice waits for itself.
   */
  public Lock lock(String name) {
    return claim(name).acquire();
  }

  /** See {@link #lock}. */
  public CompletableFuture<Lock> lockAsync(String name) {
    return claim(name).acquireAsync();
  }

  /** A claim to a lock, with settings. Nothing is sent before {@link LockCall#acquire}. */
  public LockCall claim(String name) {
    return LockCall.in(this, name);
  }

  /**
   * Stands for election, and waits until this client leads. An election is a lock with a value, and
   * its leader is the holder. {@code value} is what observers see then, such as an address.
   */
  public Lock elect(String name, String value) {
    return claim(name).value(value).acquire();
  }

  /**
   * Ends the session, and removes the keys that it owns. It is lost at once.
   *
   * @throws SeshatException it was lost before, or its end was not acknowledged in time. The
   *     cluster ends it at the latest when its TTL has passed
   */
  public void end() {
    shared().await(true, () -> renewal.end(Loop.after(timeout())));
  }

  /** See {@link #end}. */
  public CompletableFuture<Void> endAsync() {
    return shared().start(() -> renewal.end(Loop.after(timeout())));
  }

  /** Ends the session, as well as that can be done within the timeout. Never fails. */
  @Override
  public void close() {
    try {
      end();
    } catch (SeshatException unacknowledged) {
      // It is lost, and the cluster ends it.
    }
  }

  /** Ends the session in the background. */
  void abandon() {
    shared().loop().execute(() -> renewal.end(Loop.after(renewal.lease().ttl())));
  }
}
