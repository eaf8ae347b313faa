package seshat

import (
	"reflect"
	"testing"

	"github.com/seshat-kv/seshat/clients/go/seshatpb/kvpb"
)

const testCluster = 7

func message(m any) *kvpb.WatchResponse {
	switch m := m.(type) {
	case *kvpb.WatchReset:
		return &kvpb.WatchResponse{Message: &kvpb.WatchResponse_Reset_{Reset_: m}}
	case *kvpb.WatchState:
		return &kvpb.WatchResponse{Message: &kvpb.WatchResponse_State{State: m}}
	case *kvpb.WatchSynced:
		return &kvpb.WatchResponse{Message: &kvpb.WatchResponse_Synced{Synced: m}}
	case *kvpb.WatchEvents:
		return &kvpb.WatchResponse{Message: &kvpb.WatchResponse_Events{Events: m}}
	case *kvpb.WatchProgress:
		return &kvpb.WatchResponse{Message: &kvpb.WatchResponse_Progress{Progress: m}}
	}
	return &kvpb.WatchResponse{}
}

func reset() *kvpb.WatchReset { return &kvpb.WatchReset{} }

func state(revision uint64, keys ...string) *kvpb.WatchState {
	s := &kvpb.WatchState{}
	for _, key := range keys {
		s.Entries = append(s.Entries, &kvpb.Entry{Key: []byte(key), Revision: revision})
	}
	return s
}

func synced(revision uint64) *kvpb.WatchSynced {
	return &kvpb.WatchSynced{ClusterId: testCluster, Revision: revision}
}

func events(revision uint64, more bool, keys ...string) *kvpb.WatchEvents {
	e := &kvpb.WatchEvents{Revision: revision, More: more}
	for _, key := range keys {
		entry := &kvpb.Entry{Key: []byte(key), Revision: revision}
		e.Events = append(e.Events, &kvpb.Event{Cause: kvpb.Cause_CAUSE_SET, Entry: entry})
	}
	return e
}

func progress(revision uint64) *kvpb.WatchProgress { return &kvpb.WatchProgress{Revision: revision} }

// atFive is for a program that stands at revision 5.
func atFive() assembly { return newAssembly(&Position{testCluster, 5}, 0) }

func add(t *testing.T, a *assembly, m any) Update {
	t.Helper()
	update, f := a.add(message(m))
	if f != nil {
		t.Fatalf("%v: %v", m, f)
	}
	return update
}

func standsAt(t *testing.T, a *assembly, revision, floor uint64) {
	t.Helper()
	switch {
	case a.floor != floor:
		t.Errorf("floor %d, not %d", a.floor, floor)
	case revision == 0 && a.position != nil:
		t.Errorf("it stands at %v", a.position)
	case revision != 0 && (a.position == nil || *a.position != Position{testCluster, revision}):
		t.Errorf("it stands at %v, not %d", a.position, revision)
	}
}

func keysOf(update Update) []string {
	var keys []string
	for _, event := range update.(Events).Events {
		keys = append(keys, event.Entry.Key)
	}
	return keys
}

func TestTheChangesOfARevisionComeWhole(t *testing.T) {
	a := atFive()
	for _, key := range []string{"a", "b"} {
		if update := add(t, &a, events(6, true, key)); update != nil {
			t.Fatal(update)
		}
		standsAt(t, &a, 5, 5)
	}
	update := add(t, &a, events(6, false, "c"))
	if keys := keysOf(update); !reflect.DeepEqual(keys, []string{"a", "b", "c"}) {
		t.Error(keys)
	}
	standsAt(t, &a, 6, 6)
}

func TestHalfOfARevisionIsForgotten(t *testing.T) {
	a := atFive()
	add(t, &a, events(6, true, "a"))
	a.cutOff()
	if keys := keysOf(add(t, &a, events(6, false, "a"))); len(keys) != 1 {
		t.Error(keys)
	}
	for _, instead := range []any{state(7, "a"), reset()} {
		a := atFive()
		add(t, &a, events(6, true, "a"))
		add(t, &a, instead)
		if a.position != nil {
			t.Error("it stands nowhere")
		}
		add(t, &a, synced(7))
		if keys := keysOf(add(t, &a, events(8, false, "b"))); len(keys) != 1 {
			t.Error(keys)
		}
	}
}

func TestAMapThatHasAPartOfTheStateStandsNowhere(t *testing.T) {
	a := atFive()
	add(t, &a, reset())
	standsAt(t, &a, 0, 5)
	a = atFive()
	add(t, &a, state(9, "a"))
	standsAt(t, &a, 0, 9)
	a.cutOff()
	standsAt(t, &a, 0, 9)
	add(t, &a, synced(9))
	standsAt(t, &a, 9, 9)
}

func TestAStateIsNeverOlderThanWhatTheProgramKnows(t *testing.T) {
	a := atFive()
	add(t, &a, reset())
	if _, f := a.add(message(synced(4))); f == nil {
		t.Error("it goes back")
	}
	// A program that waits for its own write gets the changes before it, too.
	a = newAssembly(&Position{testCluster, 5}, 8)
	add(t, &a, events(6, false, "a"))
	standsAt(t, &a, 6, 8)
	if _, f := a.add(message(synced(7))); f == nil {
		t.Error("it goes back")
	}
	add(t, &a, synced(8))
}

func TestWhatIsOutOfOrderEndsAConnection(t *testing.T) {
	nowhere := func() assembly { return newAssembly(nil, 0) }
	half := func() assembly {
		a := atFive()
		add(t, &a, events(6, true, "a"))
		return a
	}
	for _, each := range []struct {
		from func() assembly
		m    any
	}{
		{nowhere, events(6, false, "a")}, {nowhere, progress(6)},
		{half, synced(6)}, {half, progress(6)}, {half, events(7, false, "a")},
		{atFive, events(5, false, "a")}, {atFive, progress(4)}, {atFive, synced(4)}, {atFive, nil},
		{atFive, &kvpb.WatchEvents{Revision: 6, Events: []*kvpb.Event{{}}}},
	} {
		a := each.from()
		if update, f := a.add(message(each.m)); f == nil {
			t.Errorf("%v: %v", each.m, update)
		}
	}
	for _, m := range []any{progress(5), synced(5), progress(9)} {
		a := atFive()
		add(t, &a, m)
	}
}

func TestAnUnknownCauseIsARemoval(t *testing.T) {
	for cause, name := range map[kvpb.Cause]Cause{
		0: CauseOther, 1: CauseSet, 2: CauseDeleted, 3: CauseExpired, 4: CauseSessionEnded, 99: CauseOther,
	} {
		event := eventOf(&kvpb.Event{Cause: cause, Entry: &kvpb.Entry{Key: []byte("k")}})
		if event.Cause != name || event.Removed() != (name != CauseSet) {
			t.Errorf("%v: %v", cause, event)
		}
	}
}

func TestAMirrorShowsTheFormerStateUntilTheNextOneIsWhole(t *testing.T) {
	r := replica{shown: map[string]Entry{}}
	shows := func(keys ...string) {
		t.Helper()
		if len(r.shown) != len(keys) {
			t.Errorf("%v, not %v", r.shown, keys)
		}
		for _, key := range keys {
			if _, ok := r.shown[key]; !ok {
				t.Errorf("%v has no %q", r.shown, key)
			}
		}
	}
	at := func(revision uint64) Position { return Position{testCluster, revision} }
	r.apply(Reset{})
	r.apply(State{Entries: []Entry{{Key: "a"}, {Key: "b"}}})
	shows()
	r.apply(Synced{at(5)})
	shows("a", "b")
	r.apply(Events{at(6), []Event{{CauseSet, Entry{Key: "c"}}, {CauseExpired, Entry{Key: "a"}}}})
	shows("b", "c")
	r.apply(State{Entries: []Entry{{Key: "d"}}, Deleted: []string{"b"}})
	shows("b", "c")
	r.apply(Synced{at(8)})
	shows("c", "d")
	r.apply(Reset{})
	r.apply(State{Entries: []Entry{{Key: "e"}}})
	shows("c", "d")
	r.apply(Synced{at(9)})
	shows("e")
	if *r.position != at(9) {
		t.Error(r.position)
	}
}
