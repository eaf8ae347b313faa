package seshat

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/seshat-kv/seshat/clients/go/seshatpb/kvpb"
)

// A key that is read only to find the node that serves reads. It may have any value or none.
const probedKey = "\x00"

// The shortest timeout that says anything about a node that has served other calls lately: a call may have a
// deadline that no node can keep.
const shortestSilence = 100 * time.Millisecond

// repeat says whether a failed attempt may be repeated.
type repeat int

const (
	// Always: it changes nothing.
	read repeat = iota
	// Always: it has a number, or its effect is the same however often it is done.
	numbered
	// Only if it was surely not applied.
	once
)

// caller is who makes calls: a client, or a session of one cluster.
type caller struct {
	nodes *nodes
	// The cluster that its calls name; 0: that of the client.
	cluster uint64
	purpose purpose
	// The numbers of the session; nil: a write has none, and is not repeated if it may have been applied.
	numbers *numbers
}

// boundTo returns the same caller, whose calls name cluster even if another one takes its place.
func (c caller) boundTo(cluster uint64) caller {
	c.cluster = cluster
	return c
}

// over returns the same caller, whose calls use another connection.
func (c caller) over(p purpose) caller {
	c.purpose = p
	return c
}

// within returns ctx with the timeout of the client, unless it has a deadline.
func (c caller) within(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, c.nodes.timeout)
}

// ended returns why nothing goes on, if ctx has ended, after which message says what had not come, or the client is
// closed.
func (c caller) ended(ctx context.Context, message string) error {
	switch {
	case c.nodes.ctx.Err() != nil:
		return cancelled()
	case ctx.Err() != nil:
		return over(ctx, message)
	}
	return nil
}

// call makes a call to the leader until it is answered or the deadline of ctx has come: at the latest after the
// timeout of the client.
//
// It goes to the node that served last. If none is known, a search asks all nodes for a read first: a node that
// answers it leads, reaches a majority, and has a working connection, which keeps unknown outcomes rare. For the same
// reason a search goes ahead of a write that may not be sent twice, if the leader has not answered lately.
func call[T any](
	ctx context.Context, c caller, r repeat, make func(context.Context, *node) (T, error),
) (T, error) {
	var none T
	ctx, cancel := c.within(ctx)
	defer cancel()
	state := attempts{pause: c.nodes.backoff.min, timeout: c.nodes.attemptTimeout}
	for {
		leader, cluster, failure := c.leader(ctx, r, state.hint)
		if failure != nil {
			return none, state.ended(failure)
		}
		answer, f := attempt(ctx, c, r, leader, cluster, &state, make)
		if f == nil {
			return answer, nil
		}
		if failure := state.failed(ctx, c, r, leader, f); failure != nil {
			c.numbers.learn(failure)
			return none, failure
		}
	}
}

// attempts is what is known of the attempts of one call.
type attempts struct {
	pause   time.Duration
	timeout time.Duration
	// Whether one of them may have been applied.
	inDoubt bool
	// The leader that the last one was told of; empty: none.
	hint string
}

// attempt makes a call to one node, once.
func attempt[T any](
	ctx context.Context, c caller, r repeat, address string, cluster uint64, state *attempts,
	make func(context.Context, *node) (T, error),
) (T, *fault) {
	var none T
	inner, seen := traced(ctx)
	end, _ := ctx.Deadline()
	given := time.Until(end)
	if r != once {
		// A third at most, so that enough time is left for another node.
		given = min(state.timeout, given/3)
		var cancel context.CancelFunc
		inner, cancel = context.WithTimeout(inner, given)
		defer cancel()
	}
	n, err := c.nodes.node(c.purpose, address)
	if err != nil {
		return none, faultOf(inner, err, seen)
	}
	defer n.release()
	n.cluster = cluster
	answer, err := make(inner, n)
	if err == nil {
		c.nodes.served(address)
		return answer, nil
	}
	f := faultOf(inner, err, seen)
	if r == read {
		f = f.ofRead()
	}
	if !errors.Is(ctx.Err(), context.Canceled) {
		c.note(n, f, given)
		if c.purpose == forStreams && f.sendsElsewhere() {
			c.nodes.dialAnew(n)
		}
	}
	return none, f
}

// note updates what is known after a fault of a node, which had the time given to answer. How long the attempt took in
// the end depends on the load of this machine, too.
func (c caller) note(n *node, f *fault, given time.Duration) {
	if f.silent && given < shortestSilence {
		if heard, _ := c.nodes.known(c.nodes.trust); heard == n.address {
			return
		}
	}
	c.nodes.note(n, f)
}

// failed takes the fault of an attempt, and pauses before the next one. It returns the failure of the call if there is
// none.
func (a *attempts) failed(ctx context.Context, c caller, r repeat, address string, f *fault) *Error {
	a.inDoubt = a.inDoubt || f.applied == AppliedUnknown
	a.hint = f.leader()
	if errors.Is(ctx.Err(), context.Canceled) || c.nodes.ctx.Err() != nil {
		return a.ended(cancelled())
	}
	if !a.again(r, f) {
		return a.ended(f.ended(address))
	}
	pause := jittered(a.pause)
	if end, _ := ctx.Deadline(); time.Until(end) <= pause {
		return a.ended(tooLate(map[string]*fault{address: f}))
	}
	sleep(ctx, pause)
	a.pause = c.nodes.backoff.longer(a.pause)
	if f.silent {
		a.timeout *= 2
	}
	return nil
}

// again reports whether an attempt that failed may be repeated.
func (a *attempts) again(r repeat, f *fault) bool {
	switch {
	case r == once && f.applied == AppliedUnknown:
		return false
	// A session ends with its cluster.
	case r == numbered && f.detail.GetOtherCluster().GetSuccessor():
		return false
	}
	return f.retry == later
}

// ended returns the failure of the call, whose last attempt ended with failure.
func (a *attempts) ended(failure *Error) *Error {
	if a.inDoubt {
		return failure.inDoubt()
	}
	return failure
}

// leader returns the leader and the cluster that calls name. If none is known, or a call may be sent once only and the
// leader has not answered lately, a search finds it; the node at hint is among the first that it asks. All calls of a
// client wait for one search.
func (c caller) leader(ctx context.Context, r repeat, hint string) (string, uint64, *Error) {
	var age time.Duration
	if r == once {
		age = c.nodes.trust
	}
	named := func(cluster uint64) uint64 {
		if c.cluster != 0 {
			return c.cluster
		}
		return cluster
	}
	if address, cluster := c.nodes.known(age); address != "" {
		if ctx.Err() != nil {
			return "", 0, over(ctx, "the deadline has passed")
		}
		return address, named(cluster), nil
	}
	select {
	case c.nodes.searching <- struct{}{}:
		defer func() { <-c.nodes.searching }()
	case <-ctx.Done():
		if errors.Is(ctx.Err(), context.Canceled) {
			return "", 0, cancelled()
		}
		return "", 0, tooLate(nil)
	}
	if address, cluster := c.nodes.known(age); address != "" {
		return address, named(cluster), nil
	}
	address, cluster, err := c.search(ctx, hint)
	if err != nil {
		return "", 0, asError(err)
	}
	return address, named(cluster), nil
}

// search finds the leader.
func (c caller) search(ctx context.Context, hint string) (string, uint64, error) {
	last, _ := c.nodes.known(0)
	first := slices.DeleteFunc([]string{last, hint}, func(address string) bool { return address == "" })
	n, answer, err := find(ctx, question[*kvpb.GetResponse]{
		nodes: c.nodes, purpose: forCalls, first: first, also: c.nodes.connected(), ask: probe,
	})
	if err != nil {
		return "", 0, err
	}
	defer n.release()
	cluster := c.nodes.learn(answer.GetClusterId())
	c.nodes.found(n.address)
	return n.address, cluster, nil
}

// probe asks a node for a read whose value is not needed.
func probe(ctx context.Context, n *node) (*kvpb.GetResponse, error) {
	return n.kv().Get(ctx, &kvpb.GetRequest{Key: []byte(probedKey), ClusterId: n.named()})
}

// sorted returns the keys of a map in order.
func sorted[V any](all map[string]V) []string {
	return slices.Sorted(maps.Keys(all))
}
