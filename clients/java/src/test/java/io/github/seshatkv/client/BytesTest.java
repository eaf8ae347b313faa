package io.github.seshatkv.client;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import java.util.List;
import org.junit.jupiter.api.Test;

class BytesTest {
  @Test
  void textIsItsUtf8() {
    for (String text : List.of("", "Uruk", "\u00fc\ud83d\ude00")) {
      assertEquals(text, Bytes.of(text).toStringUtf8());
    }
  }

  @Test
  void textWithoutUtf8IsInvalid() {
    for (String text : List.of("\ud800", "a\udc00b")) {
      SeshatException error = assertThrows(SeshatException.class, () -> Bytes.of(text));
      assertEquals(SeshatException.Kind.INVALID, error.kind());
    }
  }
}
