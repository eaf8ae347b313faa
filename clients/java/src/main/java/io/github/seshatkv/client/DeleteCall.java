package io.github.seshatkv.client;

import com.google.protobuf.ByteString;
import java.util.List;
import java.util.concurrent.CompletableFuture;

/** A removal that was not sent yet: see {@link Caller#remove}. */
public final class DeleteCall {
  private final Caller caller;
  private final ByteString key;

  DeleteCall(Caller caller, ByteString key) {
    this.caller = caller;
    this.key = key;
  }

  /** Removes the key only if it was bound by the write of this revision. */
  public ConditionalCall<Deleted> ifRevision(long revision) {
    return on(Condition.revision(key, revision));
  }

  /** Removes the key only if it is bound to exactly this value. */
  public ConditionalCall<Deleted> ifValue(ByteString expected) {
    return on(Condition.value(key, expected));
  }

  /** Removes the key only if it is bound to exactly this value. */
  public ConditionalCall<Deleted> ifValue(String expected) {
    return ifValue(Bytes.of(expected));
  }

  /** Removes the key only if the lock is still held. */
  public ConditionalCall<Deleted> ifHeld(Lock lock) {
    return on(Condition.held(lock));
  }

  /** Removes the key only if the lock of this name is held under this token. */
  public ConditionalCall<Deleted> ifToken(String name, long token) {
    return on(Condition.token(name, token));
  }

  /** Removes the key only on this condition. */
  public ConditionalCall<Deleted> on(Condition condition) {
    Txn txn = new Txn().when(condition).then(Operation.delete(key)).otherwise(Operation.get(key));
    List<TxnOutcome.Result> existed = List.of(new TxnOutcome.Result.Removed(true));
    return new ConditionalCall<>(
        caller, txn, outcome -> new Deleted(outcome.results().equals(existed), outcome.revision()));
  }

  /** Sends it, and waits for the answer. */
  public Deleted send() {
    return caller.shared().await(true, () -> caller.issuer().delete(key));
  }

  /** Sends it: see {@link Caller}. */
  public CompletableFuture<Deleted> sendAsync() {
    return caller.shared().start(() -> caller.issuer().delete(key));
  }
}
