package io.github.seshatkv.client;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import java.util.List;
import java.util.Optional;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

class EndpointsTest {
  @Test
  void takesListsWithCommas() {
    assertEquals(
        List.of("a:1", "b.example:65535", "[::1]:6379"),
        Endpoints.parse(List.of("a:1, http://b.example:65535/,", "[::1]:6379")));
  }

  @ParameterizedTest
  @ValueSource(
      strings = {
        "",
        "a",
        "a:",
        ":1",
        "a:0",
        "a:65536",
        "a:x",
        "u@a:1",
        "a:1/p",
        "https://a:1",
        "a b:1"
      })
  void refusesWhatIsNoAddress(String text) {
    assertEquals(Optional.empty(), Endpoints.parse(text));
  }

  @Test
  void aClientNeedsAnEndpoint() {
    SeshatException error = assertThrows(SeshatException.class, () -> Client.connect(" , "));
    assertEquals(SeshatException.Kind.INVALID, error.kind());
    assertEquals(Applied.NO, error.applied());
  }
}
