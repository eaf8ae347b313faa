package seshat

import (
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/seshat-kv/seshat/clients/go/seshatpb/kvpb"
)

func TestALifetimeIsAFieldOfItsOperation(t *testing.T) {
	set := OpSet("k", nil, TTL(1500*time.Millisecond)).proto.GetSet()
	if !proto.Equal(set.GetTtl(), &durationpb.Duration{Seconds: 1, Nanos: 5e8}) {
		t.Error(set)
	}
	if OpSet("k", nil, TTL(time.Second), KeepLifetime()).proto.GetSet().GetKeep() == nil {
		t.Error("the last one counts")
	}
	// In a pipeline it is a transaction, because a SetRequest has no lifetime.
	if OpSet("k", nil).command(nil).GetSet() == nil || OpSet("k", nil, KeepLifetime()).command(nil).GetTxn() == nil {
		t.Error("the wrong command")
	}
}

func TestAnEmptyValueIsAValue(t *testing.T) {
	if value, ok := KeyValue("k", nil).proto.GetKey().Test.(*kvpb.KeyCondition_Value); !ok || value.Value == nil {
		t.Error("the condition is lost")
	}
	if !foundOf(&kvpb.GetResponse{Value: []byte{}}).Exists || foundOf(&kvpb.GetResponse{}).Exists {
		t.Error("missing and empty are alike")
	}
}

func TestOnlyAnAnswerToWhatWasAskedCounts(t *testing.T) {
	txn := Txn{Then: []Operation{OpSet("k", nil), OpGet("k"), OpDelete("k")}, Else: []Operation{OpGet("k")}}
	set := &kvpb.OperationResult{Result: &kvpb.OperationResult_Set{Set: &kvpb.SetResult{}}}
	get := &kvpb.OperationResult{Result: &kvpb.OperationResult_Get{Get: &kvpb.GetResult{}}}
	removal := &kvpb.OperationResult{Result: &kvpb.OperationResult_Delete{Delete: &kvpb.DeleteResult{Existed: true}}}
	good := &kvpb.TxnResponse{Succeeded: true, Revision: 9, Results: []*kvpb.OperationResult{set, get, removal}}
	outcome, err := txn.outcome(good)
	if err != nil || !outcome.Succeeded || !outcome.Results[2].Existed || outcome.Results[1].Entry != nil {
		t.Error(outcome, err)
	}
	for _, results := range [][]*kvpb.OperationResult{{set, get}, {get, set, removal}, {set, get, {}}} {
		_, err := txn.outcome(&kvpb.TxnResponse{Succeeded: true, Results: results})
		if f, ok := err.(*fault); !ok || f.applied != AppliedUnknown {
			t.Errorf("%v: %v", results, err)
		}
	}
	if !txn.isWrite() || (Txn{Then: []Operation{OpGet("k")}}).isWrite() {
		t.Error("a write is one that may write")
	}
}

func TestTheWritesOfABatchHaveItsNumbers(t *testing.T) {
	n := newNumbers(7, nil)
	given := give(t, n, 2)
	b := &batch{commands: []Command{OpSet("a", nil), OpGet("a"), OpDelete("a")}, numbers: given, session: n, id: 3}
	request := b.request(testCluster)
	numbers := []uint64{
		request.Commands[0].GetSet().GetSession().GetSequence(),
		request.Commands[2].GetDelete().GetSession().GetSequence(),
	}
	if numbers[0] != 1 || numbers[1] != 2 || request.GetId() != 3 || request.GetClusterId() != testCluster {
		t.Error(request)
	}
}

func TestACommandWithoutAnAnswerFails(t *testing.T) {
	replies := func(f *fault, sent time.Time, inDoubt bool) []Reply {
		b := &batch{
			commands: []Command{OpSet("a", nil), OpGet("a")}, sent: sent, inDoubt: inDoubt, release: func() {},
			answers: &Answers{done: make(chan struct{})},
		}
		b.fail("kv-1:6379", f)
		return b.answers.replies
	}
	for _, each := range []struct {
		sent    time.Time
		inDoubt bool
		applied Applied
	}{{time.Unix(1, 0), false, AppliedUnknown}, {time.Time{}, false, AppliedNo}, {time.Time{}, true, AppliedUnknown}} {
		all := replies(broken("x"), each.sent, each.inDoubt)
		isFailure(t, all[0].Err, KindUnreachable, each.applied, "")
		isFailure(t, all[1].Err, KindUnreachable, AppliedNo, "")
	}
}
