package io.github.seshatkv.client;

import java.time.Duration;
import java.util.Optional;

/** A watch that has not begun: see {@link Client#watching}. */
public final class WatchCall {
  private static final Duration PROGRESS_INTERVAL = Duration.ofSeconds(5);

  private final Shared shared;
  private final long timeout;
  private final KeyRange range;
  private boolean keysOnly;
  private Duration progressInterval = PROGRESS_INTERVAL;
  private long minRevision;
  private Optional<Position> resume = Optional.empty();

  WatchCall(Shared shared, long timeout, KeyRange range) {
    this.shared = shared;
    this.timeout = timeout;
    this.range = range;
  }

  /** Leaves out the values: those of the entries are empty. */
  public WatchCall keysOnly() {
    keysOnly = true;
    return this;
  }

  /**
   * How often the node says that nothing has changed: 100 ms to 1 h. A node that says nothing for
   * three intervals counts as lost. Default: 5 s.
   */
  public WatchCall progressInterval(Duration interval) {
    progressInterval = interval;
    return this;
  }

  /** Shows no state before this revision, such as that of a write of the caller. */
  public WatchCall minRevision(long revision) {
    minRevision = revision;
    return this;
  }

  /** Goes on from a position, for a caller that has kept its map. */
  public WatchCall resume(Position position) {
    resume = Optional.of(position);
    return this;
  }

  /** Begins the watch. It connects when the first news are asked for. */
  public Watch begin() {
    WatchReader.Query query = new WatchReader.Query(range, keysOnly, progressInterval);
    return new Watch(
        shared, new WatchReader(shared, timeout, query, new Assembly(resume, minRevision)));
  }

  /**
   * A copy of the range that follows its changes, once it is complete. It begins with the state.
   *
   * @throws SeshatException no node has served the watch within the timeout of the client
   */
  public Mirror mirror() {
    resume = Optional.empty();
    return Mirror.of(begin());
  }
}
