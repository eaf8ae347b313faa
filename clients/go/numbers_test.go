package seshat

import (
	"context"
	"testing"
	"time"

	"github.com/seshat-kv/seshat/clients/go/seshatpb/kvpb"
)

func give(t *testing.T, n *numbers, count int) []uint64 {
	t.Helper()
	given, err := n.next(context.Background(), count)
	if err != nil {
		t.Fatal(err)
	}
	return given
}

func TestASessionMovesPastWritesWithoutAWaitingCaller(t *testing.T) {
	n := newNumbers(7, nil)
	given := give(t, n, 3)
	check := func(number, first uint64) {
		t.Helper()
		stamp := n.stamp(number)
		if stamp.GetClientId() != 7 || stamp.GetSequence() != number || stamp.GetFirstOutstanding() != first {
			t.Error(stamp)
		}
	}
	check(given[1], 1)
	n.done(given[1:2])
	check(given[2], 1)
	n.done(given[:1])
	check(given[2], 3)
	n.done(given[2:])
	// A Release is stamped with a number that was answered.
	check(given[1], 2)
	if next := give(t, n, 1)[0]; next != 4 {
		t.Errorf("%d", next)
	}
	check(4, 4)
}

func TestNoMoreAreOutstandingThanANodeAccepts(t *testing.T) {
	n := newNumbers(7, nil)
	given := give(t, n, maxOutstanding)
	// The last number is done, but the first is not: no further one may follow.
	n.done(given[maxOutstanding-1:])
	if more, moved := n.tryNext(1); moved == nil {
		t.Fatal(more)
	}
	waiting := make(chan uint64)
	go func() { waiting <- give(t, n, 1)[0] }()
	n.done(given[:1])
	if number := <-waiting; number != maxOutstanding+1 {
		t.Error(number)
	}
}

func TestTheWaitForANumberEnds(t *testing.T) {
	l, _ := leaseAt()
	n := newNumbers(7, l)
	give(t, n, maxOutstanding)
	ctx, cancel := context.WithDeadline(context.Background(), time.Unix(0, 0))
	defer cancel()
	if _, err := n.next(ctx, 1); asError(err).Kind != KindDeadline || asError(err).Applied != AppliedNo {
		t.Error(err)
	}
	failed := make(chan error)
	go func() {
		_, err := n.next(context.Background(), 1)
		failed <- err
	}()
	l.lose(Ended)
	if err := <-failed; asError(err).Kind != KindSessionLost {
		t.Error(err)
	}
}

func TestASessionIsLostWhenANodeSaysThatItHasEnded(t *testing.T) {
	expired := func(id uint64) *kvpb.ErrorDetail {
		session := &kvpb.SessionExpired{ClientId: id}
		return &kvpb.ErrorDetail{Reason: &kvpb.ErrorDetail_SessionExpired{SessionExpired: session}}
	}
	recovered := func(successor bool) *kvpb.ErrorDetail {
		other := &kvpb.OtherCluster{ClusterId: 9, Successor: successor}
		return &kvpb.ErrorDetail{Reason: &kvpb.ErrorDetail_OtherCluster{OtherCluster: other}}
	}
	for _, each := range []struct {
		detail *kvpb.ErrorDetail
		why    Lost
	}{
		{expired(7), Ended}, {recovered(true), Ended},
		// The owner of a key is another session, and a strange cluster is none of its business.
		{expired(8), ""}, {recovered(false), ""}, {nil, ""},
	} {
		l, _ := leaseAt()
		newNumbers(7, l).learn(&Error{Detail: each.detail})
		if why := l.state(); why != each.why {
			t.Errorf("%v: %q", each.detail, why)
		}
	}
	newNumbers(7, nil).learn(&Error{Detail: expired(7)})
}
