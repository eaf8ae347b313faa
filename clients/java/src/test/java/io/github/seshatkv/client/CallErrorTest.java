package io.github.seshatkv.client;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.protobuf.Any;
import io.github.seshatkv.proto.kv.v1.ErrorDetail;
import io.github.seshatkv.proto.kv.v1.Full;
import io.github.seshatkv.proto.kv.v1.InvalidRequest;
import io.github.seshatkv.proto.kv.v1.NotLeader;
import io.github.seshatkv.proto.kv.v1.OtherCluster;
import io.github.seshatkv.proto.kv.v1.Overloaded;
import io.github.seshatkv.proto.kv.v1.PipelineError;
import io.github.seshatkv.proto.kv.v1.SessionExpired;
import io.grpc.Metadata;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.protobuf.StatusProto;
import java.io.IOException;
import java.util.Optional;
import java.util.OptionalLong;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

class CallErrorTest {
  private static final io.github.seshatkv.proto.kv.v1.Applied NO =
      io.github.seshatkv.proto.kv.v1.Applied.APPLIED_NO;

  /** The fault of a refusal with this detail. */
  private static CallError refused(Status.Code code, ErrorDetail detail) {
    com.google.rpc.Status status =
        com.google.rpc.Status.newBuilder()
            .setCode(code.value())
            .setMessage("words")
            .addDetails(Any.newBuilder().setTypeUrl("type.googleapis.com/some.Other"))
            .addDetails(Any.pack(detail))
            .build();
    StatusRuntimeException thrown = StatusProto.toStatusRuntimeException(status);
    return CallError.of(thrown.getStatus(), thrown.getTrailers(), true);
  }

  /** The fault of a status without a detail, from a node or a proxy. */
  private static CallError answered(Status.Code code) {
    Metadata trailers = new Metadata();
    trailers.put(Metadata.Key.of("server", Metadata.ASCII_STRING_MARSHALLER), "proxy");
    return CallError.of(code.toStatus(), trailers, true);
  }

  private static ErrorDetail.Builder detail() {
    return ErrorDetail.newBuilder().setApplied(NO);
  }

  @Test
  void aDetailSaysWhetherTheWriteIsApplied() {
    ErrorDetail.Builder detail = detail().setFull(Full.getDefaultInstance());
    assertEquals(Applied.NO, refused(Status.Code.UNKNOWN, detail.build()).applied());
    for (int other : new int[] {0, 2, 77}) {
      CallError fault = refused(Status.Code.UNAVAILABLE, detail.setAppliedValue(other).build());
      assertEquals(Applied.UNKNOWN, fault.applied());
    }
  }

  @Test
  void aReasonSaysWhereToRepeat() {
    CallError later =
        refused(
            Status.Code.FAILED_PRECONDITION,
            detail().setNotLeader(NotLeader.newBuilder().setLeaderAddr("b:2")).build());
    assertEquals(Retry.LATER, later.retry());
    assertEquals(Optional.of("b:2"), later.leaderAddress());
    assertTrue(later.endsLeadership());
    CallError nowhere =
        refused(
            Status.Code.FAILED_PRECONDITION,
            detail().setSessionExpired(SessionExpired.getDefaultInstance()).build());
    assertEquals(Retry.NOWHERE, nowhere.retry());
    assertEquals(Optional.of(Reason.SESSION_EXPIRED), nowhere.reason());
    assertEquals("session_expired", nowhere.reason().get().toString());
  }

  @Test
  void aLeaderThatIsOverloadedStaysTheLeader() {
    CallError fault =
        refused(
            Status.Code.RESOURCE_EXHAUSTED,
            detail().setOverloaded(Overloaded.getDefaultInstance()).build());
    assertEquals(Retry.LATER, fault.retry());
    assertFalse(fault.endsLeadership());
  }

  @ParameterizedTest
  @CsvSource({
    "UNAVAILABLE,LATER",
    "RESOURCE_EXHAUSTED,LATER",
    "ABORTED,LATER",
    "DEADLINE_EXCEEDED,LATER",
    "FAILED_PRECONDITION,NOWHERE",
    "INTERNAL,NOWHERE",
    "UNKNOWN,NOWHERE"
  })
  void theCodeDecidesForAReasonOfANewerVersion(Status.Code code, Retry retry) {
    CallError fault = refused(code, detail().build());
    assertEquals(retry, fault.retry());
    assertEquals(Applied.NO, fault.applied());
    assertEquals(Optional.empty(), fault.reason());
  }

  @ParameterizedTest
  @CsvSource({
    "UNIMPLEMENTED,NO,ELSEWHERE",
    "UNAUTHENTICATED,NO,ELSEWHERE",
    "PERMISSION_DENIED,NO,ELSEWHERE",
    "INVALID_ARGUMENT,NO,NOWHERE",
    "OUT_OF_RANGE,NO,NOWHERE",
    "UNAVAILABLE,UNKNOWN,LATER",
    "INTERNAL,UNKNOWN,LATER",
    "DEADLINE_EXCEEDED,UNKNOWN,LATER"
  })
  void theCodeDecidesWithoutADetail(Status.Code code, Applied applied, Retry retry) {
    CallError fault = answered(code);
    assertEquals(applied, fault.applied());
    assertEquals(retry, fault.retry());
    assertTrue(fault.answered());
  }

  @Test
  void onlyWhatWasSurelyNotSentIsNotApplied() {
    Status refused = Status.UNAVAILABLE.withCause(new IOException("refused"));
    CallError unsent = CallError.of(refused, new Metadata(), false);
    assertEquals(Applied.NO, unsent.applied());
    assertEquals(SeshatException.Kind.UNREACHABLE, unsent.ended("a:1").kind());
    CallError sent = CallError.of(refused, new Metadata(), true);
    assertEquals(Applied.UNKNOWN, sent.applied());
    assertEquals(Retry.LATER, sent.retry());
    assertFalse(sent.answered());
  }

  @Test
  void aDeadlineOfTheLibraryIsSilence() {
    CallError sent = CallError.of(Status.DEADLINE_EXCEEDED, new Metadata(), true);
    assertTrue(sent.silent());
    assertEquals(Applied.UNKNOWN, sent.applied());
    assertEquals(SeshatException.Kind.DEADLINE, sent.ended("a:1").kind());
    CallError unsent = CallError.of(Status.DEADLINE_EXCEEDED, new Metadata(), false);
    assertEquals(Applied.NO, unsent.applied());
  }

  @Test
  void tellsASuccessorFromAnyOtherCluster() {
    OtherCluster.Builder other = OtherCluster.newBuilder().setClusterId(-2);
    CallError any =
        refused(Status.Code.FAILED_PRECONDITION, detail().setOtherCluster(other).build());
    assertEquals(OptionalLong.empty(), any.successor());
    CallError successor =
        refused(
            Status.Code.FAILED_PRECONDITION,
            detail().setOtherCluster(other.setSuccessor(true)).build());
    assertEquals(OptionalLong.of(-2), successor.successor());
    assertTrue(successor.ended("a:1").isSessionExpired());
  }

  @Test
  void readsAnErrorOfAPipelineLikeAStatus() {
    PipelineError.Builder error =
        PipelineError.newBuilder().setCode(Status.Code.INVALID_ARGUMENT.value());
    assertEquals(Retry.NOWHERE, CallError.of(error.build()).retry());
    ErrorDetail invalid = detail().setInvalidRequest(InvalidRequest.getDefaultInstance()).build();
    assertTrue(CallError.of(error.setDetail(invalid).build()).is(Reason.INVALID_REQUEST));
  }

  @Test
  void anEarlierAttemptInDoubtMakesTheOutcomeUnknown() {
    CallError fault =
        refused(
            Status.Code.FAILED_PRECONDITION,
            detail().setSessionExpired(SessionExpired.getDefaultInstance()).build());
    SeshatException error = fault.ended("a:1");
    assertEquals(Applied.NO, error.inDoubt(false).applied());
    SeshatException doubtful = error.inDoubt(true);
    assertEquals(Applied.UNKNOWN, doubtful.applied());
    assertEquals(SeshatException.Kind.REFUSED, doubtful.kind());
    assertEquals(Optional.of(Reason.SESSION_EXPIRED), doubtful.here().reason());
  }

  @Test
  void textOfOtherMachinesSteersNoTerminal() {
    CallError fault =
        CallError.of(Status.INTERNAL.withDescription("a\u001b[2Jb\nc"), new Metadata(), true);
    assertEquals("a [2Jb c", fault.getMessage());
  }
}
