package io.github.seshatkv.client;

import java.util.Optional;
import java.util.concurrent.CompletableFuture;
import java.util.function.Function;

/**
 * A write on a condition that was not sent yet.
 *
 * <p>If the condition does not hold, that is an outcome. Without a session a write whose answer is
 * lost is not repeated, as a second attempt would fail against the success of the first; in a
 * session it is, and the outcome is that of the first attempt.
 *
 * @param <T> what the write gives
 */
public final class ConditionalCall<T> {
  private final Caller caller;
  private final Txn txn;
  private final Function<TxnOutcome, T> done;

  /** {@code txn} reads the key if its condition does not hold. */
  ConditionalCall(Caller caller, Txn txn, Function<TxnOutcome, T> done) {
    this.caller = caller;
    this.txn = txn;
    this.done = done;
  }

  /** Sends it, and waits for the answer. */
  public Conditional<T> send() {
    return caller.shared().await(true, this::begin);
  }

  /** Sends it: see {@link Caller}. */
  public CompletableFuture<Conditional<T>> sendAsync() {
    return caller.shared().start(this::begin);
  }

  private CompletableFuture<Conditional<T>> begin() {
    return Futures.map(
        caller.issuer().txn(txn),
        outcome ->
            outcome.succeeded()
                ? new Conditional.Succeeded<>(done.apply(outcome))
                : new Conditional.NotHeld<>(found(outcome)));
  }

  /** What the only operation has read. */
  private static Optional<Entry> found(TxnOutcome outcome) {
    return outcome.results().get(0) instanceof TxnOutcome.Result.Got got
        ? got.entry()
        : Optional.empty();
  }
}
