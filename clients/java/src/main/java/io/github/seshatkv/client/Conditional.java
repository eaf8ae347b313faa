package io.github.seshatkv.client;

import java.util.Optional;

/**
 * The outcome of a write on a condition. A condition that does not hold is no error.
 *
 * @param <T> what the write gives
 */
public sealed interface Conditional<T> {
  /** The condition held, and the write is applied. */
  record Succeeded<T>(T result) implements Conditional<T> {}

  /**
   * The condition did not hold, and nothing is written.
   *
   * @param found what the key is bound to, read in the same step; absent: it is missing
   */
  record NotHeld<T>(Optional<Entry> found) implements Conditional<T> {}

  /** Whether the condition held. */
  default boolean succeeded() {
    return this instanceof Succeeded;
  }
}
