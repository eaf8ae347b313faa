package main

import (
	"context"
	"errors"
	"time"

	seshat "github.com/seshat-kv/seshat/clients/go"
	pb "github.com/seshat-kv/seshat/clients/go/internal/conformancepb"
)

type maxWait = time.Duration

func done() *pb.Response { return &pb.Response{Outcome: &pb.Response_Done{Done: &pb.Done{}}} }

func failed(err error) *pb.Response {
	return &pb.Response{Outcome: &pb.Response_Failure{Failure: failureOf(err)}}
}

var kinds = map[seshat.Kind]pb.Kind{
	seshat.KindRefused:     pb.Kind_KIND_REFUSED,
	seshat.KindUnreachable: pb.Kind_KIND_UNREACHABLE,
	seshat.KindDeadline:    pb.Kind_KIND_DEADLINE,
	seshat.KindUnserved:    pb.Kind_KIND_UNSERVED,
	seshat.KindInterrupted: pb.Kind_KIND_INTERRUPTED,
	seshat.KindSessionLost: pb.Kind_KIND_SESSION_LOST,
	seshat.KindInvalid:     pb.Kind_KIND_INVALID,
	seshat.KindCancelled:   pb.Kind_KIND_CANCELLED,
}

func failureOf(err error) *pb.Failure {
	var failure *seshat.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &failure):
		applied := pb.Applied_APPLIED_NO
		if failure.Applied == seshat.AppliedUnknown {
			applied = pb.Applied_APPLIED_UNKNOWN
		}
		return &pb.Failure{
			Applied: applied, Kind: kinds[failure.Kind], Reason: string(failure.Reason), Message: failure.Message,
		}
	case errors.Is(err, context.Canceled):
		return &pb.Failure{Applied: pb.Applied_APPLIED_NO, Kind: pb.Kind_KIND_CANCELLED, Message: err.Error()}
	}
	return &pb.Failure{Applied: pb.Applied_APPLIED_NO, Kind: pb.Kind_KIND_INVALID, Message: err.Error()}
}

func written(revision uint64) *pb.Response {
	return &pb.Response{Outcome: &pb.Response_Written{Written: &pb.Written{Revision: revision}}}
}

func deleted(existed bool, revision uint64) *pb.Response {
	return &pb.Response{Outcome: &pb.Response_Deleted{Deleted: &pb.Deleted{Existed: existed, Revision: revision}}}
}

func notHeld(outcome seshat.Conditional, err error) *pb.Response {
	if err != nil {
		return failed(err)
	}
	return &pb.Response{Outcome: &pb.Response_NotHeld{NotHeld: &pb.NotHeld{Found: optionalEntry(outcome.Found)}}}
}

func got(key string, found seshat.Found) *pb.Got {
	if !found.Exists {
		return &pb.Got{}
	}
	return &pb.Got{Entry: &pb.Entry{Key: []byte(key), Value: found.Value, Revision: found.Revision}}
}

func entryOf(entry seshat.Entry) *pb.Entry {
	return &pb.Entry{Key: []byte(entry.Key), Value: entry.Value, Revision: entry.Revision}
}

func optionalEntry(entry *seshat.Entry) *pb.Entry {
	if entry == nil {
		return nil
	}
	return entryOf(*entry)
}

func entriesOf(entries []seshat.Entry) []*pb.Entry {
	var all []*pb.Entry
	for _, entry := range entries {
		all = append(all, entryOf(entry))
	}
	return all
}

func resultOf(asked *pb.Operation, result seshat.TxnResult) *pb.OperationResult {
	switch asked.GetOperation().(type) {
	case *pb.Operation_Get:
		entry := &pb.Got{Entry: optionalEntry(result.Entry)}
		return &pb.OperationResult{Result: &pb.OperationResult_Get{Get: entry}}
	case *pb.Operation_Delete:
		return &pb.OperationResult{Result: &pb.OperationResult_Existed{Existed: result.Existed}}
	}
	return &pb.OperationResult{Result: &pb.OperationResult_Set{Set: &pb.Done{}}}
}

func replyOf(asked *pb.Operation, reply seshat.Reply) *pb.OperationResult {
	if reply.Err != nil {
		return &pb.OperationResult{Result: &pb.OperationResult_Failure{Failure: failureOf(reply.Err)}}
	}
	switch asked := asked.GetOperation().(type) {
	case *pb.Operation_Get:
		found := got(string(asked.Get.GetKey()), reply.Found)
		return &pb.OperationResult{Result: &pb.OperationResult_Get{Get: found}}
	case *pb.Operation_Delete:
		return &pb.OperationResult{Result: &pb.OperationResult_Existed{Existed: reply.Existed}}
	}
	return &pb.OperationResult{Result: &pb.OperationResult_Set{Set: &pb.Done{}}}
}

// updateOf returns nil for news that are left out.
func updateOf(update seshat.Update) *pb.Response {
	say := &pb.Update{}
	switch update := update.(type) {
	case seshat.Reset:
		say.Update = &pb.Update_Reset_{Reset_: &pb.Done{}}
	case seshat.State:
		state := &pb.State{Entries: entriesOf(update.Entries)}
		for _, key := range update.Deleted {
			state.Deleted = append(state.Deleted, []byte(key))
		}
		say.Update = &pb.Update_State{State: state}
	case seshat.Synced:
		say.Update = &pb.Update_Synced{Synced: update.Position.Revision}
	case seshat.Events:
		events := &pb.Events{Revision: update.Position.Revision}
		for _, event := range update.Events {
			events.Events = append(events.Events, &pb.Event{Cause: string(event.Cause), Entry: entryOf(event.Entry)})
		}
		say.Update = &pb.Update_Events{Events: events}
	default:
		return nil
	}
	return &pb.Response{Outcome: &pb.Response_Update{Update: say}}
}
