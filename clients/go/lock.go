package seshat

import (
	"context"
	"time"
	"unicode/utf8"

	"github.com/seshat-kv/seshat/clients/go/seshatpb/lockpb"
)

// The TTL of the session that a lock has for itself, unless the program wants another one.
const lockTTL = 10 * time.Second

// Lock is a lock that this client holds, until it is released or its session is lost.
//
// # What may be believed
//
// Until [Lock.Lost] tells, no other claim holds the lock, as long as the rates of the clocks differ by at most 5 %:
// see [LivingSession]. But a program may be stopped at any moment, and a message may be on its way for long. So what
// must never be done by two holders needs the [Lock.Token]: a write to Seshat with [IfHeld] or [LockHeld], which takes
// effect only if the lock is held at that place in the order of all writes; or a request to another resource that
// refuses a token which is lower than the highest that it has seen.
type Lock struct {
	claim *claim
	token uint64
}

// Name returns the name of the lock.
func (l *Lock) Name() string { return l.claim.name }

// Token returns the fencing token: every later holder of the lock has a higher one, also after a loss of all data.
func (l *Lock) Token() uint64 { return l.token }

// Session returns the session that holds the lock.
func (l *Lock) Session() *LivingSession { return l.claim.session }

// Lost returns a channel that is closed when the lock is lost, because its session is.
func (l *Lock) Lost() <-chan struct{} { return l.claim.session.Lost() }

// WhyLost returns why the lock is lost; empty: it is not. It reads the clocks.
func (l *Lock) WhyLost() Lost { return l.claim.session.WhyLost() }

// Release releases the lock. The next claim holds it when this returns without an error. Otherwise, also if ctx has
// ended before, the release goes on in the background. Releasing it again does nothing.
func (l *Lock) Release(ctx context.Context) error { return l.claim.release(ctx) }

// Leadership is the lock of an election that this client has won.
type Leadership struct {
	*Lock
}

// Resign ends the leadership: see [Lock.Release].
func (l *Leadership) Resign(ctx context.Context) error { return l.Release(ctx) }

// LockAttempt is what has come of an attempt to acquire a lock. Not to get it is an outcome, and no error.
type LockAttempt struct {
	// The lock; nil: it was not free in time.
	Lock *Lock
	// Who holds it, if the attempt was not to wait.
	Holder *Holder
}

// Holder is the claim that holds a lock.
type Holder struct {
	// Its session, and its number in the session.
	Session, Claim uint64
	// Its fencing token.
	Token uint64
	// What it shows to others.
	Value []byte
}

func holderOf(holder *lockpb.Holder) *Holder {
	if holder == nil {
		return nil
	}
	return &Holder{
		Session: holder.GetClientId(), Claim: holder.GetClaim(), Token: holder.GetToken(), Value: holder.GetValue(),
	}
}

// LockOption is a setting of a call that acquires a lock.
type LockOption func(*asked)

// WithValue sets what others see of the holder, at most 4096 bytes: the name of this machine, for example.
func WithValue(value []byte) LockOption { return func(a *asked) { a.value = value } }

// WithLockTTL sets the TTL of the session that a lock of a [Client] has for itself: 2 s to 1 h, 10 s by default.
func WithLockTTL(ttl time.Duration) LockOption { return func(a *asked) { a.ttl = ttl } }

// Lock acquires the lock of that name, 1 to 256 bytes. One claim holds it at a time, and the others wait in the order
// in which they came. Each call is a claim of its own: a session that acquires a lock twice waits for itself.
//
// It waits until ctx ends or the session is lost; what may have been claimed is released in the background then.
// Changes of the leader cost nothing but time.
func (s *LivingSession) Lock(ctx context.Context, name string, options ...LockOption) (*Lock, error) {
	attempt, err := s.attempt(ctx, false, askedFor(name, options))
	return attempt.Lock, err
}

// TryLock is [LivingSession.Lock], but gives up after maxWait; 0: it does not wait. Time in which the cluster has no
// leader does not count.
func (s *LivingSession) TryLock(
	ctx context.Context, name string, maxWait time.Duration, options ...LockOption,
) (LockAttempt, error) {
	a := askedFor(name, options)
	a.maxWait = &maxWait
	return s.attempt(ctx, false, a)
}

// Elect stands for election under name, and waits until this client leads. Observers see value then: an address, for
// example. An election is the lock of that name, and its leader is the holder.
func (s *LivingSession) Elect(
	ctx context.Context, name string, value []byte, options ...LockOption,
) (*Leadership, error) {
	return elected(s.Lock(ctx, name, append(options, WithValue(value))...))
}

// Lock acquires the lock of that name with a living session of its own, which ends with the lock: see
// [LivingSession.Lock]. To hold several locks, or to own keys, open one session for all of them.
func (c *Client) Lock(ctx context.Context, name string, options ...LockOption) (*Lock, error) {
	attempt, err := c.attempt(ctx, askedFor(name, options))
	return attempt.Lock, err
}

// TryLock is [Client.Lock], but gives up after maxWait: see [LivingSession.TryLock].
func (c *Client) TryLock(
	ctx context.Context, name string, maxWait time.Duration, options ...LockOption,
) (LockAttempt, error) {
	a := askedFor(name, options)
	a.maxWait = &maxWait
	return c.attempt(ctx, a)
}

// Elect stands for election with a living session of its own, which ends with the leadership: see
// [LivingSession.Elect].
func (c *Client) Elect(
	ctx context.Context, name string, value []byte, options ...LockOption,
) (*Leadership, error) {
	return elected(c.Lock(ctx, name, append(options, WithValue(value))...))
}

func elected(lock *Lock, err error) (*Leadership, error) {
	if err != nil {
		return nil, err
	}
	return &Leadership{lock}, nil
}

// checkName returns an error if name cannot be sent: it is text, and not any bytes.
func checkName(name string) error {
	if !utf8.ValidString(name) {
		return invalid("the name of a lock is not UTF-8")
	}
	return nil
}

func askedFor(name string, options []LockOption) asked {
	a := asked{name: name, ttl: lockTTL}
	for _, set := range options {
		set(&a)
	}
	return a
}

func (c *Client) attempt(ctx context.Context, a asked) (LockAttempt, error) {
	if err := checkName(a.name); err != nil {
		return LockAttempt{}, err
	}
	session, err := c.OpenLivingSession(ctx, a.ttl)
	if err != nil {
		return LockAttempt{}, err
	}
	return session.attempt(ctx, true, a)
}

func (s *LivingSession) attempt(ctx context.Context, isAlone bool, a asked) (LockAttempt, error) {
	if err := checkName(a.name); err != nil {
		return LockAttempt{}, err
	}
	c, got, err := claimIn(ctx, s, isAlone, a)
	if err != nil || got.token == 0 {
		return LockAttempt{Holder: got.holder}, err
	}
	return LockAttempt{Lock: &Lock{claim: c, token: got.token}}, nil
}

// InspectLock returns who holds the lock of that name, nil if it is free, and how many claims wait.
func (c *Client) InspectLock(ctx context.Context, name string) (*Holder, uint64, error) {
	if err := checkName(name); err != nil {
		return nil, 0, err
	}
	answer, err := call(ctx, c.caller, read, func(ctx context.Context, n *node) (*lockpb.InspectResponse, error) {
		return n.locks().Inspect(ctx, &lockpb.InspectRequest{Name: name, ClusterId: n.named()})
	})
	return holderOf(answer.GetHolder()), answer.GetWaiting(), err
}
