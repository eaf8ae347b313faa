package io.github.seshatkv.client;

import com.google.protobuf.ByteString;

/** The change of a key. */
public sealed interface Event {
  /** The key was bound. */
  record Bound(Entry entry) implements Event {}

  /** The key was removed, at this revision. */
  record Removed(ByteString key, long revision, Cause cause) implements Event {}

  /** Why a key was removed. */
  enum Cause {
    /** A client has deleted it. */
    DELETED,
    /** Its TTL has passed. */
    EXPIRED,
    /** The session that owned it has ended. */
    SESSION_ENDED,
    /** For a reason that this version does not know. */
    OTHER
  }

  /** The key that has changed. */
  default ByteString key() {
    return this instanceof Bound it ? it.entry.key() : ((Removed) this).key;
  }
}
