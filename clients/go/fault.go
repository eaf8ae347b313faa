package seshat

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"unicode"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/seshat-kv/seshat/clients/go/seshatpb/kvpb"
)

// retryability says whether a retry can succeed.
type retryability int

const (
	// Possibly later: the cluster may recover.
	later retryability = iota
	// Not at this endpoint, but possibly at another one.
	elsewhere
	// The request itself is at fault.
	nowhere
)

// fault is how one call to one node failed.
type fault struct {
	message string
	applied Applied
	retry   retryability
	// Whether the node itself answered, with code: then the connection to it works.
	answered bool
	code     codes.Code
	detail   *kvpb.ErrorDetail
	// Whether there was no answer in time.
	silent bool
}

func (f *fault) Error() string { return f.message }

// unreachable: no connection was made, so nothing was sent.
func unreachable(message string) *fault {
	return &fault{message: printable(message), retry: later}
}

// silence: there was no answer in time.
func silence() *fault {
	return &fault{message: "no answer in time", applied: AppliedUnknown, retry: later, silent: true}
}

// broken: the connection ended while a request was in flight.
func broken(why string) *fault {
	return &fault{message: "the connection broke: " + printable(why), applied: AppliedUnknown, retry: later}
}

// typed is a fault with the detail of a refusal.
func typed(code codes.Code, message string, detail *kvpb.ErrorDetail) *fault {
	f := &fault{
		message: words(code, message), applied: AppliedUnknown, answered: true, code: code, detail: detail,
	}
	if detail.GetApplied() == kvpb.Applied_APPLIED_NO {
		f.applied = AppliedNo
	}
	switch detail.GetReason().(type) {
	case *kvpb.ErrorDetail_NotLeader, *kvpb.ErrorDetail_NoQuorum, *kvpb.ErrorDetail_Overloaded,
		*kvpb.ErrorDetail_Forming, *kvpb.ErrorDetail_OtherCluster, *kvpb.ErrorDetail_ShuttingDown:
		f.retry = later
	case nil:
		// A reason of a newer version: its status code decides.
		switch code {
		case codes.Unavailable, codes.ResourceExhausted, codes.Aborted, codes.DeadlineExceeded:
			f.retry = later
		default:
			f.retry = nowhere
		}
	default:
		f.retry = nowhere
	}
	return f
}

// untyped is a fault from a status without a detail, which a node or a proxy has sent.
func untyped(code codes.Code, message string) *fault {
	f := &fault{
		message: words(code, message), applied: AppliedUnknown, retry: later, answered: true, code: code,
	}
	switch code {
	// The meaning of these codes is that the request was not begun.
	case codes.Unimplemented, codes.Unauthenticated, codes.PermissionDenied:
		f.applied, f.retry = AppliedNo, elsewhere
	case codes.InvalidArgument, codes.OutOfRange:
		f.applied, f.retry = AppliedNo, nowhere
	}
	return f
}

// faultOf returns the fault of an attempt that ended with err under ctx, and was followed by seen.
func faultOf(ctx context.Context, err error, seen *trace) *fault {
	var own *fault
	if errors.As(err, &own) {
		return own
	}
	told, _ := status.FromError(err)
	if detail := detailOf(told); detail != nil {
		return typed(told.Code(), told.Message(), detail)
	}
	switch {
	case seen.answered.Load():
		return untyped(told.Code(), told.Message())
	case !seen.sent.Load() && ctx.Err() == nil:
		return unreachable(told.Message())
	case ctx.Err() != nil:
		f := silence()
		f.applied = Applied(seen.sent.Load())
		return f
	}
	switch told.Code() {
	// What the library says when it has lost the connection, or cannot read the answer.
	case codes.Unavailable, codes.Canceled, codes.DeadlineExceeded, codes.Internal, codes.Unknown:
		return broken(told.Message())
	}
	return untyped(told.Code(), told.Message())
}

// faultOfCommand returns the fault of one command of a pipeline.
func faultOfCommand(refused *kvpb.PipelineError) *fault {
	code := codes.Code(refused.GetCode())
	if refused.GetDetail() == nil {
		return untyped(code, refused.GetMessage())
	}
	return typed(code, refused.GetMessage(), refused.GetDetail())
}

// detailOf returns the typed detail of a refusal, if it has one.
func detailOf(told *status.Status) *kvpb.ErrorDetail {
	name := string((*kvpb.ErrorDetail)(nil).ProtoReflect().Descriptor().FullName())
	for _, packed := range told.Proto().GetDetails() {
		if packed.GetTypeUrl()[strings.LastIndexByte(packed.GetTypeUrl(), '/')+1:] != name {
			continue
		}
		detail := &kvpb.ErrorDetail{}
		if proto.Unmarshal(packed.GetValue(), detail) == nil {
			return detail
		}
	}
	return nil
}

// leader returns the address of the leader, if the node names it.
func (f *fault) leader() string {
	address, err := endpoint(f.detail.GetNotLeader().GetLeaderAddr())
	if err != nil {
		return ""
	}
	return address
}

// endsLeadership reports whether the next attempt has to go to another node.
func (f *fault) endsLeadership() bool {
	// An overloaded leader is there, and asks to retry later.
	return f.detail.GetOverloaded() == nil && f.retry != nowhere
}

// sendsElsewhere reports whether a node refused a request that another one may serve: then it helps to reach
// another node at the same address.
func (f *fault) sendsElsewhere() bool {
	return f.answered && f.retry == later && f.endsLeadership()
}

// ofRead returns the same fault for a read, which changes nothing.
func (f *fault) ofRead() *fault {
	read := *f
	read.applied = AppliedNo
	return &read
}

// refusal returns an error of this kind with what the node told.
func (f *fault) refusal(kind Kind, message string) *Error {
	return &Error{
		Kind: kind, Applied: f.applied, Reason: reasonOf(f.detail), Detail: f.detail, Code: f.code, Message: message,
	}
}

// ended returns the error of a call whose last attempt, at address, may not be repeated.
func (f *fault) ended(address string) *Error {
	message := fmt.Sprintf("%s: %s", address, f.message)
	switch {
	case f.answered:
		return f.refusal(KindRefused, message)
	case f.silent:
		return &Error{Kind: KindDeadline, Applied: f.applied, Message: message, cause: context.DeadlineExceeded}
	}
	return &Error{Kind: KindUnreachable, Applied: f.applied, Message: message}
}

// reasonOf returns the name of the reason.
func reasonOf(detail *kvpb.ErrorDetail) Reason {
	if detail == nil {
		return ""
	}
	message := detail.ProtoReflect()
	field := message.WhichOneof(message.Descriptor().Oneofs().ByName("reason"))
	if field == nil {
		return ""
	}
	return Reason(field.Name())
}

// words returns the message of a status, on one line.
func words(code codes.Code, message string) string {
	if message == "" {
		return code.String()
	}
	return printable(message)
}

// printable returns text from another machine without control characters, which would steer a terminal.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, text)
}
