package seshat

import (
	"context"
	"iter"
	"time"

	"github.com/seshat-kv/seshat/clients/go/seshatpb/kvpb"
	"github.com/seshat-kv/seshat/clients/go/seshatpb/lockpb"
)

// LockInfo is a lock that is held.
type LockInfo struct {
	Name   string
	Holder *Holder
	// How many claims wait.
	Waiting uint64
}

// Locks lists the locks that are held, in ascending order of their names, page by page. Each page is of one moment.
func (c *Client) Locks(ctx context.Context) iter.Seq2[LockInfo, error] {
	return func(yield func(LockInfo, error) bool) {
		for after, more := "", true; more; {
			page, err := call(ctx, c.caller, read, func(
				ctx context.Context, n *node,
			) (*lockpb.ListLocksResponse, error) {
				return n.locks().ListLocks(ctx, &lockpb.ListLocksRequest{After: after, ClusterId: n.named()})
			})
			if err != nil {
				yield(LockInfo{}, err)
				return
			}
			for _, lock := range page.GetLocks() {
				after = lock.GetName()
				info := LockInfo{Name: after, Holder: holderOf(lock.GetHolder()), Waiting: lock.GetWaiting()}
				if !yield(info, nil) {
					return
				}
			}
			more = page.GetMore()
		}
	}
}

// SessionInfo is a session that lives.
type SessionInfo struct {
	ID uint64
	// Its TTL, and how much of that is left.
	TTL, Remaining time.Duration
	// How many keys it owns.
	OwnedKeys uint64
}

// LivingSessions lists the sessions that live, in ascending order of their ids, page by page. Each page is of one
// moment.
func (c *Client) LivingSessions(ctx context.Context) iter.Seq2[SessionInfo, error] {
	return func(yield func(SessionInfo, error) bool) {
		for after, more := uint64(0), true; more; {
			page, err := call(ctx, c.caller, read, func(
				ctx context.Context, n *node,
			) (*kvpb.ListSessionsResponse, error) {
				return n.kv().ListSessions(ctx, &kvpb.ListSessionsRequest{AfterClientId: after, ClusterId: n.named()})
			})
			if err != nil {
				yield(SessionInfo{}, err)
				return
			}
			for _, session := range page.GetSessions() {
				after = session.GetClientId()
				info := SessionInfo{
					ID: after, TTL: session.GetTtl().AsDuration(), Remaining: session.GetRemaining().AsDuration(),
					OwnedKeys: session.GetOwnedKeys(),
				}
				if !yield(info, nil) {
					return
				}
			}
			more = page.GetMore()
		}
	}
}
