package io.github.seshatkv.client;

import com.google.protobuf.ByteString;
import java.util.Optional;
import java.util.concurrent.CompletableFuture;

/**
 * What reads and writes: a {@link Client}, or a {@link Session} of it.
 *
 * <p>Every method blocks until it is done or its timeout has passed; an interrupt of the thread
 * ends it, too. Its {@code …Async} variant returns at once: what depends on the future runs on the
 * executor of {@link Client.Builder#callbacks}, and to cancel the future ends the call. A write
 * that was sent may then have been applied. Errors are {@link SeshatException}s. Safe for all
 * threads.
 */
public abstract sealed class Caller permits Client, Session {
  Caller() {}

  abstract Issuer issuer();

  abstract Shared shared();

  /** Reads a key. The answer has every write that was acknowledged before the call began. */
  public Optional<ByteString> get(ByteString key) {
    return getWithRevision(key).value();
  }

  /** Reads a key. The answer has every write that was acknowledged before the call began. */
  public Optional<ByteString> get(String key) {
    return get(Bytes.of(key));
  }

  /** See {@link #get(ByteString)}. */
  public CompletableFuture<Optional<ByteString>> getAsync(ByteString key) {
    return shared().start(() -> Futures.map(issuer().get(key), Found::value));
  }

  /** See {@link #get(ByteString)}. */
  public CompletableFuture<Optional<ByteString>> getAsync(String key) {
    return getAsync(Bytes.of(key));
  }

  /** Reads a key, with the revision of the write that has bound it. */
  public Found getWithRevision(ByteString key) {
    return shared().await(false, () -> issuer().get(key));
  }

  /** Reads a key, with the revision of the write that has bound it. */
  public Found getWithRevision(String key) {
    return getWithRevision(Bytes.of(key));
  }

  /** See {@link #getWithRevision(ByteString)}. */
  public CompletableFuture<Found> getWithRevisionAsync(ByteString key) {
    return shared().start(() -> issuer().get(key));
  }

  /** Binds a key. Returns once a majority holds the write and the leader has applied it. */
  public Written set(ByteString key, ByteString value) {
    return write(key, value).send();
  }

  /** Binds a key. Returns once a majority holds the write and the leader has applied it. */
  public Written set(String key, String value) {
    return set(Bytes.of(key), Bytes.of(value));
  }

  /** See {@link #set(ByteString, ByteString)}. */
  public CompletableFuture<Written> setAsync(ByteString key, ByteString value) {
    return write(key, value).sendAsync();
  }

  /** See {@link #set(ByteString, ByteString)}. */
  public CompletableFuture<Written> setAsync(String key, String value) {
    return setAsync(Bytes.of(key), Bytes.of(value));
  }

  /**
   * A write that may get a lifetime and a condition. Nothing is sent before {@link SetCall#send}.
   */
  public SetCall write(ByteString key, ByteString value) {
    return new SetCall(this, key, value, Lifetime.unlimited());
  }

  /**
   * A write that may get a lifetime and a condition. Nothing is sent before {@link SetCall#send}.
   */
  public SetCall write(String key, String value) {
    return write(Bytes.of(key), Bytes.of(value));
  }

  /** Removes a key. */
  public Deleted delete(ByteString key) {
    return remove(key).send();
  }

  /** Removes a key. */
  public Deleted delete(String key) {
    return delete(Bytes.of(key));
  }

  /** See {@link #delete(ByteString)}. */
  public CompletableFuture<Deleted> deleteAsync(ByteString key) {
    return remove(key).sendAsync();
  }

  /** See {@link #delete(ByteString)}. */
  public CompletableFuture<Deleted> deleteAsync(String key) {
    return deleteAsync(Bytes.of(key));
  }

  /** A removal that may get a condition. Nothing is sent before {@link DeleteCall#send}. */
  public DeleteCall remove(ByteString key) {
    return new DeleteCall(this, key);
  }

  /** A removal that may get a condition. Nothing is sent before {@link DeleteCall#send}. */
  public DeleteCall remove(String key) {
    return remove(Bytes.of(key));
  }

  /**
   * Carries out a transaction. One that writes nothing is a read of several keys at one moment, and
   * is repeated like any read.
   */
  public TxnOutcome txn(Txn txn) {
    return shared().await(txn.isWrite(), () -> issuer().txn(txn));
  }

  /** See {@link #txn}. */
  public CompletableFuture<TxnOutcome> txnAsync(Txn txn) {
    return shared().start(() -> issuer().txn(txn));
  }
}
