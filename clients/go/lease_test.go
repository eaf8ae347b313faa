package seshat

import (
	"testing"
	"time"
)

const testTTL = 10 * time.Second

// fakeTime is a clock that stands still until it is told otherwise.
type fakeTime struct{ now moment }

func (f *fakeTime) read() moment { return f.now }

func (f *fakeTime) advance(d time.Duration) {
	f.now.instant = f.now.instant.Add(d)
	f.now.boot += d
}

func leaseAt() (*lease, *fakeTime) {
	f := &fakeTime{moment{instant: time.Unix(0, 0)}}
	return newLease(testTTL, f.read, f.now), f
}

func TestALeaseHoldsForNineTenthsOfItsTTLAfterTheLastRenewalWasSent(t *testing.T) {
	l, clock := leaseAt()
	clock.advance(8999 * time.Millisecond)
	if why := l.state(); why != "" {
		t.Fatal(why)
	}
	sent := clock.now
	clock.advance(time.Millisecond)
	l.renew(sent)
	if end := l.end(); end != sent.instant.Add(9*time.Second) {
		t.Error(end)
	}
	clock.advance(8998 * time.Millisecond)
	if why := l.state(); why != "" {
		t.Fatal(why)
	}
	clock.advance(time.Millisecond)
	if err := l.holds(); err == nil || asError(err).Kind != KindSessionLost || l.state() != NotRenewed {
		t.Error(err)
	}
	select {
	case <-l.lost:
	default:
		t.Error("the program is not told")
	}
}

func TestAnOlderRenewalTakesNothingAwayAndNoneBringsALeaseBack(t *testing.T) {
	l, clock := leaseAt()
	older := clock.now
	clock.advance(5 * time.Second)
	l.renew(clock.now)
	l.renew(older)
	clock.advance(5 * time.Second)
	if why := l.state(); why != "" {
		t.Fatal(why)
	}
	l.lose(Ended)
	l.renew(clock.now)
	l.lose(Closed)
	if why := l.state(); why != Ended {
		t.Error(why)
	}
}

func TestSuspendedTimeCounts(t *testing.T) {
	l, clock := leaseAt()
	clock.advance(time.Second)
	clock.now.boot = 8999 * time.Millisecond
	if why := l.state(); why != "" {
		t.Fatal(why)
	}
	if left := l.left(l.ttl); left != 1001*time.Millisecond {
		t.Error(left)
	}
	clock.now.boot = 9 * time.Second
	if why := l.state(); why != NotRenewed {
		t.Error(why)
	}
}

func TestTheClocksOfTheSystemRun(t *testing.T) {
	before := systemClock()
	for systemClock().boot == before.boot && bootTime() != 0 {
	}
	if systemClock().since(before) < 0 {
		t.Error("time goes back")
	}
}
