package seshat

import (
	"context"
	"math/rand/v2"
	"time"
)

// backoff is the pauses between attempts. Each is twice as long as the one before.
type backoff struct {
	min, max time.Duration
}

// longer returns the pause after pause.
func (b backoff) longer(pause time.Duration) time.Duration {
	return min(2*pause, b.max)
}

// jittered returns a random duration between half of pause and all of it: clients that failed together must not
// return together.
func jittered(pause time.Duration) time.Duration {
	half := pause / 2
	return half + time.Duration(rand.Int64N(int64(pause-half)+1))
}

// sleep pauses for d, or until ctx ends.
func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
