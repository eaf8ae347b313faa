package io.github.seshatkv.client;

import io.github.seshatkv.proto.kv.v1.WatchEvents;
import io.github.seshatkv.proto.kv.v1.WatchResponse;
import io.github.seshatkv.proto.kv.v1.WatchState;
import io.github.seshatkv.proto.kv.v1.WatchSynced;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;

/**
 * Puts the messages of nodes together to news that mislead no caller.
 *
 * <p>The changes of one revision are passed on whole, so a caller stands at a revision at any time,
 * or nowhere: between a reset or a part of the state and the next {@code synced}.
 */
final class Assembly {
  /** Most bytes of keys and values that one revision changes: no node accepts a larger write. */
  private static final long MAX_REVISION_BYTES = 256 << 20;

  private Position position;

  /** The highest revision that the caller knows: it is told of no earlier state. */
  private long floor;

  /** The changes of a revision, of which more follow. */
  private List<Event> half;

  private long halfRevision;
  private long halfBytes;

  /**
   * For a caller whose map stands at {@code position} and that knows of the revision {@code floor}.
   */
  Assembly(Optional<Position> position, long floor) {
    this.position = position.orElse(null);
    this.floor = position.map(it -> Math.max(it.revision(), floor)).orElse(floor);
  }

  /** Where the caller's map stands. */
  Optional<Position> position() {
    return Optional.ofNullable(position);
  }

  long floor() {
    return floor;
  }

  /** Forgets what the lost connection has not completed. */
  void cutOff() {
    half = null;
  }

  /**
   * Takes the next message. Returns what the caller is to be told, if that is complete. Fails with
   * a CallError if no node that works sends this here.
   */
  Optional<Update> add(WatchResponse message) {
    return switch (message.getMessageCase()) {
      case RESET -> {
        half = null;
        position = null;
        yield Optional.of(new Update.Reset());
      }
      case STATE -> Optional.of(state(message.getState()));
      case SYNCED -> Optional.of(synced(message.getSynced()));
      case EVENTS -> events(message.getEvents());
      case PROGRESS -> {
        long revision = message.getProgress().getRevision();
        advance(revision);
        yield Optional.of(new Update.Progress(revision));
      }
      case MESSAGE_NOT_SET -> throw CallError.broken("an empty message");
    };
  }

  private Update state(WatchState state) {
    half = null;
    position = null;
    List<Entry> entries = state.getEntriesList().stream().map(Entry::of).toList();
    for (Entry entry : entries) {
      floor = Math.max(floor, entry.revision());
    }
    return new Update.State(entries, List.copyOf(state.getDeletedList()));
  }

  private Update synced(WatchSynced synced) {
    if (half != null || synced.getRevision() < floor) {
      throw CallError.broken("a state that is older than what was known");
    }
    position = new Position(synced.getClusterId(), synced.getRevision());
    floor = synced.getRevision();
    return new Update.Synced(position);
  }

  private Optional<Update> events(WatchEvents part) {
    long revision = part.getRevision();
    boolean goesOn = half != null && halfRevision == revision;
    boolean begins = half == null && position != null && position.revision() < revision;
    if (!goesOn && !begins) {
      half = null;
      throw CallError.broken("changes out of order");
    }
    List<Event> whole = goesOn ? half : new ArrayList<>();
    halfBytes = goesOn ? halfBytes : 0;
    halfRevision = revision;
    half = null;
    for (var event : part.getEventsList()) {
      whole.add(Wire.event(event));
      halfBytes += event.getEntry().getKey().size() + event.getEntry().getValue().size();
    }
    if (part.getMore()) {
      if (halfBytes > MAX_REVISION_BYTES) {
        throw CallError.broken("more changes in one revision than a node accepts");
      }
      half = whole;
      return Optional.empty();
    }
    advance(revision);
    return Optional.of(new Update.Events(revision, List.copyOf(whole)));
  }

  /** The caller's map stands at {@code revision}. */
  private void advance(long revision) {
    if (position == null || half != null || revision < position.revision()) {
      throw CallError.broken("a revision out of order");
    }
    position = new Position(position.cluster(), revision);
    floor = Math.max(floor, revision);
  }
}
