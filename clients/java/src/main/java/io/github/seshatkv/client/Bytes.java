package io.github.seshatkv.client;

import com.google.protobuf.ByteString;
import java.nio.CharBuffer;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.StandardCharsets;

/** Keys and values of text. */
final class Bytes {
  private Bytes() {}

  /**
   * The UTF-8 of a text.
   *
   * @throws SeshatException of kind {@code INVALID}: it has none, because half of a surrogate pair
   *     is missing. A replacement would make one key of several.
   */
  static ByteString of(String text) {
    try {
      return ByteString.copyFrom(StandardCharsets.UTF_8.newEncoder().encode(CharBuffer.wrap(text)));
    } catch (CharacterCodingException malformed) {
      throw SeshatException.invalid("the text has no UTF-8: half of a surrogate pair is missing");
    }
  }
}
