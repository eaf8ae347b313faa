package io.github.seshatkv.client;

import java.time.Duration;
import java.util.Optional;
import java.util.concurrent.CompletableFuture;

/**
 * A session: each write has a number. It is sent again under that number until it is answered or
 * its deadline has passed, and is applied once.
 *
 * <p>Up to 1024 writes may be in flight; a further one waits. A {@link LivingSession} ends when it
 * is not renewed. Any other one stays open; but when the cluster holds too many sessions, it drops
 * the least recently used ones. Then every write fails: see {@link
 * SeshatException#isSessionExpired}. A session also ends with its cluster, if an operator recovers
 * another one from it.
 */
public sealed class Session extends Caller permits LivingSession {
  private final Shared shared;
  private final long timeout;
  private final SessionState state;

  Session(Shared shared, long timeout, SessionState state) {
    this.shared = shared;
    this.timeout = timeout;
    this.state = state;
  }

  @Override
  Shared shared() {
    return shared;
  }

  @Override
  Issuer issuer() {
    return new Issuer(shared, timeout, Optional.of(state));
  }

  SessionState state() {
    return state;
  }

  long timeout() {
    return timeout;
  }

  /** The id of the session, 64 bits wide, which the client has drawn at random. */
  public long id() {
    return state.numbers().session();
  }

  /** The same session, with another timeout for each call. */
  public Session withTimeout(Duration other) {
    return new Session(shared, Durations.nanos(other), state);
  }

  /**
   * Opens a pipeline whose writes belong to this session: it survives the loss of its connection
   * and of the leader.
   */
  public Pipeline pipeline() {
    return shared.await(false, () -> Pipeline.open(shared, timeout, Optional.of(state)));
  }

  /** See {@link #pipeline}. */
  public CompletableFuture<Pipeline> pipelineAsync() {
    return shared.start(() -> Pipeline.open(shared, timeout, Optional.of(state)));
  }
}
