package seshat

import (
	"context"
	"errors"
	"testing"
)

// The name of a lock is text, and not any bytes. No node can be asked for one that is not UTF-8, so every call says so
// at once.
func TestANameThatIsNotUTF8IsInvalid(t *testing.T) {
	client, err := New([]string{"127.0.0.1:1"})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	ctx := context.Background()
	const name = "\xff"
	calls := map[string]func() error{
		"Lock":    func() error { _, err := client.Lock(ctx, name); return err },
		"TryLock": func() error { _, err := client.TryLock(ctx, name, 0); return err },
		"Inspect": func() error { _, _, err := client.InspectLock(ctx, name); return err },
		"SetIf":   func() error { _, err := client.SetIf(ctx, IfToken(name, 1), "k", nil); return err },
		"Observe": func() error {
			for _, err := range client.Observe(ctx, name) {
				return err
			}
			return nil
		},
	}
	for call, make := range calls {
		var failure *Error
		if err := make(); !errors.As(err, &failure) || failure.Kind != KindInvalid || failure.Applied != AppliedNo {
			t.Errorf("%s: %v", call, err)
		}
	}
}
