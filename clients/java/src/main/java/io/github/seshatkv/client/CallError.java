package io.github.seshatkv.client;

import com.google.protobuf.Any;
import com.google.protobuf.InvalidProtocolBufferException;
import io.github.seshatkv.proto.kv.v1.ErrorDetail;
import io.github.seshatkv.proto.kv.v1.OtherCluster;
import io.github.seshatkv.proto.kv.v1.PipelineError;
import io.grpc.Metadata;
import io.grpc.Status;
import io.grpc.protobuf.StatusProto;
import java.util.Optional;
import java.util.OptionalLong;

/**
 * The failure of one request to one node.
 *
 * <p>The typed detail of a refusal says whether a write was applied. Without a detail, it counts as
 * not applied only if that is certain: nothing was sent, or the code means that the request was not
 * begun.
 */
final class CallError extends RuntimeException {
  private static final long serialVersionUID = 1;

  private enum Origin {
    /** A node, or a proxy before it, has answered. */
    ANSWER,
    /** The connection could not be made, or broke. */
    BROKEN,
    /** Nothing came in time. */
    SILENCE
  }

  private final Applied applied;
  private final Retry retry;
  private final Origin origin;
  private final transient ErrorDetail detail;

  private CallError(
      String message, Applied applied, Retry retry, Origin origin, ErrorDetail detail) {
    super(printable(message), null, false, false);
    this.applied = applied;
    this.retry = retry;
    this.origin = origin;
    this.detail = detail;
  }

  /** No answer came in time. */
  static CallError silence() {
    return new CallError("no answer in time", Applied.UNKNOWN, Retry.LATER, Origin.SILENCE, null);
  }

  /** The connection ended while a request was in flight, or its answer makes no sense. */
  static CallError broken(String why) {
    return new CallError(
        "the connection broke: " + why, Applied.UNKNOWN, Retry.LATER, Origin.BROKEN, null);
  }

  /** No connection was made, so nothing was sent. */
  static CallError unreachable(String why) {
    return new CallError(why, Applied.NO, Retry.LATER, Origin.BROKEN, null);
  }

  /** The node runs an older version, which does not know what it was asked for. */
  static CallError older(String what) {
    String message = "this node runs an older version, which knows no " + what + " (not applied)";
    return new CallError(message, Applied.NO, Retry.ELSEWHERE, Origin.ANSWER, null);
  }

  /**
   * The fault of a call that ended with this status.
   *
   * @param sent whether the request may have left this machine
   */
  static CallError of(Status status, Metadata trailers, boolean sent) {
    Optional<ErrorDetail> detail = detail(status, trailers);
    if (detail.isPresent()) {
      return typed(status, detail.get());
    }
    if (trailers.keys().isEmpty()) {
      // Made by the library, not by a node.
      if (status.getCode() == Status.Code.DEADLINE_EXCEEDED) {
        return sent ? silence() : silence().notApplied();
      }
      if (!sent) {
        return unreachable(words(status));
      }
      if (status.getCode() == Status.Code.UNAVAILABLE) {
        return broken(words(status));
      }
    }
    return untyped(status);
  }

  /** The fault of one command of a pipeline. */
  static CallError of(PipelineError error) {
    Status status = Status.fromCodeValue(error.getCode()).withDescription(error.getMessage());
    return error.hasDetail() ? typed(status, error.getDetail()) : untyped(status);
  }

  /** The fault that a future failed with. */
  static CallError of(Throwable thrown) {
    Throwable cause = Futures.unwrap(thrown);
    return cause instanceof CallError fault ? fault : broken(String.valueOf(cause));
  }

  private static CallError typed(Status status, ErrorDetail detail) {
    Applied applied =
        detail.getApplied() == io.github.seshatkv.proto.kv.v1.Applied.APPLIED_NO
            ? Applied.NO
            : Applied.UNKNOWN;
    Retry retry =
        switch (detail.getReasonCase()) {
          case NOT_LEADER, NO_QUORUM, OVERLOADED, FORMING, OTHER_CLUSTER, SHUTTING_DOWN ->
              Retry.LATER;
          case FULL, TOO_LARGE, INVALID_REQUEST, FAILED_PRECONDITION, SESSION_EXPIRED ->
              Retry.NOWHERE;
          // A reason of a newer version: its code decides.
          case REASON_NOT_SET ->
              switch (status.getCode()) {
                case UNAVAILABLE, RESOURCE_EXHAUSTED, ABORTED, DEADLINE_EXCEEDED -> Retry.LATER;
                default -> Retry.NOWHERE;
              };
        };
    return new CallError(words(status), applied, retry, Origin.ANSWER, detail);
  }

  private static CallError untyped(Status status) {
    String message = words(status);
    return switch (status.getCode()) {
      case UNIMPLEMENTED, UNAUTHENTICATED, PERMISSION_DENIED ->
          new CallError(message, Applied.NO, Retry.ELSEWHERE, Origin.ANSWER, null);
      case INVALID_ARGUMENT, OUT_OF_RANGE ->
          new CallError(message, Applied.NO, Retry.NOWHERE, Origin.ANSWER, null);
      default -> new CallError(message, Applied.UNKNOWN, Retry.LATER, Origin.ANSWER, null);
    };
  }

  private static Optional<ErrorDetail> detail(Status status, Metadata trailers) {
    com.google.rpc.Status details = StatusProto.fromStatusAndTrailers(status, trailers);
    String name = "/" + ErrorDetail.getDescriptor().getFullName();
    for (Any any : details.getDetailsList()) {
      if (any.getTypeUrl().endsWith(name)) {
        try {
          return Optional.of(ErrorDetail.parseFrom(any.getValue()));
        } catch (InvalidProtocolBufferException malformed) {
          return Optional.empty();
        }
      }
    }
    return Optional.empty();
  }

  private static String words(Status status) {
    String description = status.getDescription();
    String words = description == null ? status.getCode().toString() : description;
    Throwable cause = status.getCause();
    return cause == null ? words : words + ": " + cause.getMessage();
  }

  /** Text of another machine, without control characters that would steer a terminal. */
  private static String printable(String text) {
    return text.replaceAll("\\p{Cntrl}", " ");
  }

  Applied applied() {
    return applied;
  }

  Retry retry() {
    return retry;
  }

  ErrorDetail detail() {
    return detail;
  }

  Optional<Reason> reason() {
    return Optional.ofNullable(detail).flatMap(Reason::of);
  }

  boolean is(Reason reason) {
    return reason().filter(it -> it == reason).isPresent();
  }

  /** Whether the node itself answered: then the connection to it works. */
  boolean answered() {
    return origin == Origin.ANSWER;
  }

  boolean silent() {
    return origin == Origin.SILENCE;
  }

  /** The address of the leader, if the node names it. */
  Optional<String> leaderAddress() {
    return is(Reason.NOT_LEADER) && detail.getNotLeader().hasLeaderAddr()
        ? Optional.of(detail.getNotLeader().getLeaderAddr())
        : Optional.empty();
  }

  /** The cluster that answers, if it was recovered from the one that the request names. */
  OptionalLong successor() {
    OtherCluster other = detail == null ? null : detail.getOtherCluster();
    return other != null && other.getSuccessor()
        ? OptionalLong.of(other.getClusterId())
        : OptionalLong.empty();
  }

  /** Whether the next attempt has to go to another node. */
  boolean endsLeadership() {
    // The leader that is overloaded is there, and asks to repeat later.
    return !is(Reason.OVERLOADED) && retry != Retry.NOWHERE;
  }

  /** Whether a node refused a request that another one, perhaps at the same address, may serve. */
  boolean sendsElsewhere() {
    return answered() && retry == Retry.LATER && endsLeadership();
  }

  /** Whether the connection may be of no use any more. */
  boolean spoilsConnection() {
    return silent() || (!answered() && applied == Applied.NO);
  }

  /** The same fault for what was surely not applied, such as a read. */
  CallError notApplied() {
    return new CallError(getMessage(), Applied.NO, retry, origin, detail);
  }

  /** The same fault for a write that may have been applied. */
  CallError inDoubt() {
    return new CallError(getMessage(), Applied.UNKNOWN, retry, origin, detail);
  }

  /** The error of a call that ends with this fault of the node at {@code address}. */
  SeshatException ended(String address) {
    SeshatException.Kind kind =
        switch (origin) {
          case ANSWER -> SeshatException.Kind.REFUSED;
          case BROKEN -> SeshatException.Kind.UNREACHABLE;
          case SILENCE -> SeshatException.Kind.DEADLINE;
        };
    String doubt = applied == Applied.UNKNOWN ? "outcome unknown: " : "";
    return SeshatException.of(kind, this, doubt + address + ": " + getMessage());
  }
}
