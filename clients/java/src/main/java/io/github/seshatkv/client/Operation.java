package io.github.seshatkv.client;

import com.google.protobuf.ByteString;

/** An operation of a transaction. It sees the effects of those before it. */
public sealed interface Operation extends Command {
  /** Binds a key. */
  record Set(ByteString key, ByteString value, Lifetime lifetime) implements Operation {}

  /** Reads a key. */
  record Get(ByteString key) implements Operation {}

  /** Removes a key. A missing one is no error. */
  record Delete(ByteString key) implements Operation {}

  /** Binds a key for ever. */
  static Operation set(ByteString key, ByteString value) {
    return new Set(key, value, Lifetime.unlimited());
  }

  /** Binds a key for ever. */
  static Operation set(String key, String value) {
    return set(Bytes.of(key), Bytes.of(value));
  }

  /** Binds a key. */
  static Operation set(ByteString key, ByteString value, Lifetime lifetime) {
    return new Set(key, value, lifetime);
  }

  /** Binds a key. */
  static Operation set(String key, String value, Lifetime lifetime) {
    return set(Bytes.of(key), Bytes.of(value), lifetime);
  }

  /** Reads a key. */
  static Operation get(ByteString key) {
    return new Get(key);
  }

  /** Reads a key. */
  static Operation get(String key) {
    return get(Bytes.of(key));
  }

  /** Removes a key. */
  static Operation delete(ByteString key) {
    return new Delete(key);
  }

  /** Removes a key. */
  static Operation delete(String key) {
    return delete(Bytes.of(key));
  }
}
