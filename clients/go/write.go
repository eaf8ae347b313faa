package seshat

import (
	"context"

	"github.com/seshat-kv/seshat/clients/go/seshatpb/kvpb"
)

// KV is what a [Client], a [Session] and a [LivingSession] have in common.
type KV interface {
	// Get reads a key. The answer has every write that was acknowledged before the call began.
	Get(ctx context.Context, key string) (Found, error)
	// Set binds a key to a value.
	Set(ctx context.Context, key string, value []byte, lifetime ...Lifetime) (Written, error)
	// SetIf is Set on a condition.
	SetIf(ctx context.Context, test Test, key string, value []byte, lifetime ...Lifetime) (Conditional, error)
	// Delete removes a key.
	Delete(ctx context.Context, key string) (Deleted, error)
	// DeleteIf is Delete on a condition.
	DeleteIf(ctx context.Context, test Test, key string) (Conditional, error)
	// Txn tests conditions, and reads and writes several keys, atomically.
	Txn(ctx context.Context, txn Txn) (TxnOutcome, error)
	// Pipeline opens a stream that keeps many commands in flight.
	Pipeline(ctx context.Context, options ...PipelineOption) (*Pipeline, error)
}

var (
	_ KV = (*Client)(nil)
	_ KV = (*Session)(nil)
	_ KV = (*LivingSession)(nil)
)

// Written is the result of a write: the key was bound.
type Written struct {
	// The revision of the write: later ones have higher ones.
	Revision uint64
}

// Deleted is the result of a removal.
type Deleted struct {
	// Whether the key was bound before.
	Existed bool
	// The revision of the removal.
	Revision uint64
}

// Conditional is the outcome of a write on a condition. That it does not hold is no error.
type Conditional struct {
	// Whether the condition held, and the write was applied.
	Succeeded bool
	// The revision of the write, or, without success, up to which Found has all writes.
	Revision uint64
	// Whether the key of a DeleteIf was bound before.
	Existed bool
	// Without success, what the key is bound to; nil: it is missing.
	Found *Entry
}

// issuer makes reads and writes, as a client or in a session.
type issuer struct {
	caller
	// The cluster that has the session.
	home uint64
}

// holds returns an error if the session is lost.
func (i *issuer) holds() error {
	if i.numbers == nil {
		return nil
	}
	return i.numbers.holds()
}

// Get reads key. The answer has every write that was acknowledged before the call began.
func (i *issuer) Get(ctx context.Context, key string) (Found, error) {
	if err := i.holds(); err != nil {
		return Found{}, err
	}
	get := func(ctx context.Context, n *node) (*kvpb.GetResponse, error) {
		return n.kv().Get(ctx, &kvpb.GetRequest{Key: []byte(key), ClusterId: n.named()})
	}
	answer, err := call(ctx, i.caller, read, get)
	if err != nil {
		return Found{}, err
	}
	return foundOf(answer), nil
}

// Set binds key to value. It returns once a majority holds the write and the leader has applied it. With a lifetime,
// such as [TTL], the key ends by itself.
//
// The write may have been applied if the error says [AppliedUnknown]. Without a session it is not repeated then.
func (i *issuer) Set(ctx context.Context, key string, value []byte, lifetime ...Lifetime) (Written, error) {
	if len(lifetime) > 0 {
		outcome, err := i.Txn(ctx, Txn{Then: []Operation{OpSet(key, value, lifetime...)}})
		return Written{Revision: outcome.Revision}, err
	}
	set := func(ctx context.Context, n *node, session *kvpb.Session) (*kvpb.SetResponse, error) {
		return n.kv().Set(ctx, &kvpb.SetRequest{
			Key: []byte(key), Value: value, Session: session, ClusterId: n.named(),
		})
	}
	answer, err := write(ctx, i, set)
	return Written{Revision: answer.GetAppliedIndex()}, err
}

// SetIf binds key to value on a condition, such as [IfAbsent].
//
// The write may have been applied if the error says [AppliedUnknown].
func (i *issuer) SetIf(
	ctx context.Context, test Test, key string, value []byte, lifetime ...Lifetime,
) (Conditional, error) {
	return i.conditional(ctx, test, key, OpSet(key, value, lifetime...))
}

// Delete removes key. Removing a missing key is no error.
//
// The removal may have been applied if the error says [AppliedUnknown].
func (i *issuer) Delete(ctx context.Context, key string) (Deleted, error) {
	remove := func(ctx context.Context, n *node, session *kvpb.Session) (*kvpb.DeleteResponse, error) {
		return n.kv().Delete(ctx, &kvpb.DeleteRequest{Key: []byte(key), Session: session, ClusterId: n.named()})
	}
	answer, err := write(ctx, i, remove)
	return Deleted{Existed: answer.GetExisted(), Revision: answer.GetAppliedIndex()}, err
}

// DeleteIf removes key on a condition, such as [IfRevision].
//
// The removal may have been applied if the error says [AppliedUnknown].
func (i *issuer) DeleteIf(ctx context.Context, test Test, key string) (Conditional, error) {
	return i.conditional(ctx, test, key, OpDelete(key))
}

// conditional carries out operation if test holds, and reads key otherwise.
func (i *issuer) conditional(ctx context.Context, test Test, key string, operation Operation) (Conditional, error) {
	outcome, err := i.Txn(ctx, Txn{
		If: []Condition{test(key)}, Then: []Operation{operation}, Else: []Operation{OpGet(key)},
	})
	if err != nil {
		return Conditional{}, err
	}
	result := outcome.Results[0]
	return Conditional{
		Succeeded: outcome.Succeeded, Revision: outcome.Revision, Existed: result.Existed, Found: result.Entry,
	}, nil
}

// write makes a write: in a session under a number, which is repeated until it is answered.
func write[T any](
	ctx context.Context, i *issuer, make func(context.Context, *node, *kvpb.Session) (T, error),
) (T, error) {
	if i.numbers == nil {
		return call(ctx, i.caller, once, func(ctx context.Context, n *node) (T, error) { return make(ctx, n, nil) })
	}
	ctx, cancel := i.within(ctx)
	defer cancel()
	var none T
	number, err := i.numbers.next(ctx, 1)
	if err != nil {
		return none, err
	}
	defer i.numbers.done(number)
	stamped := func(ctx context.Context, n *node) (T, error) { return make(ctx, n, i.numbers.stamp(number[0])) }
	return call(ctx, i.boundTo(i.home), numbered, stamped)
}
