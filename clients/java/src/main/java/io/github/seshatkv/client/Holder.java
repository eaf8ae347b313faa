package io.github.seshatkv.client;

import com.google.protobuf.ByteString;

/**
 * The claim that holds a lock, or leads.
 *
 * @param session the id of its session
 * @param claim the number of the claim in that
 * @param token its fencing token
 * @param value what it wants others to see
 */
public record Holder(long session, long claim, long token, ByteString value) {
  static Holder of(io.github.seshatkv.proto.lock.v1.Holder holder) {
    return new Holder(
        holder.getClientId(), holder.getClaim(), holder.getToken(), holder.getValue());
  }
}
