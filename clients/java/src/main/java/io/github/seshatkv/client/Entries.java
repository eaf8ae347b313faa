package io.github.seshatkv.client;

import io.github.seshatkv.proto.kv.v1.ScanResponse;
import java.util.Iterator;
import java.util.List;
import java.util.NoSuchElementException;

/**
 * The entries of a scan, in ascending order of the keys, all of one moment: see {@link
 * Scan#stream}.
 *
 * <p>{@link #hasNext} reads the next part, and may wait. The call is repeated like any read until
 * the first entries have come; if the leader is lost after that, it fails with {@link
 * SeshatException.Kind#INTERRUPTED}. For one thread at a time.
 */
public final class Entries implements Iterator<Entry>, AutoCloseable {
  private final Shared shared;
  private final ScanReader reader;
  private List<Entry> part = List.of();
  private int at;
  private long revision;
  private boolean isOver;

  Entries(Shared shared, ScanReader reader) {
    this.shared = shared;
    this.reader = reader;
  }

  @Override
  public boolean hasNext() {
    while (at >= part.size() && !isOver) {
      read();
    }
    return at < part.size();
  }

  private void read() {
    try {
      ScanResponse response = shared.await(false, reader::part);
      part = response.getEntriesList().stream().map(Entry::of).toList();
      at = 0;
      revision = response.getRevision();
      isOver = ScanReader.isLast(response);
    } catch (SeshatException failed) {
      isOver = true;
      throw failed;
    }
  }

  @Override
  public Entry next() {
    if (!hasNext()) {
      throw new NoSuchElementException();
    }
    return part.get(at++);
  }

  /** The entries show all writes up to this revision; 0 before the first part has come. */
  public long revision() {
    return revision;
  }

  /** Ends the scan. */
  @Override
  public void close() {
    isOver = true;
    part = List.of();
    shared.loop().execute(reader::close);
  }
}
