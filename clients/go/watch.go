package seshat

import (
	"context"
	"iter"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/seshat-kv/seshat/clients/go/seshatpb/kvpb"
)

const (
	// Silent progress intervals after which a connection counts as lost.
	silentIntervals = 3
	// The shortest time for which nodes are asked before the program is told that none serves.
	shortestOutage = time.Second
)

// WatchOption is a setting of a watch.
type WatchOption func(*watchOptions)

type watchOptions struct {
	request  *kvpb.WatchRequest
	interval time.Duration
	resume   *Position
}

// WatchKeysOnly leaves out the values: those of the entries are empty.
func WatchKeysOnly() WatchOption { return func(o *watchOptions) { o.request.KeysOnly = true } }

// ProgressInterval sets how often the node says that nothing has changed: 100 ms to 1 h. A node that says nothing for
// three intervals counts as lost. Default: 5 s.
func ProgressInterval(interval time.Duration) WatchOption {
	return func(o *watchOptions) { o.interval = min(max(interval, 100*time.Millisecond), time.Hour) }
}

// MinRevision shows no state before this revision, such as that of a write of the program: nodes are behind the leader
// by a little.
func MinRevision(revision uint64) WatchOption {
	return func(o *watchOptions) { o.request.MinRevision = revision }
}

// Resume goes on from position, for a program that has kept its map. The first news are the changes since then; or, if
// no node has all of these any more, a [Reset] and the state.
func Resume(position Position) WatchOption {
	return func(o *watchOptions) { o.resume = &position }
}

// Watch tells the keys of a range, and then every change of them, in the order of revisions, without a gap or a
// repetition.
//
//	for update, err := range client.Watch(ctx, seshat.Prefix("config/")) {
//		if err != nil {
//			return err
//		}
//		switch update := update.(type) {
//		case seshat.Reset: // forget all that came before
//		case seshat.State: // keys that are bound, and keys that are not
//		case seshat.Synced: // that is all at update.Position
//		case seshat.Events: // all changes of one revision
//		case seshat.Disconnected: // what is known gets old
//		}
//	}
//
// Any node serves it. It goes on at another one when the connection is lost, a node stops, or says nothing for three
// progress intervals: from where the program stands, or with a reset where that is not possible. It never shows a state
// older than one that it has shown. It ends with an error when ctx ends, or if no node will ever serve it.
//
// A program that takes the news slowly delays neither the nodes nor other calls, and does not lose the state: it gets
// the keys that have changed in place of every change.
func (c *Client) Watch(ctx context.Context, keys Keys, options ...WatchOption) iter.Seq2[Update, error] {
	o := watchOptions{request: &kvpb.WatchRequest{Range: keys.proto}, interval: 5 * time.Second}
	for _, set := range options {
		set(&o)
	}
	return func(yield func(Update, error) bool) {
		w := watcher{
			client: c, options: o, assembly: newAssembly(o.resume, o.request.MinRevision), pause: c.nodes.backoff.min,
		}
		if o.resume != nil {
			w.cluster = o.resume.Cluster
		}
		defer w.end()
		for {
			update, err := w.next(ctx)
			if !yield(update, err) || err != nil {
				return
			}
		}
	}
}

// watcher reads the messages of one node after the other.
//
// A node of another cluster does not refuse a watch: it sends a reset and its own state. So the watcher asks a node that
// resets for its cluster, before the program is told to forget anything.
type watcher struct {
	client   *Client
	options  watchOptions
	assembly assembly
	// The cluster of the last complete state; 0: there was none.
	cluster    uint64
	connection *watching
	// The node whose connection was lost.
	lost string
	// The pause before the next connection.
	pause time.Duration
	// Whether the program knows of the present outage.
	outageTold bool
}

// watching is a connection to one node.
type watching struct {
	*stream[kvpb.WatchResponse]
	// The cluster that the node has to be of; 0: any.
	cluster uint64
}

// next returns the next news.
func (w *watcher) next(ctx context.Context) (Update, error) {
	for {
		if err := w.client.ended(ctx, "there was nothing new in time"); err != nil {
			return nil, err
		}
		if w.connection == nil {
			if update, err := w.connect(ctx); update != nil || err != nil {
				return update, err
			}
			continue
		}
		update, f := w.receive(ctx)
		if f != nil {
			w.lose(ctx, f)
		} else if update != nil {
			return update, nil
		}
	}
}

// connect connects to any node that serves. It returns what the program is to be told if there is none.
func (w *watcher) connect(ctx context.Context) (Update, error) {
	asking, cancel := context.WithTimeout(ctx, max(w.client.nodes.timeout, shortestOutage))
	defer cancel()
	request, ours := w.request(), w.ours()
	n, connection, err := find(asking, question[*watching]{
		nodes: w.client.nodes, purpose: forWatches, last: w.lost, also: w.client.nodes.connected(),
		ask: func(attempt context.Context, n *node) (*watching, error) {
			return w.open(attempt, ctx, n, request, ours)
		},
		dispose: func(late *watching) { late.close() },
	})
	if err == nil {
		n.release()
		w.connection = connection
		return nil, nil
	}
	failure := asError(err)
	switch {
	case ctx.Err() != nil:
		return nil, nil
	case !failure.isOutage():
		return nil, err
	case w.outageTold:
		return nil, nil
	}
	w.outageTold = true
	return Disconnected{Err: err}, nil
}

// request returns what nodes are asked for.
func (w *watcher) request() *kvpb.WatchRequest {
	request := &kvpb.WatchRequest{
		Range: w.options.request.Range, KeysOnly: w.options.request.KeysOnly, MinRevision: w.assembly.floor,
		ProgressInterval: durationpb.New(w.options.interval),
	}
	if position := w.assembly.position; position != nil {
		request.ClusterId, request.AfterRevision = optional(position.Cluster), position.Revision
	}
	return request
}

// ours returns the cluster that the watch belongs to; 0: none as yet.
func (w *watcher) ours() uint64 {
	if w.cluster != 0 {
		return w.cluster
	}
	return w.client.Cluster()
}

// open begins a watch at a node, and waits for its first message. Several nodes may be asked at once.
func (w *watcher) open(
	attempt, lives context.Context, n *node, request *kvpb.WatchRequest, ours uint64,
) (*watching, error) {
	messages, err := begin(attempt, lives, n, func(
		ctx context.Context,
	) (grpc.ServerStreamingClient[kvpb.WatchResponse], error) {
		return n.kv().Watch(ctx, request)
	})
	if err != nil {
		return nil, err
	}
	connection := &watching{stream: messages}
	switch {
	case isReset(messages.first):
		connection.cluster, err = w.clusterOf(attempt, n, ours)
	case request.ClusterId != nil:
		connection.cluster = request.GetClusterId()
	default:
		err = broken("a watch begins without a reset")
	}
	if err != nil {
		connection.close()
		return nil, err
	}
	return connection, nil
}

// clusterOf returns the cluster of a node, whose state is about to take the place of what the program has; 0: any
// cluster is accepted. The error is that the node takes part in another cluster, or does not answer.
func (w *watcher) clusterOf(ctx context.Context, n *node, ours uint64) (uint64, error) {
	if ours == 0 {
		return 0, nil
	}
	// A node of this cluster refuses at once that there is no key.
	ctx, seen := traced(ctx)
	_, err := n.kv().Get(ctx, &kvpb.GetRequest{ClusterId: &ours})
	if err == nil {
		return ours, nil
	}
	f := faultOf(ctx, err, seen)
	other := f.detail.GetOtherCluster()
	switch {
	case f.detail.GetInvalidRequest() != nil:
		return ours, nil
	case other.GetSuccessor() && w.client.nodes.follows:
		w.client.nodes.follow(ours, other.GetClusterId())
		return other.GetClusterId(), nil
	}
	return 0, f
}

// receive takes the next message. It returns what the program is to be told; nil: nothing yet.
func (w *watcher) receive(ctx context.Context) (Update, *fault) {
	silence := silentIntervals * w.options.interval
	isFirst := w.connection.first != nil
	message, f := w.connection.receive(silence)
	if f != nil {
		return nil, f
	}
	if isReset(message) && !isFirst {
		asking, cancel := context.WithTimeout(ctx, silence)
		defer cancel()
		cluster, err := w.clusterOf(asking, w.connection.node, w.ours())
		if err != nil {
			return nil, faultOf(asking, err, &trace{})
		}
		w.connection.cluster = cluster
	}
	if synced := message.GetSynced(); synced != nil {
		if f := w.belongs(synced.GetClusterId()); f != nil {
			return nil, f
		}
	}
	update, f := w.assembly.add(message)
	if _, ok := update.(Synced); ok {
		w.outageTold = false
	}
	return update, f
}

// belongs notes that a complete state has come from the cluster id.
func (w *watcher) belongs(id uint64) *fault {
	expected := w.connection.cluster
	if expected == 0 {
		expected = w.client.nodes.learn(id)
	}
	if expected != id {
		return broken("the node has changed its cluster")
	}
	w.cluster = id
	return nil
}

// lose drops the connection, and waits before the next one.
func (w *watcher) lose(ctx context.Context, f *fault) {
	n, begun := w.connection.node, w.connection.begun
	w.end()
	w.assembly.cutOff()
	if ctx.Err() != nil {
		return
	}
	w.client.nodes.note(n, f)
	if f.sendsElsewhere() {
		w.client.nodes.dialAnew(n)
	}
	w.lost = n.address
	b := w.client.nodes.backoff
	if time.Since(begun) > b.max {
		w.pause = b.min
	}
	sleep(ctx, jittered(w.pause))
	w.pause = b.longer(w.pause)
}

func (w *watcher) end() {
	if w.connection != nil {
		w.connection.close()
		w.connection = nil
	}
}

func isReset(message *kvpb.WatchResponse) bool { return message.GetReset_() != nil }
