package seshat

import (
	"context"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/seshat-kv/seshat/clients/go/seshatpb/kvpb"
)

// Txn is a transaction: if all conditions hold, Then is carried out, otherwise Else, as one write. Conditions see the
// keys as they are before it; an operation sees those before it. A transaction that writes nothing is a read of
// several keys at one moment.
//
// Conditions and operations together are at most 128. What is read is at most 2 MiB, and 64 KiB for a write in a
// session.
type Txn struct {
	If   []Condition
	Then []Operation
	Else []Operation
}

// Condition is a condition of a [Txn].
type Condition struct {
	proto *kvpb.Condition
}

// KeyExists holds if key is bound.
func KeyExists(key string) Condition {
	return ofKey(&kvpb.KeyCondition{Key: []byte(key), Test: &kvpb.KeyCondition_Exists{Exists: true}})
}

// KeyMissing holds if key is not bound.
func KeyMissing(key string) Condition {
	return ofKey(&kvpb.KeyCondition{Key: []byte(key), Test: &kvpb.KeyCondition_Exists{}})
}

// KeyRevision holds if key was bound by the write of revision, and has not been written since. 0: it is missing.
func KeyRevision(key string, revision uint64) Condition {
	return ofKey(&kvpb.KeyCondition{Key: []byte(key), Test: &kvpb.KeyCondition_Revision{Revision: revision}})
}

// KeyValue holds if key is bound to exactly value.
func KeyValue(key string, value []byte) Condition {
	return ofKey(&kvpb.KeyCondition{Key: []byte(key), Test: &kvpb.KeyCondition_Value{Value: present(value)}})
}

// LockHeld holds if lock is still held: a program that has lost it writes nothing.
func LockHeld(lock *Lock) Condition { return LockToken(lock.Name(), lock.Token()) }

// LockToken holds if the lock of that name is held under token.
func LockToken(name string, token uint64) Condition {
	held := &kvpb.HeldLock{Name: name, Token: token}
	return Condition{&kvpb.Condition{Condition: &kvpb.Condition_Lock{Lock: held}}}
}

func ofKey(test *kvpb.KeyCondition) Condition {
	return Condition{&kvpb.Condition{Condition: &kvpb.Condition_Key{Key: test}}}
}

// present returns a value that is not nil: in a oneof that would be no value.
func present(value []byte) []byte {
	if value == nil {
		return []byte{}
	}
	return value
}

// Test is the condition of a single write, on the key that it writes, or on a lock.
type Test func(key string) Condition

// IfAbsent tests that the key is missing.
func IfAbsent() Test { return KeyMissing }

// IfRevision tests that the key was bound by the write of revision, and has not been written since. 0: it is missing.
func IfRevision(revision uint64) Test {
	return func(key string) Condition { return KeyRevision(key, revision) }
}

// IfValue tests that the key is bound to exactly value.
func IfValue(value []byte) Test {
	return func(key string) Condition { return KeyValue(key, value) }
}

// IfHeld tests that lock is still held.
func IfHeld(lock *Lock) Test { return func(string) Condition { return LockHeld(lock) } }

// IfToken tests that the lock of that name is held under token.
func IfToken(name string, token uint64) Test {
	return func(string) Condition { return LockToken(name, token) }
}

// Operation is an operation of a [Txn], or a command of a [Pipeline].
type Operation struct {
	proto *kvpb.Operation
}

// OpSet binds key to value.
func OpSet(key string, value []byte, lifetime ...Lifetime) Operation {
	set := &kvpb.SetOperation{Key: []byte(key), Value: value}
	for _, apply := range lifetime {
		apply(set)
	}
	return Operation{&kvpb.Operation{Operation: &kvpb.Operation_Set{Set: set}}}
}

// OpGet reads key.
func OpGet(key string) Operation {
	get := &kvpb.GetOperation{Key: []byte(key)}
	return Operation{&kvpb.Operation{Operation: &kvpb.Operation_Get{Get: get}}}
}

// OpDelete removes key. Removing a missing key changes nothing and is no error.
func OpDelete(key string) Operation {
	removal := &kvpb.DeleteOperation{Key: []byte(key)}
	return Operation{&kvpb.Operation{Operation: &kvpb.Operation_Delete{Delete: removal}}}
}

func (o Operation) isWrite() bool { return o.proto.GetGet() == nil }

// Lifetime is how long a key stays bound, unless it is written again. The last write of a key decides; one without a
// lifetime binds it for ever.
type Lifetime func(*kvpb.SetOperation)

// TTL binds the key for ttl: 1 s to 3650 days. Then it is removed.
func TTL(ttl time.Duration) Lifetime {
	return func(set *kvpb.SetOperation) { set.Lifetime = &kvpb.SetOperation_Ttl{Ttl: durationpb.New(ttl)} }
}

// OwnedBy binds the key as long as session lives.
func OwnedBy(session *LivingSession) Lifetime {
	return func(set *kvpb.SetOperation) { set.Lifetime = &kvpb.SetOperation_Owner{Owner: session.ID()} }
}

// KeepLifetime keeps the lifetime that the key has: a TTL goes on, and does not begin again.
func KeepLifetime() Lifetime {
	return func(set *kvpb.SetOperation) { set.Lifetime = &kvpb.SetOperation_Keep{Keep: &kvpb.Keep{}} }
}

// Entry is a key that is bound, and the write that has bound it.
type Entry struct {
	Key   string
	Value []byte
	// The revision of the write.
	Revision uint64
	// The TTL of the key, as it was set; 0: none.
	TTL time.Duration
	// The session that the key belongs to; 0: none.
	Owner uint64
}

func entryOf(entry *kvpb.Entry) Entry {
	return Entry{
		Key: string(entry.GetKey()), Value: present(entry.GetValue()), Revision: entry.GetRevision(),
		TTL: entry.GetTtl().AsDuration(), Owner: entry.GetOwner(),
	}
}

// optionalEntry returns nil for a key that is missing.
func optionalEntry(entry *kvpb.Entry) *Entry {
	if entry == nil {
		return nil
	}
	found := entryOf(entry)
	return &found
}

func entriesOf(entries []*kvpb.Entry) []Entry {
	all := make([]Entry, len(entries))
	for i, entry := range entries {
		all[i] = entryOf(entry)
	}
	return all
}

// TxnOutcome is the outcome of a [Txn].
type TxnOutcome struct {
	// Whether all conditions held.
	Succeeded bool
	// One for each operation of Then or of Else, in order.
	Results []TxnResult
	// The revision of the transaction, and of every key that it has bound. If it writes nothing: the revision up to
	// which the answer has all writes.
	Revision uint64
}

// TxnResult is the result of one operation.
type TxnResult struct {
	// What an OpGet has read; nil: the key is missing.
	Entry *Entry
	// Whether the key of an OpDelete was bound before.
	Existed bool
}

// check returns an error if the transaction cannot be sent.
func (t Txn) check() error {
	for _, condition := range t.If {
		if err := checkName(condition.proto.GetLock().GetName()); err != nil {
			return err
		}
	}
	return nil
}

func (t Txn) isWrite() bool {
	for _, branch := range [][]Operation{t.Then, t.Else} {
		for _, operation := range branch {
			if operation.isWrite() {
				return true
			}
		}
	}
	return false
}

func (t Txn) request(session *kvpb.Session, cluster *uint64) *kvpb.TxnRequest {
	request := &kvpb.TxnRequest{
		Success: protosOf(t.Then), Failure: protosOf(t.Else), Session: session, ClusterId: cluster,
	}
	for _, condition := range t.If {
		request.Conditions = append(request.Conditions, condition.proto)
	}
	return request
}

func protosOf(operations []Operation) []*kvpb.Operation {
	var protos []*kvpb.Operation
	for _, operation := range operations {
		protos = append(protos, operation.proto)
	}
	return protos
}

// outcome returns what an answer says. Nothing is known of a write whose answer makes no sense.
func (t Txn) outcome(answer *kvpb.TxnResponse) (TxnOutcome, error) {
	branch := t.Else
	if answer.GetSucceeded() {
		branch = t.Then
	}
	outcome := TxnOutcome{Succeeded: answer.GetSucceeded(), Revision: answer.GetRevision()}
	if len(branch) != len(answer.GetResults()) {
		return outcome, astray()
	}
	for i, result := range answer.GetResults() {
		asked := branch[i].proto
		fits := asked.GetSet() != nil && result.GetSet() != nil || asked.GetGet() != nil && result.GetGet() != nil ||
			asked.GetDelete() != nil && result.GetDelete() != nil
		if !fits {
			return outcome, astray()
		}
		outcome.Results = append(outcome.Results, TxnResult{
			Entry: optionalEntry(result.GetGet().GetEntry()), Existed: result.GetDelete().GetExisted(),
		})
	}
	return outcome, nil
}

func astray() *fault {
	return untyped(codes.Internal, "the node answered something else than it was asked for")
}

// Txn carries out a transaction. That a condition does not hold is an outcome, and no error.
//
// The transaction may have been applied if the error says [AppliedUnknown].
func (i *issuer) Txn(ctx context.Context, txn Txn) (TxnOutcome, error) {
	if err := txn.check(); err != nil {
		return TxnOutcome{}, err
	}
	carryOut := func(ctx context.Context, n *node, session *kvpb.Session) (TxnOutcome, error) {
		answer, err := n.kv().Txn(ctx, txn.request(session, n.named()))
		if err != nil {
			return TxnOutcome{}, err
		}
		return txn.outcome(answer)
	}
	if txn.isWrite() {
		return write(ctx, i, carryOut)
	}
	if err := i.holds(); err != nil {
		return TxnOutcome{}, err
	}
	return call(ctx, i.caller, read, func(ctx context.Context, n *node) (TxnOutcome, error) {
		return carryOut(ctx, n, nil)
	})
}
