package io.github.seshatkv.client;

import com.google.protobuf.ByteString;
import java.util.List;

/**
 * The next news of a watch.
 *
 * <p>A caller that applies them in order to an empty map, and empties it at each {@link Reset}, has
 * the range as it is at the revision of each {@link Synced}, {@link Events} and {@link Progress}. A
 * {@link Mirror} does so.
 */
public sealed interface Update {
  /** The map is to be emptied: the state follows. */
  record Reset() implements Update {}

  /**
   * A part of the state. Until the next {@link Synced} the map is incomplete.
   *
   * @param entries keys that are bound
   * @param deleted keys that are not
   */
  record State(List<Entry> entries, List<ByteString> deleted) implements Update {}

  /** The map is complete. Also each time when another node has taken over. */
  record Synced(Position position) implements Update {}

  /** All changes of one revision, one a key. */
  record Events(long revision, List<Event> events) implements Update {}

  /** Nothing has changed up to this revision. */
  record Progress(long revision) implements Update {}

  /**
   * No node serves the watch at the moment, so the map gets old. The watch goes on by itself. Comes
   * once for each outage, when the nodes were asked for the timeout of the client.
   */
  record Disconnected(SeshatException error) implements Update {}
}
