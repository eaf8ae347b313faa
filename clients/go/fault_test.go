package seshat

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/seshat-kv/seshat/clients/go/seshatpb/kvpb"
)

func seenAs(sent, answered bool) *trace {
	seen := &trace{}
	seen.sent.Store(sent)
	seen.answered.Store(answered)
	return seen
}

// refused returns the status of a refusal, as a node sends it.
func refused(code codes.Code, detail *kvpb.ErrorDetail) error {
	told, err := status.New(code, "refused").WithDetails(detail)
	if err != nil {
		panic(err)
	}
	return told.Err()
}

const (
	no      = kvpb.Applied_APPLIED_NO
	unknown = kvpb.Applied_APPLIED_UNKNOWN
)

func TestTheDetailOfARefusalDecides(t *testing.T) {
	notLeader := &kvpb.ErrorDetail_NotLeader{NotLeader: &kvpb.NotLeader{}}
	full := &kvpb.ErrorDetail_Full{Full: &kvpb.Full{}}
	expired := &kvpb.ErrorDetail_SessionExpired{SessionExpired: &kvpb.SessionExpired{}}
	for _, each := range []struct {
		code    codes.Code
		detail  *kvpb.ErrorDetail
		applied Applied
		retry   retryability
		reason  Reason
	}{
		{codes.FailedPrecondition, &kvpb.ErrorDetail{Applied: no, Reason: notLeader}, AppliedNo, later, ReasonNotLeader},
		{codes.Unknown, &kvpb.ErrorDetail{Applied: unknown, Reason: notLeader}, AppliedUnknown, later, ReasonNotLeader},
		{codes.ResourceExhausted, &kvpb.ErrorDetail{Applied: no, Reason: full}, AppliedNo, nowhere, ReasonFull},
		{codes.Aborted, &kvpb.ErrorDetail{Applied: no, Reason: expired}, AppliedNo, nowhere, ReasonSessionExpired},
		// What is not set, or from a later version, is unknown.
		{codes.FailedPrecondition, &kvpb.ErrorDetail{Reason: notLeader}, AppliedUnknown, later, ReasonNotLeader},
		{codes.FailedPrecondition, &kvpb.ErrorDetail{Applied: 9, Reason: full}, AppliedUnknown, nowhere, ReasonFull},
		// A reason of a later version: its code decides.
		{codes.Aborted, &kvpb.ErrorDetail{Applied: no}, AppliedNo, later, ""},
		{codes.Unavailable, &kvpb.ErrorDetail{Applied: no}, AppliedNo, later, ""},
		{codes.FailedPrecondition, &kvpb.ErrorDetail{Applied: no}, AppliedNo, nowhere, ""},
		{codes.Unimplemented, &kvpb.ErrorDetail{Applied: no}, AppliedNo, nowhere, ""},
	} {
		f := faultOf(context.Background(), refused(each.code, each.detail), seenAs(true, true))
		if f.applied != each.applied || f.retry != each.retry || reasonOf(f.detail) != each.reason || !f.answered {
			t.Errorf("%v %v: %+v", each.code, each.detail, f)
		}
	}
}

func TestAStatusWithoutADetailIsReadByItsCode(t *testing.T) {
	for code := codes.Canceled; code <= codes.Unauthenticated; code++ {
		applied, retry := AppliedUnknown, later
		switch code {
		case codes.Unimplemented, codes.Unauthenticated, codes.PermissionDenied:
			applied, retry = AppliedNo, elsewhere
		case codes.InvalidArgument, codes.OutOfRange:
			applied, retry = AppliedNo, nowhere
		}
		f := faultOf(context.Background(), status.Error(code, "x"), seenAs(true, true))
		if f.applied != applied || f.retry != retry || !f.answered {
			t.Errorf("%v: %+v", code, f)
		}
	}
}

func TestWhatWasNeverSentIsNotApplied(t *testing.T) {
	lost := status.Error(codes.Unavailable, "connection refused")
	if f := faultOf(context.Background(), lost, seenAs(false, false)); f.applied != AppliedNo || f.answered {
		t.Errorf("no connection: %+v", f)
	}
	if f := faultOf(context.Background(), lost, seenAs(true, false)); f.applied != AppliedUnknown || f.answered {
		t.Errorf("a broken one: %+v", f)
	}
	ended, cancel := context.WithDeadline(context.Background(), time.Unix(0, 0))
	defer cancel()
	for _, sent := range []bool{false, true} {
		f := faultOf(ended, status.FromContextError(ended.Err()).Err(), seenAs(sent, false))
		if f.applied != Applied(sent) || !f.silent {
			t.Errorf("silence, sent %v: %+v", sent, f)
		}
	}
}

func TestADoubtStays(t *testing.T) {
	for _, kind := range []Kind{KindRefused, KindUnreachable, KindDeadline, KindCancelled} {
		if doubtful := (&Error{Kind: kind}).inDoubt(); doubtful.Applied != AppliedUnknown || doubtful.Kind != kind {
			t.Errorf("%v: %+v", kind, doubtful)
		}
	}
	unserved := (&Error{Kind: KindUnserved}).inDoubt()
	if unserved.Kind != KindDeadline || unserved.Applied != AppliedUnknown {
		t.Errorf("an earlier attempt was served: %+v", unserved)
	}
	if invalid("x").inDoubt().Applied != AppliedNo {
		t.Error("what was invalid was never sent")
	}
}

func TestErrorsAreFound(t *testing.T) {
	detail := &kvpb.ErrorDetail{Applied: no, Reason: &kvpb.ErrorDetail_OtherCluster{
		OtherCluster: &kvpb.OtherCluster{ClusterId: 7, Successor: true},
	}}
	var err error = faultOf(context.Background(), refused(codes.FailedPrecondition, detail), seenAs(true, true)).
		ended("kv-1:6379")
	var failure *Error
	if !errors.As(err, &failure) || failure.Reason != ReasonOtherCluster || !failure.SessionEnded() ||
		failure.Code != codes.FailedPrecondition || failure.Detail.GetOtherCluster().GetClusterId() != 7 {
		t.Errorf("%+v", failure)
	}
	if !errors.Is(silence().ended("kv-1:6379"), context.DeadlineExceeded) || !errors.Is(cancelled(), context.Canceled) {
		t.Error("the end of a context is not found")
	}
	doubtful := (&Error{Message: "x", Applied: AppliedUnknown}).Error()
	if doubtful != "outcome unknown: x" {
		t.Error(doubtful)
	}
	if text := typed(codes.Unavailable, "a\x1b[2Jb\n", detail).message; strings.ContainsAny(text, "\x1b\n") {
		t.Errorf("%q steers a terminal", text)
	}
}
