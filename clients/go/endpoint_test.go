package seshat

import (
	"slices"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/seshat-kv/seshat/clients/go/seshatpb/kvpb"
)

func TestEndpointsAreHostAndPort(t *testing.T) {
	for text, address := range map[string]string{
		"127.0.0.1:6379": "127.0.0.1:6379", " kvstore-1:6379": "kvstore-1:6379",
		"http://[::1]:6379/": "[::1]:6379", "kvstore-1.example.:6379": "kvstore-1.example.:6379",
	} {
		if found, err := endpoint(text); err != nil || found != address {
			t.Errorf("%q: %q, %v", text, found, err)
		}
	}
	for _, text := range []string{
		"", "6379", "kvstore-1", ":6379", "kvstore-1:", "kvstore-1:0", "kvstore-1:65536", "kvstore-1:6379/path",
		"me@kvstore-1:6379", "https://kvstore-1:6379", "kv store:6379",
	} {
		if _, err := endpoint(text); err == nil {
			t.Errorf("%q is no endpoint", text)
		}
	}
}

func TestAListMayHaveHoles(t *testing.T) {
	found, err := endpoints([]string{",, a:1 ", "b:2,", ""})
	if err != nil || !slices.Equal(found, []string{"a:1", "b:2"}) {
		t.Error(found, err)
	}
	for _, list := range [][]string{nil, {"", ","}, {"a:1,b"}} {
		if _, err := endpoints(list); err == nil {
			t.Errorf("%q is accepted", list)
		}
	}
}

func TestPausesGrowAndVary(t *testing.T) {
	b := defaults().backoff
	if b.longer(b.min) != 2*b.min || b.longer(b.max) != b.max {
		t.Error(b)
	}
	seen := map[time.Duration]bool{}
	for range 1000 {
		pause := jittered(b.max)
		if pause < b.max/2 || pause > b.max {
			t.Fatal(pause)
		}
		seen[pause] = true
	}
	if len(seen) < 100 {
		t.Errorf("%d different pauses", len(seen))
	}
}

func TestABalancerIsDialledQuicklyWhileANodeBehindItLeads(t *testing.T) {
	hinting := &fault{answered: true, detail: &kvpb.ErrorDetail{Reason: &kvpb.ErrorDetail_NotLeader{
		NotLeader: &kvpb.NotLeader{LeaderAddr: proto.String("kv-1:6379")},
	}}}
	longest := func(f *fault, isAlone bool) time.Duration {
		b := defaults().backoff
		c := candidate{pause: b.min}
		for range quickDials {
			c.refusals++
			c.postpone(f, isAlone, b)
		}
		return c.pause
	}
	if pause := longest(hinting, true); pause != defaults().backoff.min {
		t.Error(pause)
	}
	if longest(&fault{answered: true}, true) != defaults().backoff.max || longest(hinting, false) != defaults().backoff.max {
		t.Error("the pauses do not grow")
	}
}
