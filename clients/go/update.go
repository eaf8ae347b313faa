package seshat

import (
	"strings"

	"github.com/seshat-kv/seshat/clients/go/seshatpb/kvpb"
)

// Update is the next news of a watch: [Reset], [State], [Synced], [Events], [Progress] or [Disconnected].
//
// A program that applies them in order to an empty map, and empties it at each Reset, has the range as it is at the
// position of each Synced, Events and Progress. A [Mirror] does so.
type Update interface{ isUpdate() }

// Reset: the map is empty, and the state follows. The first news of a watch that resumes nowhere, and of one that has
// to begin again.
type Reset struct{}

// State is a part of the state. Until the next Synced the map is incomplete: it shows no moment.
type State struct {
	// Keys that are bound.
	Entries []Entry
	// Keys that are not.
	Deleted []string
}

// Synced: the map is complete. It comes after the state, and each time another node has taken over.
type Synced struct {
	Position Position
}

// Events is all changes of one revision, one a key.
type Events struct {
	Position Position
	Events   []Event
}

// Progress: nothing has changed up to this position. The node has just heard of a leader.
type Progress struct {
	Position Position
}

// Disconnected: no node serves the watch at the moment, so the map gets old. The watch goes on by itself. It comes once
// for each outage, when the nodes were asked for the timeout of the client.
type Disconnected struct {
	Err error
}

func (Reset) isUpdate()        {}
func (State) isUpdate()        {}
func (Synced) isUpdate()       {}
func (Events) isUpdate()       {}
func (Progress) isUpdate()     {}
func (Disconnected) isUpdate() {}

// Position is where a watch stands: the map equals the range at this revision of this cluster. It may be kept, with
// the map, to [Resume] later.
type Position struct {
	Cluster, Revision uint64
}

// Event is the change of a key.
type Event struct {
	// Why it changed.
	Cause Cause
	// The key as it is from now on. If it was removed: without a value, and with the revision of the removal.
	Entry Entry
}

// Removed reports whether the key was removed. A cause that this version does not know is a removal.
func (e Event) Removed() bool { return e.Cause != CauseSet }

// Cause is why a key changed: the name in seshat.kv.v1.Cause, in lower case.
type Cause string

// The causes.
const (
	// A write bound it.
	CauseSet Cause = "set"
	// A write removed it.
	CauseDeleted Cause = "deleted"
	// Its TTL ended.
	CauseExpired Cause = "expired"
	// The session that owned it ended.
	CauseSessionEnded Cause = "session_ended"
	// A removal for a reason that this version does not know.
	CauseOther Cause = "other"
)

func eventOf(event *kvpb.Event) Event {
	cause := CauseOther
	if name := kvpb.Cause_name[int32(event.GetCause())]; event.GetCause() != 0 && name != "" {
		cause = Cause(strings.ToLower(strings.TrimPrefix(name, "CAUSE_")))
	}
	return Event{Cause: cause, Entry: entryOf(event.GetEntry())}
}
