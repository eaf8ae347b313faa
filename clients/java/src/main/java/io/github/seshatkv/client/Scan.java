package io.github.seshatkv.client;

import java.util.List;
import java.util.concurrent.CompletableFuture;

/**
 * A read of the keys of a range, in ascending order and at one moment: see {@link Client#scan}.
 * Nothing is read before {@link #stream}, {@link #collect} or {@link #count}.
 */
public final class Scan {
  private final Shared shared;
  private final long timeout;
  private final KeyRange range;
  private long limit;
  private boolean keysOnly;

  Scan(Shared shared, long timeout, KeyRange range) {
    this.shared = shared;
    this.timeout = timeout;
    this.range = range;
  }

  /** Reads at most so many keys, the first ones of the range; 0: all. */
  public Scan limit(long keys) {
    limit = keys;
    return this;
  }

  /** Leaves out the values: those of the entries are empty. */
  public Scan keysOnly() {
    keysOnly = true;
    return this;
  }

  private ScanReader reader(boolean countOnly) {
    ScanReader.Query query = new ScanReader.Query(range, limit, keysOnly, countOnly);
    return new ScanReader(shared, timeout, query);
  }

  /**
   * The entries one by one, in bounded memory. The timeout is for each part of the answer, not for
   * all. To be closed if it is not read to its end.
   */
  public Entries stream() {
    return new Entries(shared, reader(false));
  }

  /**
   * All entries at once. If the leader is lost on the way, the scan begins again, until the timeout
   * has passed since its first beginning.
   */
  public List<Entry> collect() {
    return shared.await(false, this::entries);
  }

  /** See {@link #collect}. */
  public CompletableFuture<List<Entry>> collectAsync() {
    return shared.start(this::entries);
  }

  /** The number of keys, at most the limit. Only the number is sent. */
  public long count() {
    return shared.await(false, this::number);
  }

  /** See {@link #count}. */
  public CompletableFuture<Long> countAsync() {
    return shared.start(this::number);
  }

  private CompletableFuture<List<Entry>> entries() {
    return Futures.map(whole(false, Loop.after(timeout)), ScanReader.Whole::entries);
  }

  private CompletableFuture<Long> number() {
    return Futures.map(whole(true, Loop.after(timeout)), ScanReader.Whole::count);
  }

  /** It may begin again, because the caller has seen nothing before its end. */
  private CompletableFuture<ScanReader.Whole> whole(boolean countOnly, long deadline) {
    CompletableFuture<ScanReader.Whole> result = new CompletableFuture<>();
    CompletableFuture<ScanReader.Whole> read = reader(countOnly).whole();
    Futures.cancelWith(result, read);
    read.whenComplete(
        (whole, error) -> {
          if (error == null) {
            result.complete(whole);
          } else if (!result.isDone()) {
            SeshatException failed = Futures.error(error);
            boolean again = failed.kind() == SeshatException.Kind.INTERRUPTED;
            if (again && !Loop.passed(deadline)) {
              Futures.link(whole(countOnly, deadline), result);
            } else {
              result.completeExceptionally(failed);
            }
          }
        });
    return result;
  }
}
