package io.github.seshatkv.client;

import com.google.protobuf.ByteString;
import java.time.Duration;
import java.util.Optional;
import java.util.concurrent.CompletableFuture;
import java.util.function.Supplier;

/**
 * A claim to a lock that was not made yet: see {@link LivingSession#claim} and {@link
 * Client#claim}.
 *
 * <p>If the call is cancelled, or its thread interrupted, the claim is released in the background,
 * whether it has got the lock already or not.
 */
public final class LockCall {
  /** The TTL of the session that a lock has for itself, unless the program wants another one. */
  private static final Duration TTL = Duration.ofSeconds(10);

  private final Shared shared;
  private final Client client;
  private final LivingSession session;
  private final String name;
  private ByteString value = ByteString.EMPTY;
  private Duration ttl = TTL;

  private LockCall(Shared shared, Client client, LivingSession session, String name) {
    this.shared = shared;
    this.client = client;
    this.session = session;
    this.name = name;
  }

  static LockCall of(Client client, String name) {
    return new LockCall(client.shared(), client, null, name);
  }

  static LockCall in(LivingSession session, String name) {
    return new LockCall(session.shared(), null, session, name);
  }

  /** What others see of the holder: at most 4096 bytes, such as the name of this machine. */
  public LockCall value(ByteString other) {
    value = other;
    return this;
  }

  /** What others see of the holder. */
  public LockCall value(String other) {
    return value(Bytes.of(other));
  }

  /** The TTL of the session that a lock of a client has for itself: 10 s by default. */
  public LockCall ttl(Duration other) {
    ttl = other;
    return this;
  }

  /** Acquires the lock, and waits as long as the session lives. */
  public Lock acquire() {
    return shared.await(true, this::lock);
  }

  /** See {@link #acquire}. */
  public CompletableFuture<Lock> acquireAsync() {
    return shared.start(this::lock);
  }

  /** Acquires the lock if it is free. */
  public LockAttempt tryAcquire() {
    return tryAcquire(Duration.ZERO);
  }

  /**
   * Acquires the lock if it gets free within {@code maxWait}, at most 10 years. Time in which the
   * cluster has no leader does not count.
   */
  public LockAttempt tryAcquire(Duration maxWait) {
    return shared.await(true, attempt(Optional.of(maxWait)));
  }

  /** See {@link #tryAcquire(Duration)}. */
  public CompletableFuture<LockAttempt> tryAcquireAsync(Duration maxWait) {
    return shared.start(attempt(Optional.of(maxWait)));
  }

  private CompletableFuture<Lock> lock() {
    // A claim without a longest wait ends with its lock, or with an error.
    return Futures.map(
        attempt(Optional.empty()).get(), outcome -> ((LockAttempt.Acquired) outcome).lock());
  }

  private Supplier<CompletableFuture<LockAttempt>> attempt(Optional<Duration> maxWait) {
    Claim.Asked asked = new Claim.Asked(name, value, maxWait);
    return () ->
        session != null
            ? Claim.make(session, false, asked)
            : Futures.then(client.openSession(ttl), own -> Claim.make(own, true, asked));
  }
}
