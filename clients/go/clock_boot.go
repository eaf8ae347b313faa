//go:build linux || darwin

package seshat

import (
	"time"

	"golang.org/x/sys/unix"
)

// bootTime reads a clock that also counts while the machine is suspended.
func bootTime() time.Duration {
	var now unix.Timespec
	if unix.ClockGettime(bootClock, &now) != nil {
		return 0
	}
	return time.Duration(now.Nano())
}
