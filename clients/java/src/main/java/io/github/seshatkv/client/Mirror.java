package io.github.seshatkv.client;

import com.google.protobuf.ByteString;
import java.time.Duration;
import java.util.Collections;
import java.util.NavigableMap;
import java.util.Optional;
import java.util.TreeMap;

/**
 * A copy of a range of keys that follows its changes: see {@link WatchCall#mirror}.
 *
 * <p>It shows the range as it was at one revision, at any time: while a new state arrives, it shows
 * the former one. It does not change between two calls of {@link #changed()}. For one thread at a
 * time.
 */
public final class Mirror implements AutoCloseable {
  private final Watch watch;
  private NavigableMap<ByteString, Entry> shown = empty();
  private Position position;

  /** What the state has brought since, until it is complete. */
  private NavigableMap<ByteString, Entry> coming;

  private SeshatException disconnected;

  private Mirror(Watch watch) {
    this.watch = watch;
  }

  private static NavigableMap<ByteString, Entry> empty() {
    return new TreeMap<>(ByteString.unsignedLexicographicalComparator());
  }

  static Mirror of(Watch watch) {
    Mirror mirror = new Mirror(watch);
    try {
      while (mirror.position == null) {
        mirror.apply(watch.next());
        if (mirror.disconnected != null) {
          throw mirror.disconnected.here();
        }
      }
      return mirror;
    } catch (SeshatException failed) {
      watch.close();
      throw failed;
    }
  }

  /**
   * Waits until a key has changed, and shows the range as it is then. Of several changes it may
   * show only the last one.
   *
   * @throws SeshatException the watch has ended. What the mirror shows stays as it is
   */
  public void changed() {
    while (!apply(watch.next())) {
      // News that change nothing.
    }
  }

  /** The same, at most for {@code wait}. Returns whether a key has changed. */
  public boolean changed(Duration wait) {
    long end = Loop.after(Durations.nanos(wait));
    while (true) {
      Optional<Update> update = watch.next(Duration.ofNanos(Loop.left(end)));
      if (update.isEmpty()) {
        return false;
      }
      if (apply(update.get())) {
        return true;
      }
    }
  }

  /** The entry of a key, if it is bound. */
  public Optional<Entry> get(String key) {
    return Optional.ofNullable(shown.get(Bytes.of(key)));
  }

  /** The entries by their keys, in the order of their bytes. */
  public NavigableMap<ByteString, Entry> entries() {
    return Collections.unmodifiableNavigableMap(shown);
  }

  /** The moment that it shows. */
  public Position position() {
    return position;
  }

  /** Why no node serves the watch at the moment, so that what it shows gets old. */
  public Optional<SeshatException> disconnected() {
    return Optional.ofNullable(disconnected);
  }

  /** Applies news. Returns whether what is shown has changed. */
  private boolean apply(Update update) {
    disconnected = update instanceof Update.Disconnected it ? it.error() : null;
    if (update instanceof Update.Reset) {
      coming = empty();
    } else if (update instanceof Update.State state) {
      if (coming == null) {
        coming = empty();
        coming.putAll(shown);
      }
      state.entries().forEach(entry -> coming.put(entry.key(), entry));
      state.deleted().forEach(coming::remove);
    } else if (update instanceof Update.Synced synced) {
      position = synced.position();
      boolean changed = coming != null && !coming.equals(shown);
      shown = coming == null ? shown : coming;
      coming = null;
      return changed;
    } else if (update instanceof Update.Events events) {
      position = new Position(position.cluster(), events.revision());
      boolean changed = false;
      for (Event event : events.events()) {
        changed |= apply(event);
      }
      return changed;
    } else if (update instanceof Update.Progress progress) {
      position = new Position(position.cluster(), progress.revision());
    }
    return false;
  }

  private boolean apply(Event event) {
    if (event instanceof Event.Bound bound) {
      return !bound.entry().equals(shown.put(bound.entry().key(), bound.entry()));
    }
    return shown.remove(event.key()) != null;
  }

  /** Ends it. What it shows stays as it is. */
  @Override
  public void close() {
    watch.close();
  }
}
