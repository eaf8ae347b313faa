package io.github.seshatkv.client;

import com.google.protobuf.ByteString;

/** A condition of a write or of a transaction. It sees the keys as they are before that. */
public sealed interface Condition {
  /** The key is bound ({@code exists}) or missing. */
  record Exists(ByteString key, boolean exists) implements Condition {}

  /** The key was bound by the write of this revision, and not written since; 0: it is missing. */
  record Revision(ByteString key, long revision) implements Condition {}

  /** The key is bound to exactly this value. */
  record Value(ByteString key, ByteString value) implements Condition {}

  /** The lock of this name is held under this token. */
  record Token(String name, long token) implements Condition {}

  /** The key is bound. */
  static Condition exists(ByteString key) {
    return new Exists(key, true);
  }

  /** The key is bound. */
  static Condition exists(String key) {
    return exists(Bytes.of(key));
  }

  /** The key is missing. */
  static Condition missing(ByteString key) {
    return new Exists(key, false);
  }

  /** The key is missing. */
  static Condition missing(String key) {
    return missing(Bytes.of(key));
  }

  /** The key was bound by the write of this revision; 0: it is missing. */
  static Condition revision(ByteString key, long revision) {
    return new Revision(key, revision);
  }

  /** The key was bound by the write of this revision; 0: it is missing. */
  static Condition revision(String key, long revision) {
    return revision(Bytes.of(key), revision);
  }

  /** The key is bound to exactly this value. */
  static Condition value(ByteString key, ByteString value) {
    return new Value(key, value);
  }

  /** The key is bound to exactly this value. */
  static Condition value(String key, String value) {
    return value(Bytes.of(key), Bytes.of(value));
  }

  /** The lock is still held: a client that has lost it writes nothing. */
  static Condition held(Lock lock) {
    return new Token(lock.name(), lock.token());
  }

  /** The lock of this name is held under this token. */
  static Condition token(String name, long token) {
    return new Token(name, token);
  }
}
