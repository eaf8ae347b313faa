package io.github.seshatkv.client;

import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
import java.util.OptionalLong;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.Executor;
import java.util.concurrent.ForkJoinPool;

/**
 * A client of one cluster. It connects when it is first used.
 *
 * <p>One client serves all threads of a program. It has one thread of its own, which renews
 * sessions and makes pauses; no code of the program runs on that.
 */
public final class Client extends Caller implements AutoCloseable {
  private final Shared shared;
  private final long timeout;

  Client(Shared shared, long timeout) {
    this.shared = shared;
    this.timeout = timeout;
  }

  /**
   * A client of the cluster that has nodes at these endpoints, each {@code host:port}, or a list of
   * them with commas. One that answers is enough.
   *
   * @throws SeshatException {@link SeshatException.Kind#INVALID}: there is no endpoint, or one is
   *     malformed
   */
  public static Client connect(String... endpoints) {
    return builder().endpoints(endpoints).build();
  }

  /** A builder, for a client with more settings. */
  public static Builder builder() {
    return new Builder();
  }

  @Override
  Shared shared() {
    return shared;
  }

  @Override
  Issuer issuer() {
    return new Issuer(shared, timeout, Optional.empty());
  }

  long timeout() {
    return timeout;
  }

  /** The same client, with another timeout for each call. To close one of them closes both. */
  public Client withTimeout(Duration other) {
    return new Client(shared, Durations.nanos(other));
  }

  /**
   * The id of the cluster, 64 bits wide, once a node of it has answered. A change means that an
   * operator has recovered another cluster from it: writes that were acknowledged before may be
   * lost.
   */
  public OptionalLong cluster() {
    return shared.nodes().cluster();
  }

  /** Opens a session: each of its writes is applied once, however often it has to be sent. */
  public Session session() {
    return shared.await(false, this::openSession);
  }

  /** See {@link #session()}. */
  public CompletableFuture<Session> sessionAsync() {
    return shared.start(this::openSession);
  }

  private CompletableFuture<Session> openSession() {
    return Futures.map(
        SessionState.open(shared, timeout, Optional.empty()),
        state -> new Session(shared, timeout, state));
  }

  /**
   * Opens a living session, which the client renews. {@code ttl} is from 2 s to 1 h; 10 s is a good
   * choice, and below 5 s an election may cost the session.
   */
  public LivingSession session(Duration ttl) {
    return shared.await(false, () -> openSession(ttl));
  }

  /** See {@link #session(Duration)}. */
  public CompletableFuture<LivingSession> sessionAsync(Duration ttl) {
    return shared.start(() -> openSession(ttl));
  }

  CompletableFuture<LivingSession> openSession(Duration ttl) {
    return Futures.map(
        SessionState.open(shared, timeout, Optional.of(ttl)),
        state -> new LivingSession(shared, timeout, state));
  }

  /**
   * Acquires a lock with a living session of its own, which ends with the lock. Waits as long as
   * that takes; an interrupt of the thread ends the wait. See {@link LivingSession#lock}.
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
    return LockCall.of(this, name);
  }

  /** Stands for election with a living session of its own: see {@link LivingSession#elect}. */
  public Lock elect(String name, String value) {
    return claim(name).value(value).acquire();
  }

  /** Observes who holds a lock, or who leads under that name. */
  public Holders observe(String name) {
    return new Holders(shared, timeout, name);
  }

  /** A scan of the keys that begin with a prefix; empty: of all keys. */
  public Scan scan(String prefix) {
    return scan(KeyRange.prefix(prefix));
  }

  /** A scan of a range of keys. */
  public Scan scan(KeyRange range) {
    return new Scan(shared, timeout, range);
  }

  /** The number of keys that begin with a prefix. */
  public long count(String prefix) {
    return scan(prefix).count();
  }

  /** A watch of the keys that begin with a prefix; empty: of all keys. */
  public Watch watch(String prefix) {
    return watch(KeyRange.prefix(prefix));
  }

  /** A watch of a range of keys. */
  public Watch watch(KeyRange range) {
    return watching(range).begin();
  }

  /** A watch of a range of keys, with settings. */
  public WatchCall watching(KeyRange range) {
    return new WatchCall(shared, timeout, range);
  }

  /** Opens a stream that keeps many commands in flight. */
  public Pipeline pipeline() {
    return shared.await(false, () -> Pipeline.open(shared, timeout, Optional.empty()));
  }

  /** See {@link #pipeline}. */
  public CompletableFuture<Pipeline> pipelineAsync() {
    return shared.start(() -> Pipeline.open(shared, timeout, Optional.empty()));
  }

  /**
   * Ends everything that belongs to the client: its living sessions, locks, watches and
   * connections. Calls that are under way fail. Waits for the end of sessions, at most for the
   * timeout.
   */
  @Override
  public void close() {
    shared.close();
  }

  /** Builds a {@link Client}. */
  public static final class Builder {
    private final List<String> endpoints = new ArrayList<>();
    private Duration timeout = Duration.ofSeconds(5);
    private Duration connectTimeout = Duration.ofSeconds(1);
    private Duration attemptTimeout = Duration.ofSeconds(1);
    private OptionalLong cluster = OptionalLong.empty();
    private boolean follows = true;
    private Executor callbacks = ForkJoinPool.commonPool();

    private Builder() {}

    /** Adds nodes, each {@code host:port}, or a list with commas. */
    public Builder endpoints(String... more) {
      endpoints.addAll(List.of(more));
      return this;
    }

    /** The timeout of each whole call, searches and repetitions included. Default: 5 s. */
    public Builder timeout(Duration other) {
      timeout = other;
      return this;
    }

    /** The longest wait for a connection. Default: 1 s. */
    public Builder connectTimeout(Duration other) {
      connectTimeout = other;
      return this;
    }

    /**
     * How long one node may take to answer before another one is tried, where that is safe. Never
     * more than a third of the time that is left; doubles after each silence. Default: 1 s.
     */
    public Builder attemptTimeout(Duration other) {
      attemptTimeout = other;
      return this;
    }

    /**
     * The cluster that the client belongs to. Without it, the client takes the first one that
     * answers. It follows a cluster that an operator has recovered from this one.
     */
    public Builder cluster(long id) {
      cluster = OptionalLong.of(id);
      return this;
    }

    /** As {@link #cluster}, but a cluster that was recovered from this one is not followed. */
    public Builder onlyCluster(long id) {
      follows = false;
      return cluster(id);
    }

    /**
     * Runs what depends on futures. It may take as long as it wants. Default: the common pool of
     * the JVM.
     */
    public Builder callbacks(Executor other) {
      callbacks = other;
      return this;
    }

    /**
     * The client.
     *
     * @throws SeshatException {@link SeshatException.Kind#INVALID}: there is no endpoint, or one is
     *     malformed
     */
    public Client build() {
      long nanos = Durations.nanos(timeout);
      Options options =
          new Options(
              nanos,
              connectTimeout,
              Math.max(Durations.nanos(attemptTimeout), 1_000_000),
              1_000_000_000,
              Backoff.DEFAULT,
              Claim.MAX_AWAITS,
              cluster,
              follows,
              callbacks,
              Clock.SYSTEM);
      return new Client(new Shared(Endpoints.parse(endpoints), options), nanos);
    }
  }
}
