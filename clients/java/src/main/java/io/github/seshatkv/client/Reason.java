package io.github.seshatkv.client;

import io.github.seshatkv.proto.kv.v1.ErrorDetail;
import java.util.Locale;
import java.util.Optional;

/** The reason that a node gave for a refusal: docs/ERRORS.md has the meaning of each. */
public enum Reason {
  /** The node does not lead. */
  NOT_LEADER,
  /** There is no leader, or none that reaches a majority. */
  NO_QUORUM,
  /** A queue of the node is full. */
  OVERLOADED,
  /** Something in the request is larger than the node accepts. */
  TOO_LARGE,
  /** The cluster has not formed yet, or the node is not part of it. */
  FORMING,
  /** The request breaks a rule of the protocol. */
  INVALID_REQUEST,
  /** The node shuts down. */
  SHUTTING_DOWN,
  /** The state of the cluster does not allow this. */
  FAILED_PRECONDITION,
  /** The session, or the owner of a key, is not known (any more). */
  SESSION_EXPIRED,
  /** The state is at its limit. */
  FULL,
  /** The node takes part in another cluster. */
  OTHER_CLUSTER;

  /** The name of the field of {@code seshat.kv.v1.ErrorDetail}, such as {@code not_leader}. */
  @Override
  public String toString() {
    return name().toLowerCase(Locale.ROOT);
  }

  static Optional<Reason> of(ErrorDetail detail) {
    return switch (detail.getReasonCase()) {
      case NOT_LEADER -> Optional.of(NOT_LEADER);
      case NO_QUORUM -> Optional.of(NO_QUORUM);
      case OVERLOADED -> Optional.of(OVERLOADED);
      case TOO_LARGE -> Optional.of(TOO_LARGE);
      case FORMING -> Optional.of(FORMING);
      case INVALID_REQUEST -> Optional.of(INVALID_REQUEST);
      case SHUTTING_DOWN -> Optional.of(SHUTTING_DOWN);
      case FAILED_PRECONDITION -> Optional.of(FAILED_PRECONDITION);
      case SESSION_EXPIRED -> Optional.of(SESSION_EXPIRED);
      case FULL -> Optional.of(FULL);
      case OTHER_CLUSTER -> Optional.of(OTHER_CLUSTER);
      case REASON_NOT_SET -> Optional.empty();
    };
  }
}
