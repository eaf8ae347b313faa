package io.github.seshatkv.client;

import io.github.seshatkv.proto.kv.v1.ErrorDetail;
import java.util.Optional;

/**
 * A call without an answer.
 *
 * <p>First ask {@link #applied()}: whether the write may have taken effect. {@link #kind()} says
 * what ended the call, and {@link #reason()} why a node refused it, if one did.
 */
public final class SeshatException extends RuntimeException {
  private static final long serialVersionUID = 1;

  /** What ended a call. */
  public enum Kind {
    /** A node refused the request, and to repeat it is useless or not safe. */
    REFUSED,
    /** The connection broke, or no node could be reached in time. */
    UNREACHABLE,
    /** The deadline has passed, although nodes could be reached. */
    DEADLINE,
    /** Every endpoint answered that it will never serve such a request. */
    UNSERVED,
    /** A scan was cut off after its first entries: begin it again. */
    INTERRUPTED,
    /** The living session is lost: nothing was sent, or a lock that was waited for is not held. */
    SESSION_LOST,
    /** The call was invalid, or its client is closed, and nothing was sent. */
    INVALID,
    /** The caller cancelled it, or its thread was interrupted, or its client was closed. */
    CANCELLED
  }

  private final Kind kind;
  private final Applied applied;
  private final transient ErrorDetail detail;

  private SeshatException(Kind kind, Applied applied, ErrorDetail detail, String message) {
    super(message);
    this.kind = kind;
    this.applied = applied;
    this.detail = detail;
  }

  static SeshatException of(Kind kind, Applied applied, String message) {
    return new SeshatException(kind, applied, null, message);
  }

  /** The error of a call that was not made. */
  static SeshatException invalid(String message) {
    return of(Kind.INVALID, Applied.NO, message);
  }

  static SeshatException sessionLost(Lost why) {
    return of(Kind.SESSION_LOST, Applied.NO, "the session is lost: " + why);
  }

  /** The error of a call that ended with this fault of a node. */
  static SeshatException of(Kind kind, CallError fault, String message) {
    return new SeshatException(kind, fault.applied(), fault.detail(), message);
  }

  /** Whether the write may have been applied. {@link Applied#NO} for a read. */
  public Applied applied() {
    return applied;
  }

  /** What ended the call. */
  public Kind kind() {
    return kind;
  }

  /** The reason of the last refusal, if a node gave one that this version knows. */
  public Optional<Reason> reason() {
    return Optional.ofNullable(detail).flatMap(Reason::of);
  }

  /** The typed detail of the last refusal, if a node gave one. */
  public Optional<ErrorDetail> detail() {
    return Optional.ofNullable(detail);
  }

  /**
   * Whether this ends a session: the cluster has ended it, it is a living one that is lost, or an
   * operator has recovered another cluster from its own. Also so for a write whose owner does not
   * live. Open another session then.
   */
  public boolean isSessionExpired() {
    return kind == Kind.SESSION_LOST
        || reason().filter(it -> it == Reason.SESSION_EXPIRED).isPresent()
        || isSuccessor();
  }

  /** Whether another cluster answers than the one that this client or session belongs to. */
  public boolean isOtherCluster() {
    return reason().filter(it -> it == Reason.OTHER_CLUSTER).isPresent();
  }

  boolean isSuccessor() {
    return detail != null && detail.getOtherCluster().getSuccessor();
  }

  /** Whether no node served the call in time, so that the same call may succeed later. */
  boolean isOutage() {
    return kind == Kind.UNREACHABLE || kind == Kind.DEADLINE;
  }

  /** Whether no node will ever serve the request. */
  boolean isFinal() {
    return kind == Kind.REFUSED || kind == Kind.UNSERVED || kind == Kind.INVALID;
  }

  /** The same error, for a write of which an earlier attempt may have been applied. */
  SeshatException inDoubt(boolean inDoubt) {
    if (!inDoubt || applied == Applied.UNKNOWN) {
      return this;
    }
    // An earlier attempt was served.
    Kind doubtful = kind == Kind.UNSERVED ? Kind.DEADLINE : kind;
    return new SeshatException(
        doubtful, Applied.UNKNOWN, detail, "outcome unknown: " + getMessage());
  }

  /** The same error, with the trace of the thread that waits for the call. */
  SeshatException here() {
    SeshatException copy = new SeshatException(kind, applied, detail, getMessage());
    copy.initCause(getCause());
    return copy;
  }
}
