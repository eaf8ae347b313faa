package seshat

import (
	"context"
	"errors"
	"sync"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/seshat-kv/seshat/clients/go/seshatpb/lockpb"
)

// claim is one Acquire of a living session. The Acquire is repeated under its number until it is answered, and a
// Release uses the number up, so a copy of the Acquire that arrives later claims nothing. A caller that gives up on
// the way may have a claim nevertheless; so it is released then, too.
type claim struct {
	session *LivingSession
	name    string
	number  uint64
	// Whether the session is used for nothing else, and ends with the claim.
	isAlone bool

	mu sync.Mutex
	// Whether it may still be there, and was not released.
	isOpen bool
}

// asked is what is claimed.
type asked struct {
	name  string
	value []byte
	ttl   time.Duration
	// Nil: the claim waits as long as its session lives.
	maxWait *time.Duration
}

// outcome is what has come of a claim.
type outcome struct {
	// 0: it does not hold the lock.
	token uint64
	// Who holds it, if the claim was not to wait.
	holder *Holder
}

// claimIn claims a lock, and waits until the claim holds it or has ended. A claim that fails is released.
func claimIn(ctx context.Context, session *LivingSession, isAlone bool, a asked) (*claim, outcome, error) {
	// Ends with the session.
	inner, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(session.client.nodes.ctx, cancel)()
	go func() {
		select {
		case <-session.Lost():
			cancel()
		case <-inner.Done():
		}
	}()
	c := &claim{session: session, name: a.name, isAlone: isAlone, isOpen: isAlone}
	got, err := c.make(inner, a)
	if err == nil && got.token == 0 {
		c.releaseLater()
		return nil, got, nil
	}
	// The end of the session may have cancelled the call.
	if why := session.WhyLost(); why != "" && ctx.Err() == nil && (err == nil || asError(err).Kind == KindCancelled) {
		err = sessionLost(why)
	}
	if err != nil {
		c.releaseLater()
		return nil, outcome{}, err
	}
	return c, got, nil
}

func (c *claim) make(ctx context.Context, a asked) (outcome, error) {
	got, err := c.acquire(ctx, a)
	if err == nil && got.GetWaiting() != nil {
		return c.granted(ctx, a)
	}
	if err != nil {
		return outcome{}, err
	}
	switch {
	case got.GetHeld() != nil:
		return outcome{token: got.GetHeld().GetToken()}, nil
	case got.GetOccupied() != nil:
		c.ended()
		return outcome{holder: holderOf(got.GetOccupied().GetHolder())}, nil
	}
	return c.gone(a)
}

// gone: the claim has ended.
func (c *claim) gone(a asked) (outcome, error) {
	c.ended()
	if a.maxWait == nil {
		// Only the end of its session ends such a claim.
		c.session.lease.lose(Ended)
		return outcome{}, sessionLost(Ended)
	}
	return outcome{}, nil
}

// ended notes that there is nothing to release, but perhaps a session.
func (c *claim) ended() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.isOpen = c.isAlone
}

func (c *claim) acquire(ctx context.Context, a asked) (*lockpb.AcquireResponse, error) {
	caller := c.session.bound()
	ctx, cancel := caller.within(ctx)
	defer cancel()
	numbers := c.session.numbers
	given, err := numbers.next(ctx, 1)
	if err != nil {
		return nil, err
	}
	// The claim goes on, and further writes of the session need the place of its number.
	defer numbers.done(given)
	c.number = given[0]
	answer, err := call(ctx, caller, numbered, func(ctx context.Context, n *node) (*lockpb.AcquireResponse, error) {
		request := &lockpb.AcquireRequest{
			Name: a.name, Session: numbers.stamp(c.number), Value: a.value, ClusterId: n.named(),
		}
		if a.maxWait != nil {
			request.MaxWait = durationpb.New(*a.maxWait)
		}
		answer, err := n.locks().Acquire(ctx, request)
		if err == nil && answer.GetResult() == nil {
			return nil, astray()
		}
		return answer, err
	})
	failure := asError(err)
	c.mu.Lock()
	c.isOpen = c.isAlone || failure == nil || failure.Applied == AppliedUnknown
	c.mu.Unlock()
	return answer, err
}

// granted waits until the claim holds the lock or has ended. An outage is no reason to give up: the claim waits at the
// cluster.
func (c *claim) granted(ctx context.Context, a asked) (outcome, error) {
	for {
		state, err := c.state(ctx)
		switch failure := asError(err); {
		case ctx.Err() != nil:
			return outcome{}, over(ctx, "the lock was not free in time")
		case err != nil && !failure.isOutage():
			return outcome{}, err
		case err != nil || state.GetWaiting() != nil:
		case state.GetHeld() != nil:
			return outcome{token: state.GetHeld().GetToken()}, nil
		default:
			return c.gone(a)
		}
	}
}

// state asks for the state of the claim when its turn has come.
func (c *claim) state(ctx context.Context) (*lockpb.AwaitResponse, error) {
	awaits := c.session.nodes.awaits
	select {
	case awaits <- struct{}{}:
		defer func() { <-awaits }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	// Waiting calls have a connection of their own, where they delay no renewal.
	return call(ctx, c.session.bound().over(forStreams), numbered, c.await)
}

// await returns the state of the claim as soon as it waits no more, or when the time for this attempt is over.
func (c *claim) await(ctx context.Context, n *node) (*lockpb.AwaitResponse, error) {
	state, err := n.locks().Await(ctx, &lockpb.AwaitRequest{
		Name: c.name, ClientId: c.session.ID(), Claim: c.number, ClusterId: n.named(),
	})
	if err == nil && state.GetResult() == nil {
		return nil, astray()
	}
	return state, err
}

// take returns whether the claim is to be released now.
func (c *claim) take() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	wasOpen := c.isOpen
	c.isOpen = false
	return wasOpen
}

// release releases the claim. If that is not acknowledged in time, it goes on in the background.
func (c *claim) release(ctx context.Context) error {
	if !c.take() {
		return nil
	}
	if c.isAlone {
		return c.session.Close(ctx)
	}
	err := c.releaseOnce(ctx)
	if asError(err).goesOn() {
		c.session.client.farewell(c.releaseAtLast)
	}
	return err
}

// releaseLater releases in the background what may have been claimed.
func (c *claim) releaseLater() {
	switch {
	case !c.take() || c.session.WhyLost() != "":
	case c.isAlone:
		c.session.closeLater()
	default:
		c.session.client.farewell(c.releaseAtLast)
	}
}

func (c *claim) releaseOnce(ctx context.Context) error {
	if err := c.session.holds(); err != nil {
		return err
	}
	_, err := call(ctx, c.session.bound(), numbered, func(
		ctx context.Context, n *node,
	) (*lockpb.ReleaseResponse, error) {
		return n.locks().Release(ctx, &lockpb.ReleaseRequest{
			Name: c.name, Session: c.session.numbers.stamp(c.number), ClusterId: n.named(),
		})
	})
	return err
}

// releaseAtLast releases the claim, however long that takes, unless the session ends with it.
func (c *claim) releaseAtLast(ctx context.Context) {
	pause := c.session.nodes.backoff.min
	for ctx.Err() == nil {
		var failure *Error
		if err := c.releaseOnce(ctx); !errors.As(err, &failure) || !failure.isOutage() {
			return
		}
		sleep(ctx, jittered(pause))
		pause = c.session.nodes.backoff.longer(pause)
	}
}
