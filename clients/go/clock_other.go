//go:build !linux && !darwin

package seshat

import "time"

// bootTime: there is no clock that counts suspended time. It stands still.
func bootTime() time.Duration { return 0 }
