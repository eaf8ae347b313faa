package io.github.seshatkv.conformance;

import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;

/** What the runner has named, also after it was closed. */
final class Handles {
  private final Map<String, Object> named = new ConcurrentHashMap<>();

  void put(String name, Object handle) {
    named.put(name, handle);
  }

  <T> T get(String name, Class<T> type) {
    Object handle = named.get(name);
    if (handle == null) {
      throw new IllegalArgumentException("no handle " + name);
    }
    return type.cast(handle);
  }
}
