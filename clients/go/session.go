package seshat

import (
	"context"
	"math/rand/v2"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/seshat-kv/seshat/clients/go/seshatpb/kvpb"
)

// Session numbers its writes: each is sent again under its number until it is answered or its deadline has passed, and
// is applied once. It is safe for concurrent use. Up to 1024 writes may be in flight; a further one waits.
//
// It needs no renewal. When the cluster holds too many sessions, it drops the least recently used ones; a session
// also ends with its cluster. [Error.SessionEnded] tells: open another one.
type Session struct {
	issuer
}

// OpenSession opens a session.
func (c *Client) OpenSession(ctx context.Context) (*Session, error) {
	opened, err := c.open(ctx, 0)
	if err != nil {
		return nil, err
	}
	return c.sessionOf(opened, nil), nil
}

func (c *Client) sessionOf(o opened, l *lease) *Session {
	caller := c.caller
	caller.numbers = newNumbers(o.id, l)
	return &Session{issuer{caller: caller, home: o.cluster}}
}

// ID returns the id of the session, which the client has drawn at random.
func (s *Session) ID() uint64 { return s.numbers.id }

// bound returns the caller of the session's cluster.
func (s *Session) bound() caller { return s.boundTo(s.home) }

// opened is a session that was opened.
type opened struct {
	id      uint64
	cluster uint64
	// When the request was sent.
	sent moment
	ttl  time.Duration
}

// open opens a session; ttl 0: one that does not live. A session that a lost attempt has opened does no harm, so the
// call is repeated like a read.
func (c *Client) open(ctx context.Context, ttl time.Duration) (opened, error) {
	return call(ctx, c.caller, read, func(ctx context.Context, n *node) (opened, error) {
		// A late copy of an attempt must not open a session again that has expired meanwhile.
		made := opened{id: rand.Uint64N(1<<64-1) + 1, cluster: n.cluster, sent: c.nodes.clock()}
		request := &kvpb.OpenSessionRequest{ClientId: made.id, ClusterId: n.named()}
		if ttl != 0 {
			request.Ttl = durationpb.New(ttl)
		}
		answer, err := n.kv().OpenSession(ctx, request)
		if err != nil {
			return made, err
		}
		if ttl != 0 && answer.GetTtl() == nil {
			return made, untyped(codes.Unimplemented, "this node runs an older version, which knows no living sessions")
		}
		made.ttl = answer.GetTtl().AsDuration()
		return made, nil
	})
}
