package seshat

import "github.com/seshat-kv/seshat/clients/go/seshatpb/kvpb"

// Keys is a range of keys, in the order of their bytes.
type Keys struct {
	proto *kvpb.KeyRange
}

// Key is one key alone.
func Key(key string) Keys {
	return Keys{&kvpb.KeyRange{Range: &kvpb.KeyRange_Key{Key: []byte(key)}}}
}

// Prefix is every key that begins with prefix; with an empty one, every key.
func Prefix(prefix string) Keys {
	return Keys{&kvpb.KeyRange{Range: &kvpb.KeyRange_Prefix{Prefix: []byte(prefix)}}}
}

// From is every key from start on.
func From(start string) Keys {
	return interval(&kvpb.Interval{Start: []byte(start)})
}

// Interval is every key from start on and before end. The keys behind a key begin at key + "\x00".
func Interval(start, end string) Keys {
	return interval(&kvpb.Interval{Start: []byte(start), End: []byte(end)})
}

func interval(keys *kvpb.Interval) Keys {
	return Keys{&kvpb.KeyRange{Range: &kvpb.KeyRange_Interval{Interval: keys}}}
}
