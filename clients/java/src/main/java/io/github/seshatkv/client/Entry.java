package io.github.seshatkv.client;

import com.google.protobuf.ByteString;
import java.time.Duration;
import java.util.Optional;
import java.util.OptionalLong;

/**
 * A key that is bound, and the write that has bound it.
 *
 * @param key the key
 * @param value the value; empty where only keys were asked for
 * @param revision the revision of the write
 * @param ttl the TTL of the key, as it was set; absent: it has none
 * @param owner the id of the living session that owns it; absent: it has no owner
 */
public record Entry(
    ByteString key, ByteString value, long revision, Optional<Duration> ttl, OptionalLong owner) {

  static Entry of(io.github.seshatkv.proto.kv.v1.Entry entry) {
    return new Entry(
        entry.getKey(),
        entry.getValue(),
        entry.getRevision(),
        entry.hasTtl() ? Optional.of(Durations.of(entry.getTtl())) : Optional.empty(),
        entry.getOwner() == 0 ? OptionalLong.empty() : OptionalLong.of(entry.getOwner()));
  }
}
