package io.github.seshatkv.client;

import com.google.protobuf.ByteString;
import java.util.Optional;

/**
 * What a key is bound to.
 *
 * @param value the value; absent: the key is missing
 * @param revision the revision of the write that has bound it; 0: the key is missing
 * @param appliedRevision the answer has all writes up to this revision
 */
public record Found(Optional<ByteString> value, long revision, long appliedRevision)
    implements Reply {}
