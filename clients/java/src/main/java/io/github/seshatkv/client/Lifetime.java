package io.github.seshatkv.client;

import java.time.Duration;

/** How long a key stays bound, unless it is written again. The last write of a key decides it. */
public sealed interface Lifetime {
  /** For ever. */
  record Unlimited() implements Lifetime {}

  /**
   * For so long: 1 s to 3650 days. A key may stay bound for a little longer, and never for less.
   */
  record Ttl(Duration ttl) implements Lifetime {}

  /** As long as the living session of this id lives. */
  record Owner(long session) implements Lifetime {}

  /** As long as before: a TTL goes on. A missing key is bound for ever. */
  record Kept() implements Lifetime {}

  /** For ever. */
  static Lifetime unlimited() {
    return new Unlimited();
  }

  /** For so long: 1 s to 3650 days. */
  static Lifetime ttl(Duration ttl) {
    return new Ttl(ttl);
  }

  /** As long as the session lives. */
  static Lifetime ownedBy(LivingSession session) {
    return new Owner(session.id());
  }

  /** As long as before. */
  static Lifetime keep() {
    return new Kept();
  }
}
