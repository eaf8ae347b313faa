package io.github.seshatkv.client;

import java.util.List;
import java.util.Optional;

/**
 * The outcome of a transaction.
 *
 * @param succeeded whether all conditions held
 * @param results one for each operation that was carried out, in order
 * @param revision the revision of the transaction, and of every key that it has bound. If it writes
 *     nothing: the revision up to which it sees all writes
 */
public record TxnOutcome(boolean succeeded, List<Result> results, long revision) implements Reply {
  /** The result of one operation. */
  public sealed interface Result {
    /** The key was bound. */
    record Set() implements Result {}

    /** The key was read; absent: it is missing. */
    record Got(Optional<Entry> entry) implements Result {}

    /** The key was removed, if it was bound ({@code existed}). */
    record Removed(boolean existed) implements Result {}
  }
}
