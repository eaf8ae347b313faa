package seshat

import (
	"context"
	"sync"

	"github.com/seshat-kv/seshat/clients/go/seshatpb/kvpb"
)

// Numbers that may be outstanding: a node refuses more.
const maxOutstanding = 1024

// numbers gives the numbers of one session's writes, first come, first served. A number is given once. It is
// outstanding until it is done: its write was answered, or its caller has given up. Then a node refuses a copy of
// that write that is still in flight.
type numbers struct {
	id uint64
	// Of the session, if it lives.
	lease *lease
	// Held by the first caller in the queue; the others wait for it in order.
	turn chan struct{}

	mu          sync.Mutex
	following   uint64
	outstanding map[uint64]struct{}
	// A lower bound of the outstanding ones.
	lowest uint64
	// Closed when a number is done.
	moved chan struct{}
}

func newNumbers(id uint64, lease *lease) *numbers {
	return &numbers{
		id: id, lease: lease, turn: make(chan struct{}, 1), following: 1, outstanding: map[uint64]struct{}{},
		lowest: 1, moved: make(chan struct{}),
	}
}

// holds returns an error if the session is lost. One that does not live never is.
func (n *numbers) holds() error {
	if n.lease == nil {
		return nil
	}
	return n.lease.holds()
}

// learn notes that a call has ended with failure: that may tell that the session is lost.
func (n *numbers) learn(failure *Error) {
	if n == nil || n.lease == nil {
		return
	}
	// An owner that does not live is another session.
	if failure.isSuccessor() || failure.Detail.GetSessionExpired().GetClientId() == n.id {
		n.lease.lose(Ended)
	}
}

// firstOutstanding returns the lowest number that is outstanding, or else the one that follows.
func (n *numbers) firstOutstanding() uint64 {
	for n.lowest < n.following {
		if _, ok := n.outstanding[n.lowest]; ok {
			break
		}
		n.lowest++
	}
	return n.lowest
}

// stamp returns the session field of a request about the write with this number, if it is sent now. That write may
// have been answered.
func (n *numbers) stamp(number uint64) *kvpb.Session {
	n.mu.Lock()
	defer n.mu.Unlock()
	return &kvpb.Session{
		ClientId: n.id, Sequence: number, FirstOutstanding: min(n.firstOutstanding(), number),
	}
}

// next returns the next count numbers. It waits until so many may be outstanding, and until every earlier caller has
// its numbers or waits no longer.
func (n *numbers) next(ctx context.Context, count int) ([]uint64, error) {
	const full = "too many writes of the session are outstanding"
	select {
	case n.turn <- struct{}{}:
		defer func() { <-n.turn }()
	case <-ctx.Done():
		return nil, over(ctx, full)
	}
	for {
		if err := n.holds(); err != nil {
			return nil, err
		}
		given, moved := n.tryNext(uint64(count))
		if moved == nil {
			return given, nil
		}
		select {
		case <-moved:
		case <-n.lost():
		case <-ctx.Done():
			return nil, over(ctx, full)
		}
	}
}

func (n *numbers) lost() <-chan struct{} {
	if n.lease == nil {
		return nil
	}
	return n.lease.lost
}

// tryNext returns the numbers, or what to wait for.
func (n *numbers) tryNext(count uint64) (given []uint64, moved <-chan struct{}) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.following+count > n.firstOutstanding()+maxOutstanding {
		return nil, n.moved
	}
	for range count {
		given = append(given, n.following)
		n.outstanding[n.following] = struct{}{}
		n.following++
	}
	return given, nil
}

// done ends numbers.
func (n *numbers) done(ended []uint64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, number := range ended {
		delete(n.outstanding, number)
	}
	close(n.moved)
	n.moved = make(chan struct{})
}
