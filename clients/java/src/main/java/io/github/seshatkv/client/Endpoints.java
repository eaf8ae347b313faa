package io.github.seshatkv.client;

import java.net.URI;
import java.net.URISyntaxException;
import java.util.ArrayList;
import java.util.Collection;
import java.util.List;
import java.util.Optional;

/** Addresses as people and nodes write them. */
final class Endpoints {
  private Endpoints() {}

  /** The addresses in texts, of which each may be a list with commas. */
  static List<String> parse(Collection<String> texts) {
    List<String> endpoints = new ArrayList<>();
    for (String text : texts) {
      for (String part : text.split(",")) {
        if (!part.isBlank()) {
          endpoints.add(
              parse(part)
                  .orElseThrow(
                      () ->
                          SeshatException.invalid(
                              "\"" + part + "\" is not of the form host:port")));
        }
      }
    }
    if (endpoints.isEmpty()) {
      throw SeshatException.invalid("a client needs at least one endpoint");
    }
    return List.copyOf(endpoints);
  }

  /** The {@code host:port} in a text, with or without {@code http://}. */
  static Optional<String> parse(String text) {
    String address = text.strip();
    address = address.startsWith("http://") ? address.substring(7) : address;
    address = address.endsWith("/") ? address.substring(0, address.length() - 1) : address;
    try {
      URI uri = new URI("http://" + address);
      boolean valid =
          uri.getHost() != null
              && uri.getPort() > 0
              && uri.getPort() < 65536
              && uri.getUserInfo() == null
              && uri.getPath().isEmpty()
              && uri.getQuery() == null
              && uri.getFragment() == null;
      return valid ? Optional.of(address) : Optional.empty();
    } catch (URISyntaxException malformed) {
      return Optional.empty();
    }
  }

  static String host(String endpoint) {
    return URI.create("http://" + endpoint).getHost();
  }

  static int port(String endpoint) {
    return URI.create("http://" + endpoint).getPort();
  }
}
