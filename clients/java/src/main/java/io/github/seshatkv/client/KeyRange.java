package io.github.seshatkv.client;

import com.google.protobuf.ByteString;
import java.util.Optional;

/** A range of keys, in the order of their bytes. */
public sealed interface KeyRange {
  /** This key alone. */
  record Key(ByteString key) implements KeyRange {}

  /** Every key that begins with this; empty: every key. */
  record Prefix(ByteString prefix) implements KeyRange {}

  /** The keys from {@code start} on and before {@code end}; without an end: all behind it. */
  record Between(ByteString start, Optional<ByteString> end) implements KeyRange {}

  /** This key alone. */
  static KeyRange key(String key) {
    return new Key(Bytes.of(key));
  }

  /** Every key that begins with this; empty: every key. */
  static KeyRange prefix(String prefix) {
    return new Prefix(Bytes.of(prefix));
  }

  /** The keys from {@code start} on and before {@code end}. */
  static KeyRange between(String start, String end) {
    return new Between(Bytes.of(start), Optional.of(Bytes.of(end)));
  }

  /** The keys from {@code start} on. */
  static KeyRange from(String start) {
    return new Between(Bytes.of(start), Optional.empty());
  }
}
