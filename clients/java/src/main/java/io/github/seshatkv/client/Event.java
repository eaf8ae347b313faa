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

  /** The event that a node tells; fails with a CallError if it makes no sense. */
  static Event of(io.github.seshatkv.proto.kv.v1.Event event) {
    if (!event.hasEntry()) {
      throw CallError.broken("an event without a key");
    }
    io.github.seshatkv.proto.kv.v1.Entry entry = event.getEntry();
    return switch (event.getCause()) {
      case CAUSE_SET -> new Bound(Entry.of(entry));
      case CAUSE_DELETED -> new Removed(entry.getKey(), entry.getRevision(), Cause.DELETED);
      case CAUSE_EXPIRED -> new Removed(entry.getKey(), entry.getRevision(), Cause.EXPIRED);
      case CAUSE_SESSION_ENDED ->
          new Removed(entry.getKey(), entry.getRevision(), Cause.SESSION_ENDED);
      case CAUSE_UNSPECIFIED, UNRECOGNIZED ->
          new Removed(entry.getKey(), entry.getRevision(), Cause.OTHER);
    };
  }
}
