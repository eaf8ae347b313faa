package seshat

import (
	"context"
	"time"

	"github.com/seshat-kv/seshat/clients/go/seshatpb/kvpb"
)

// LivingSession is a [Session] that the client renews, and that the cluster ends when no renewal has come for its TTL.
// It may own keys ([OwnedBy]) and hold locks, which end with it.
//
// # What may be believed
//
// The session is lost for the client when 90 % of the TTL have passed since it sent the last renewal that was
// answered. Until then it lives in the cluster, as long as the rates of the clocks differ by at most 5 %. From then on
// every call of it ends with [KindSessionLost], and nothing brings it back: end what relied on it, and open another
// one. A call that began before may still be answered, and the answer is true.
//
// Time counts while the machine is suspended, too, on Linux and macOS. On others it does not: there, do not rely on
// the session after a suspension.
type LivingSession struct {
	*Session
	client *Client
	lease  *lease
}

// OpenLivingSession opens a living session. The TTL is 2 s to 1 h; 10 s is a good choice, and below 5 s an election
// may cost the session. It is renewed until it is closed or lost, or the client closed.
func (c *Client) OpenLivingSession(ctx context.Context, ttl time.Duration) (*LivingSession, error) {
	if ttl <= 0 {
		return nil, invalid("the TTL of a living session is at least 2 s")
	}
	opened, err := c.open(ctx, ttl)
	if err != nil {
		return nil, err
	}
	l := newLease(opened.ttl, c.nodes.clock, opened.sent)
	session := &LivingSession{Session: c.sessionOf(opened, l), client: c, lease: l}
	c.mu.Lock()
	c.living[session] = struct{}{}
	c.mu.Unlock()
	c.goes(session.look)
	c.goes(session.renew)
	return session, nil
}

// TTL returns the TTL, as the cluster has granted it.
func (s *LivingSession) TTL() time.Duration { return s.lease.ttl }

// Lost returns a channel that is closed when the session is lost. After a suspension of the machine it may take a
// second to tell.
func (s *LivingSession) Lost() <-chan struct{} { return s.lease.lost }

// WhyLost returns why the session is lost; empty: it is not. It reads the clocks: it is right also when the program
// has just been stopped or suspended.
func (s *LivingSession) WhyLost() Lost { return s.lease.state() }

// Close ends the session, and removes the keys that it owns. It is lost at once. If the cluster does not acknowledge
// that in time, also because ctx has ended before, the client goes on in the background; the session ends when its TTL
// has passed at the latest.
func (s *LivingSession) Close(ctx context.Context) error {
	if err := s.lease.holds(); err != nil {
		return err
	}
	// The program has to know it before the cluster does.
	s.lease.lose(Closed)
	s.forget()
	err := s.end(ctx)
	if asError(err).goesOn() {
		s.closeLater()
	}
	return err
}

// closeLater closes the session in the background.
func (s *LivingSession) closeLater() {
	s.lease.lose(Closed)
	s.client.farewell(func(ctx context.Context) {
		ctx, cancel := context.WithTimeout(ctx, s.lease.ttl)
		defer cancel()
		_ = s.end(ctx)
	})
}

func (s *LivingSession) forget() {
	s.client.mu.Lock()
	defer s.client.mu.Unlock()
	delete(s.client.living, s)
}

func (s *LivingSession) end(ctx context.Context) error {
	closeSession := func(ctx context.Context, n *node) (*kvpb.CloseSessionResponse, error) {
		return n.kv().CloseSession(ctx, &kvpb.CloseSessionRequest{ClientId: s.ID(), ClusterId: n.named()})
	}
	_, err := call(ctx, s.bound(), numbered, closeSession)
	// A cluster that was recovered has the session too, until its TTL has passed there.
	if failure := asError(err); failure != nil && failure.isSuccessor() {
		_, err = call(ctx, s.boundTo(0), numbered, closeSession)
	}
	return err
}

// look reads the clocks until the session is lost.
func (s *LivingSession) look(ctx context.Context) {
	defer s.forget()
	for s.lease.state() == "" {
		timer := time.NewTimer(min(s.lease.left(s.lease.span()), look))
		select {
		case <-timer.C:
		case <-s.lease.lost:
		case <-ctx.Done():
			s.lease.lose(Closed)
		}
		timer.Stop()
	}
}

// renew renews the session until it is lost.
func (s *LivingSession) renew(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		defer cancel()
		select {
		case <-s.lease.lost:
		case <-ctx.Done():
		}
	}()
	pause := s.nodes.backoff.min
	for {
		for left := s.lease.left(s.lease.ttl / 3); left > 0; left = s.lease.left(s.lease.ttl / 3) {
			if sleep(ctx, min(left, look)); ctx.Err() != nil {
				return
			}
		}
		err := s.keepAlive(ctx)
		switch failure := asError(err); {
		case err == nil:
			pause = s.nodes.backoff.min
		case ctx.Err() != nil:
			return
		case failure.SessionEnded():
			s.lease.lose(Ended)
			return
		default:
			sleep(ctx, jittered(pause))
			pause = s.nodes.backoff.longer(pause)
		}
	}
}

func (s *LivingSession) keepAlive(ctx context.Context) error {
	ctx, cancel := context.WithDeadline(ctx, s.lease.end())
	defer cancel()
	sent, err := call(ctx, s.bound(), numbered, func(ctx context.Context, n *node) (moment, error) {
		sent := s.lease.clock()
		_, err := n.kv().KeepAlive(ctx, &kvpb.KeepAliveRequest{ClientId: s.ID(), ClusterId: n.named()})
		return sent, err
	})
	if err == nil {
		s.lease.renew(sent)
	}
	return err
}
