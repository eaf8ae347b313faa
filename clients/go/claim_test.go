package seshat

import (
	"context"
	"testing"
	"time"

	"github.com/seshat-kv/seshat/clients/go/seshatpb/lockpb"
)

// scriptedLocks is a node at which every claim waits as long as its test wants.
type scriptedLocks struct {
	lockpb.UnimplementedLockServiceServer
	questions chan stateQuestion
}

// stateQuestion is a question for the state of a claim.
type stateQuestion struct {
	claim uint64
	reply chan *lockpb.AwaitResponse
}

func (s *scriptedLocks) Acquire(context.Context, *lockpb.AcquireRequest) (*lockpb.AcquireResponse, error) {
	return &lockpb.AcquireResponse{Result: &lockpb.AcquireResponse_Waiting{Waiting: &lockpb.Waiting{}}}, nil
}

func (s *scriptedLocks) Await(_ context.Context, asked *lockpb.AwaitRequest) (*lockpb.AwaitResponse, error) {
	question := stateQuestion{asked.GetClaim(), make(chan *lockpb.AwaitResponse)}
	s.questions <- question
	return <-question.reply, nil
}

func TestClaimsTakeTurnsWhereMoreWaitThanAreAskedForAtOnce(t *testing.T) {
	const claims = 5
	locks := &scriptedLocks{questions: make(chan stateQuestion)}
	node := start(t, &scripted{locks: locks})
	two := func(o *options) { o.awaits = 2 }
	client := clientOf(t, []Option{two, WithTimeout(time.Hour), WithAttemptTimeout(time.Hour)}, node.address)
	session, err := client.OpenLivingSession(t.Context(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	ends := make(chan error)
	for range claims {
		go func() {
			_, err := session.Lock(t.Context(), "k")
			ends <- err
		}()
	}
	waiting := &lockpb.AwaitResponse{Result: &lockpb.AwaitResponse_Waiting{Waiting: &lockpb.Waiting{}}}
	// It keeps its place, and all others take turns at the other one.
	first := <-locks.questions
	for seen := map[uint64]struct{}{first.claim: {}}; len(seen) < claims; {
		question := <-locks.questions
		seen[question.claim] = struct{}{}
		if taken := len(client.nodes.awaits); taken != 2 {
			t.Errorf("%d places are taken", taken)
		}
		question.reply <- waiting
	}
	held := &lockpb.AwaitResponse{Result: &lockpb.AwaitResponse_Held{Held: &lockpb.Held{Token: 1}}}
	first.reply <- held
	for range claims - 1 {
		(<-locks.questions).reply <- held
	}
	for range claims {
		if err := <-ends; err != nil {
			t.Error(err)
		}
	}
	if taken := len(client.nodes.awaits); taken != 0 {
		t.Errorf("%d places are taken at the end", taken)
	}
}

func TestAClaimThatHasNoTurnEndsWithItsCaller(t *testing.T) {
	none := func(o *options) { o.awaits = 0 }
	client := clientOf(t, []Option{none}, start(t, &scripted{}).address)
	session, err := client.OpenLivingSession(t.Context(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), shortest)
	defer cancel()
	_, err = (&claim{session: session}).granted(ctx, asked{})
	isFailure(t, err, KindDeadline, AppliedNo, "")
}
