package seshat

import "github.com/seshat-kv/seshat/clients/go/seshatpb/kvpb"

// assembly puts the messages of nodes together to news that mislead no program.
//
// The changes of one revision may come in several messages, and the connection may be lost between them. They are
// passed on whole, so the program stands at a revision at any time, or is told that it does not: between a reset or a
// part of the state and the next Synced.
type assembly struct {
	// Where the map of the program stands; nil: it is incomplete.
	position *Position
	// The highest revision that the program knows: it is not told of an earlier state.
	floor uint64
	// The changes of a revision, of which more follow; nil: none.
	half *half
}

type half struct {
	revision uint64
	events   []Event
	bytes    int
}

// newAssembly is for a program whose map stands at position, and that knows of the revision floor.
func newAssembly(position *Position, floor uint64) assembly {
	if position != nil {
		copied := *position
		position, floor = &copied, max(floor, copied.Revision)
	}
	return assembly{position: position, floor: floor}
}

// cutOff forgets what the lost connection has not completed.
func (a *assembly) cutOff() { a.half = nil }

// add takes the next message of a connection. It returns what the program is to be told; nil: nothing yet. The fault is
// that no node that works sends this here.
func (a *assembly) add(message *kvpb.WatchResponse) (Update, *fault) {
	switch message := message.GetMessage().(type) {
	case *kvpb.WatchResponse_Reset_:
		a.half, a.position = nil, nil
		return Reset{}, nil
	case *kvpb.WatchResponse_State:
		return a.state(message.State), nil
	case *kvpb.WatchResponse_Synced:
		return a.synced(message.Synced)
	case *kvpb.WatchResponse_Events:
		return a.events(message.Events)
	case *kvpb.WatchResponse_Progress:
		if f := a.advance(message.Progress.GetRevision()); f != nil {
			return nil, f
		}
		return Progress{*a.position}, nil
	}
	return nil, broken("an empty message")
}

func (a *assembly) state(state *kvpb.WatchState) Update {
	a.half, a.position = nil, nil
	update := State{Entries: entriesOf(state.GetEntries())}
	for _, entry := range update.Entries {
		a.floor = max(a.floor, entry.Revision)
	}
	for _, key := range state.GetDeleted() {
		update.Deleted = append(update.Deleted, string(key))
	}
	return update
}

func (a *assembly) synced(synced *kvpb.WatchSynced) (Update, *fault) {
	if a.half != nil || synced.GetRevision() < a.floor {
		return nil, broken("a state that is older than what was known")
	}
	a.position = &Position{Cluster: synced.GetClusterId(), Revision: synced.GetRevision()}
	a.floor = synced.GetRevision()
	return Synced{*a.position}, nil
}

func (a *assembly) events(part *kvpb.WatchEvents) (Update, *fault) {
	revision := part.GetRevision()
	whole := a.half
	a.half = nil
	switch {
	case whole != nil && whole.revision == revision:
	case whole == nil && a.position != nil && a.position.Revision < revision:
		whole = &half{revision: revision}
	default:
		return nil, broken("changes out of order")
	}
	for _, event := range part.GetEvents() {
		if event.GetEntry() == nil {
			return nil, broken("an event without a key")
		}
		whole.bytes += len(event.GetEntry().GetKey()) + len(event.GetEntry().GetValue())
		whole.events = append(whole.events, eventOf(event))
	}
	if part.GetMore() {
		// No node accepts a larger transaction.
		if whole.bytes > maxMessageBytes {
			return nil, broken("more changes in one revision than a node accepts")
		}
		a.half = whole
		return nil, nil
	}
	if f := a.advance(revision); f != nil {
		return nil, f
	}
	return Events{Position: *a.position, Events: whole.events}, nil
}

// advance: the map stands at revision.
func (a *assembly) advance(revision uint64) *fault {
	if a.position == nil || a.half != nil || revision < a.position.Revision {
		return broken("a revision out of order")
	}
	a.position.Revision = revision
	a.floor = max(a.floor, revision)
	return nil
}
