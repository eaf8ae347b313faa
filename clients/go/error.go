package seshat

import (
	"context"
	"errors"

	"google.golang.org/grpc/codes"

	"github.com/seshat-kv/seshat/clients/go/seshatpb/kvpb"
)

// Error says why a call was not answered. Every error of this package is one, or wraps one:
//
//	var failure *seshat.Error
//	if errors.As(err, &failure) && failure.Applied == seshat.AppliedNo { … }
//
// First look at Applied: whether the write may have taken effect. Kind says what ended the call.
// [errors.Is] finds [context.Canceled] and [context.DeadlineExceeded] where the call ended for these.
type Error struct {
	// What ended the call.
	Kind Kind
	// Whether the write may have been applied. Always AppliedNo for a read.
	Applied Applied
	// The reason that a node gave, last before a deadline; empty: none that this version knows.
	Reason Reason
	// The reason with all that the node told about it; nil: none.
	Detail *kvpb.ErrorDetail
	// The gRPC status code of that node; OK: no node gave one.
	Code codes.Code
	// The text for people, on one line.
	Message string
	cause   error
}

// Kind is what ended a call.
type Kind string

const (
	// KindRefused: a node refused the request, and a retry is useless or not safe.
	KindRefused Kind = "refused"
	// KindUnreachable: no node could be reached in time, or the connection broke while the request was in flight.
	KindUnreachable Kind = "unreachable"
	// KindDeadline: the deadline has passed. Nodes answered, but none served the request, or none answered in time.
	KindDeadline Kind = "deadline"
	// KindUnserved: every endpoint answered that it will never serve such a request.
	KindUnserved Kind = "unserved"
	// KindInterrupted: a scan was cut off after its first entries. Begin it again.
	KindInterrupted Kind = "interrupted"
	// KindSessionLost: the living session is lost. Nothing was sent, or a lock that was waited for will not be held.
	KindSessionLost Kind = "session lost"
	// KindInvalid: the call was invalid, and nothing was sent.
	KindInvalid Kind = "invalid"
	// KindCancelled: the context was cancelled, or the client closed.
	KindCancelled Kind = "cancelled"
)

// Applied says whether a write may have been applied.
type Applied bool

const (
	// AppliedNo: surely not applied, now or later. Repeating it is safe.
	AppliedNo Applied = false
	// AppliedUnknown: it may have been applied, or may yet be.
	AppliedUnknown Applied = true
)

func (a Applied) String() string {
	if a == AppliedUnknown {
		return "unknown"
	}
	return "no"
}

// Reason is why a node refused a request: the name of its field in seshat.kv.v1.ErrorDetail.
type Reason string

// The reasons: see docs/ERRORS.md of the project.
const (
	ReasonNotLeader          Reason = "not_leader"
	ReasonNoQuorum           Reason = "no_quorum"
	ReasonOverloaded         Reason = "overloaded"
	ReasonTooLarge           Reason = "too_large"
	ReasonForming            Reason = "forming"
	ReasonInvalidRequest     Reason = "invalid_request"
	ReasonShuttingDown       Reason = "shutting_down"
	ReasonFailedPrecondition Reason = "failed_precondition"
	ReasonSessionExpired     Reason = "session_expired"
	ReasonFull               Reason = "full"
	ReasonOtherCluster       Reason = "other_cluster"
)

func (e *Error) Error() string {
	if e.Applied == AppliedUnknown {
		return "outcome unknown: " + e.Message
	}
	return e.Message
}

// Unwrap returns [context.Canceled] or [context.DeadlineExceeded], if the call ended for these.
func (e *Error) Unwrap() error { return e.cause }

// SessionEnded reports whether this ends a session: the cluster has dropped it, an operator has recovered another
// cluster from its own, or it is a living one that is lost. Open a new session then. Also true of a write whose
// owner does not live.
func (e *Error) SessionEnded() bool {
	return e.Kind == KindSessionLost || e.Reason == ReasonSessionExpired || e.isSuccessor()
}

// isSuccessor reports whether a cluster answers that was recovered from the one of this client or session.
func (e *Error) isSuccessor() bool {
	return e.Detail.GetOtherCluster().GetSuccessor()
}

// isOutage reports whether no node served the call in time, so that the same call may succeed later.
func (e *Error) isOutage() bool {
	return e.Kind == KindUnreachable || e.Kind == KindDeadline
}

// goesOn reports whether a call is to be repeated in the background, because its caller waits no longer.
func (e *Error) goesOn() bool {
	return e != nil && (e.isOutage() || e.Kind == KindCancelled)
}

// inDoubt returns the same error, for a write of which an earlier attempt may have been applied.
func (e *Error) inDoubt() *Error {
	doubtful := *e
	switch e.Kind {
	case KindUnserved:
		// An earlier attempt was served.
		doubtful.Kind = KindDeadline
	case KindInterrupted, KindSessionLost, KindInvalid:
		return e
	}
	doubtful.Applied = AppliedUnknown
	return &doubtful
}

func invalid(message string) *Error {
	return &Error{Kind: KindInvalid, Message: message}
}

// late is the error of a call whose deadline passed before anything was sent.
func late(message string) *Error {
	return &Error{Kind: KindDeadline, Message: message, cause: context.DeadlineExceeded}
}

func cancelled() *Error {
	return &Error{Kind: KindCancelled, Message: "the call was cancelled", cause: context.Canceled}
}

// over returns why a call ends whose context has ended before anything was sent.
func over(ctx context.Context, message string) *Error {
	if errors.Is(ctx.Err(), context.Canceled) {
		return cancelled()
	}
	return late(message)
}

// asError returns err as an Error, whose type every failure of this package has.
func asError(err error) *Error {
	var failure *Error
	if errors.As(err, &failure) {
		return failure
	}
	return nil
}
