package seshat

import (
	"sync"
	"time"
)

// The longest sleep before the clocks are read again: timers do not count suspended time.
const look = time.Second

// Lost is why a living session is lost.
type Lost string

const (
	// NotRenewed: no renewal was answered for 90 % of its TTL. The cluster ends it when none has come for the TTL.
	NotRenewed Lost = "it could not be renewed in time"
	// Ended: the cluster has ended it, or an operator has recovered another cluster from its own.
	Ended Lost = "the cluster has ended it"
	// Closed: the program has closed it.
	Closed Lost = "it was closed"
)

// moment is a time on the clock that moves timers, and on one that also counts while the machine is suspended.
type moment struct {
	instant time.Time
	boot    time.Duration
}

// clock reads both clocks.
type clock func() moment

func systemClock() moment { return moment{instant: time.Now(), boot: bootTime()} }

// since returns the time from before to now, by the clock that has counted more.
func (m moment) since(before moment) time.Duration {
	return max(m.instant.Sub(before.instant), m.boot-before.boot)
}

// lease says until when a client may rely on a living session. Once it is lost, it stays lost.
//
// The cluster counts the TTL from when it applies a renewal, the client from when it sent it. So the client counts
// first, and it gives up at 90 % of the TTL: before the cluster ends the session, as long as the rates of their clocks
// differ by at most 5 %.
type lease struct {
	ttl   time.Duration
	clock clock
	// Closed when it is lost.
	lost chan struct{}

	mu      sync.Mutex
	renewed moment
	why     Lost
}

// newLease returns a lease that was granted for a request that was sent at sent.
func newLease(ttl time.Duration, clock clock, sent moment) *lease {
	return &lease{ttl: ttl, clock: clock, lost: make(chan struct{}), renewed: sent}
}

// span is how long it holds after a renewal.
func (l *lease) span() time.Duration { return l.ttl / 10 * 9 }

// end returns when it is lost at the latest, unless it is renewed or the machine suspended.
func (l *lease) end() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.renewed.instant.Add(l.span())
}

// left returns how long it takes until the last renewal is age old.
func (l *lease) left(age time.Duration) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return age - l.clock().since(l.renewed)
}

// renew notes that a renewal that was sent at sent was answered.
func (l *lease) renew(sent moment) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if sent.instant.After(l.renewed.instant) {
		l.renewed = sent
	}
}

// lose ends it.
func (l *lease) lose(why Lost) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.loseLocked(why)
}

func (l *lease) loseLocked(why Lost) {
	if l.why == "" {
		l.why = why
		close(l.lost)
	}
}

// state returns why it is lost; empty: it holds. It reads the clocks.
func (l *lease) state() Lost {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.clock().since(l.renewed) >= l.span() {
		l.loseLocked(NotRenewed)
	}
	return l.why
}

// holds returns an error if it is lost.
func (l *lease) holds() error {
	if why := l.state(); why != "" {
		return sessionLost(why)
	}
	return nil
}

func sessionLost(why Lost) *Error {
	return &Error{Kind: KindSessionLost, Message: "the session is lost: " + string(why)}
}
