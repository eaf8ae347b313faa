// Package seshat is a client of Seshat, a replicated in-memory key-value store with locks.
//
//	client, err := seshat.New([]string{"kvstore-1:6379", "kvstore-2:6379", "kvstore-3:6379"})
//	if err != nil {
//		return err
//	}
//	defer client.Close()
//	_, err = client.Set(ctx, "city", []byte("Uruk"))
//
// A [Client] finds the leader and follows it. Every call has one deadline for everything that it does: that of its
// context, or else the timeout of the client. A call without an answer ends with an [Error], which always says whether a
// write may have been applied. Keys are strings of any bytes, and values are bytes.
//
// # What is repeated
//
// An answer can be lost on its way. A read is then sent again, to the current leader. A write that may have been
// applied is not: it ends with [AppliedUnknown]. In a [Session] it is sent again under the same number until the
// deadline, and applied once however often it arrives.
//
// # What ends by itself
//
// A key may have a [TTL]. A [LivingSession] ends when its client is gone, and the keys that it owns and the locks that it
// holds end with it. A [Lock] has a token, by which a resource refuses a former holder.
//
// # One cluster
//
// A client belongs to the cluster that answered it first. If its endpoints lead to a second cluster, answers of that
// one are not accepted. If an operator recovers the first cluster from the state of one node, the client logs a warning,
// calls [WithRecovered], and follows; sessions end.
//
// # Concurrency
//
// Clients, sessions, locks, pipelines and mirrors are safe for concurrent use. What [Client.Scan], [Client.Watch] and
// [Client.Observe] return is run by the goroutine that ranges over it, anew each time. A client runs goroutines for
// living sessions, pipelines and mirrors until these are closed, or it is.
package seshat

// Version is the version of this client.
const Version = "0.2.0"
