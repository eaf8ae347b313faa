package seshat

import (
	"context"
	"slices"
	"strings"
	"sync"
)

// Mirror is a copy of a range of keys that follows its changes. It shows the range as it was at one position, at any
// time: while a new state arrives, it shows the former one. It is safe for concurrent use.
type Mirror struct {
	cancel context.CancelFunc
	done   chan struct{}

	mu   sync.RWMutex
	copy replica
	// Closed at the next change.
	changed chan struct{}
	err     error
}

// Mirror returns a copy of the range that follows its changes, once it is complete. It follows them until ctx ends or
// it is closed. The error is that no node has served the watch within the timeout of the client.
func (c *Client) Mirror(ctx context.Context, keys Keys, options ...WatchOption) (*Mirror, error) {
	ctx, cancel := context.WithCancel(ctx)
	m := &Mirror{
		cancel: cancel, done: make(chan struct{}), copy: replica{shown: map[string]Entry{}},
		changed: make(chan struct{}),
	}
	// It begins with the state.
	options = append(options, func(o *watchOptions) { o.resume = nil })
	complete := make(chan struct{})
	go func() {
		defer close(m.done)
		isComplete := false
		for update, err := range c.Watch(ctx, keys, options...) {
			m.take(update, err)
			if !isComplete && (m.copy.position != nil || m.Err() != nil) {
				isComplete = true
				close(complete)
			}
		}
	}()
	<-complete
	if err := m.Err(); err != nil {
		m.Close()
		return nil, err
	}
	return m, nil
}

// Get returns the entry of key, and whether it is bound.
func (m *Mirror) Get(key string) (Entry, bool) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	entry, ok := m.copy.shown[key]
	return entry, ok
}

// Entries returns all entries, in ascending order of their keys.
func (m *Mirror) Entries() []Entry {
	m.mu.RLock()
	defer m.mu.RUnlock()
	entries := make([]Entry, 0, len(m.copy.shown))
	for _, entry := range m.copy.shown {
		entries = append(entries, entry)
	}
	slices.SortFunc(entries, func(a, b Entry) int { return strings.Compare(a.Key, b.Key) })
	return entries
}

// Position returns the moment that it shows.
func (m *Mirror) Position() Position {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if m.copy.position == nil {
		return Position{}
	}
	return *m.copy.position
}

// Changed returns a channel that is closed at the next change, of the range or of [Mirror.Err]. Take it before you
// look.
func (m *Mirror) Changed() <-chan struct{} {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.changed
}

// Err returns why what it shows gets old: no node serves the watch at the moment, or it has ended. Nil: it does not.
func (m *Mirror) Err() error {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.err
}

// Close ends the mirror. What it shows stays as it is.
func (m *Mirror) Close() {
	m.cancel()
	<-m.done
}

func (m *Mirror) take(update Update, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if outage, ok := update.(Disconnected); ok {
		err = outage.Err
	}
	news := (err == nil) != (m.err == nil)
	m.err = err
	if err == nil {
		news = m.copy.apply(update) || news
	}
	if news {
		close(m.changed)
		m.changed = make(chan struct{})
	}
}

// replica is the map of a mirror.
type replica struct {
	// The range at position.
	shown    map[string]Entry
	position *Position
	// What the state has brought since, until it is complete; a nil entry: the key is not bound. Nil: nothing.
	coming map[string]*Entry
	// Whether that takes the place of all that is shown.
	resets bool
}

// apply returns whether what is shown has changed.
func (r *replica) apply(update Update) bool {
	switch update := update.(type) {
	case Reset:
		r.coming, r.resets = map[string]*Entry{}, true
	case State:
		if r.coming == nil {
			r.coming = map[string]*Entry{}
		}
		for _, entry := range update.Entries {
			r.coming[entry.Key] = &entry
		}
		for _, key := range update.Deleted {
			r.coming[key] = nil
		}
	case Synced:
		r.position = &update.Position
		return r.show()
	case Progress:
		r.position = &update.Position
	case Events:
		r.position = &update.Position
		for _, event := range update.Events {
			if event.Removed() {
				delete(r.shown, event.Entry.Key)
			} else {
				r.shown[event.Entry.Key] = event.Entry
			}
		}
		return true
	}
	return false
}

// show shows what has come.
func (r *replica) show() bool {
	if r.coming == nil {
		return false
	}
	if r.resets {
		r.shown = map[string]Entry{}
	}
	for key, entry := range r.coming {
		if entry == nil {
			delete(r.shown, key)
		} else {
			r.shown[key] = *entry
		}
	}
	r.coming, r.resets = nil, false
	return true
}
