package io.github.seshatkv.client;

import com.google.protobuf.ByteString;

/** Keys and values of text. */
final class Bytes {
  private Bytes() {}

  static ByteString of(String text) {
    return ByteString.copyFromUtf8(text);
  }
}
