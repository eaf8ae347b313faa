package io.github.seshatkv.client;

import com.google.protobuf.ByteString;
import java.time.Duration;
import java.util.concurrent.CompletableFuture;

/**
 * A write that was not sent yet: see {@link Caller#write}. With a lifetime or a condition it is a
 * transaction, which nodes from version 0.2.0 on carry out.
 */
public final class SetCall {
  private final Caller caller;
  private final ByteString key;
  private final ByteString value;
  private final Lifetime lifetime;

  SetCall(Caller caller, ByteString key, ByteString value, Lifetime lifetime) {
    this.caller = caller;
    this.key = key;
    this.value = value;
    this.lifetime = lifetime;
  }

  /** The same write for a key that stays bound for so long: 1 s to 3650 days. */
  public SetCall ttl(Duration ttl) {
    return lifetime(Lifetime.ttl(ttl));
  }

  /** The same write for a key that stays bound as long as the session lives. */
  public SetCall ownedBy(LivingSession session) {
    return lifetime(Lifetime.ownedBy(session));
  }

  /** The same write with this lifetime. */
  public SetCall lifetime(Lifetime other) {
    return new SetCall(caller, key, value, other);
  }

  /** Writes only if the key is missing. */
  public ConditionalCall<Written> ifAbsent() {
    return on(Condition.missing(key));
  }

  /** Writes only if the key was bound by the write of this revision, and not written since. */
  public ConditionalCall<Written> ifRevision(long revision) {
    return on(Condition.revision(key, revision));
  }

  /** Writes only if the key is bound to exactly this value. */
  public ConditionalCall<Written> ifValue(ByteString expected) {
    return on(Condition.value(key, expected));
  }

  /** Writes only if the key is bound to exactly this value. */
  public ConditionalCall<Written> ifValue(String expected) {
    return ifValue(Bytes.of(expected));
  }

  /** Writes only if the lock is still held. */
  public ConditionalCall<Written> ifHeld(Lock lock) {
    return on(Condition.held(lock));
  }

  /** Writes only if the lock of this name is held under this token. */
  public ConditionalCall<Written> ifToken(String name, long token) {
    return on(Condition.token(name, token));
  }

  /** Writes only on this condition. */
  public ConditionalCall<Written> on(Condition condition) {
    Txn txn =
        new Txn()
            .when(condition)
            .then(Operation.set(key, value, lifetime))
            .otherwise(Operation.get(key));
    return new ConditionalCall<>(caller, txn, outcome -> new Written(outcome.revision()));
  }

  /** Sends it, and waits for the answer. */
  public Written send() {
    return caller.shared().await(true, () -> caller.issuer().set(key, value, lifetime));
  }

  /** Sends it: see {@link Caller}. */
  public CompletableFuture<Written> sendAsync() {
    return caller.shared().start(() -> caller.issuer().set(key, value, lifetime));
  }
}
