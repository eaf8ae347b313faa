package io.github.seshatkv.client;

import java.time.Duration;
import java.util.Optional;
import java.util.concurrent.CompletableFuture;

/**
 * The news of a range of keys, without an end: see {@link Client#watch}.
 *
 * <p>First comes the state, then every change of it, in the order of revisions, without a gap or a
 * repetition. Any node serves it; when the connection is lost, a node stops, or says nothing for
 * three progress intervals, it goes on at another one by itself, where the caller stands, or with a
 * {@link Update.Reset} where that is not possible. It never shows a state older than one that it
 * has shown.
 *
 * <p>A program that takes the news slowly delays neither the nodes nor other calls: it gets the
 * keys that have changed in place of every change. One thread at a time takes the news.
 */
public final class Watch implements AutoCloseable {
  private final WatchReader reader;
  private final Feed<Update> feed;

  Watch(Shared shared, WatchReader reader) {
    this.reader = reader;
    this.feed = new Feed<>(shared, reader::next);
  }

  /**
   * Waits for the next news. It has no timeout.
   *
   * @throws SeshatException no node will ever serve this watch, or the thread was interrupted, or
   *     the watch was closed
   */
  public Update next() {
    return feed.next();
  }

  /** Waits for the next news, at most for {@code wait}. */
  public Optional<Update> next(Duration wait) {
    return feed.next(wait);
  }

  /** See {@link #next()}. To cancel the future loses no news. */
  public CompletableFuture<Update> nextAsync() {
    return feed.nextAsync();
  }

  /** Ends the watch. A call that waits for news fails. */
  @Override
  public void close() {
    feed.close(reader::close);
  }
}
