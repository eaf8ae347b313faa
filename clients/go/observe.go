package seshat

import (
	"bytes"
	"context"
	"iter"
	"math"
	"time"

	"google.golang.org/grpc"

	"github.com/seshat-kv/seshat/clients/go/seshatpb/lockpb"
)

// Observe tells who holds the lock of that name, or who leads under that name: first the present holder, then the next
// one after every change; nil: the lock is free.
//
//	for holder, err := range client.Observe(ctx, "indexer") {
//		if err != nil {
//			return err
//		}
//		if holder != nil {
//			fmt.Printf("%s leads\n", holder.Value)
//		}
//	}
//
// No holder is told twice in a row, and of changes that follow one another quickly, or while there is no leader, only
// the last one is told. What was told may be over: a program that acts on it passes the token. It waits while the
// cluster has no leader. It ends with an error when ctx ends, or if no node will ever serve it.
func (c *Client) Observe(ctx context.Context, name string) iter.Seq2[*Holder, error] {
	return func(yield func(*Holder, error) bool) {
		if err := checkName(name); err != nil {
			yield(nil, err)
			return
		}
		o := observer{client: c, name: name, pause: c.nodes.backoff.min}
		defer o.end()
		for {
			holder, err := o.next(ctx)
			if !yield(holder, err) || err != nil {
				return
			}
		}
	}
}

// observer observes at one leader after the other.
type observer struct {
	client   *Client
	name     string
	messages *stream[lockpb.ObserveResponse]
	pause    time.Duration
	// What was told last, if anything was.
	told    *Holder
	hasTold bool
}

// next returns the next holder that the caller does not know.
func (o *observer) next(ctx context.Context) (*Holder, error) {
	for {
		if err := o.client.ended(ctx, "the lock has no other holder as yet"); err != nil {
			return nil, err
		}
		if o.messages == nil {
			if err := o.begin(ctx); err != nil {
				return nil, err
			}
			continue
		}
		message, f := o.messages.receive(math.MaxInt64)
		if f != nil {
			if err := o.lose(ctx, f); err != nil {
				return nil, err
			}
			continue
		}
		if holder := holderOf(message.GetHolder()); !o.hasTold || !sameHolder(holder, o.told) {
			o.told, o.hasTold = holder, true
			return holder, nil
		}
	}
}

func sameHolder(a, b *Holder) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.Session == b.Session && a.Claim == b.Claim && a.Token == b.Token && bytes.Equal(a.Value, b.Value)
}

// begin asks the leader, if there is one.
func (o *observer) begin(ctx context.Context) error {
	messages, err := call(ctx, o.client.over(forStreams), read, func(
		attempt context.Context, n *node,
	) (*stream[lockpb.ObserveResponse], error) {
		request := &lockpb.ObserveRequest{Name: o.name, ClusterId: n.named()}
		return begin(attempt, ctx, n, func(
			ctx context.Context,
		) (grpc.ServerStreamingClient[lockpb.ObserveResponse], error) {
			return n.locks().Observe(ctx, request)
		})
	})
	if failure := asError(err); failure != nil && !failure.isOutage() {
		return err
	}
	o.messages = messages
	return nil
}

// lose drops the stream, and waits before the next one.
func (o *observer) lose(ctx context.Context, f *fault) error {
	n := o.messages.node
	o.end()
	if o.client.ended(ctx, "") != nil {
		return nil
	}
	o.client.nodes.note(n, f)
	if f.retry != later {
		return f.ended(n.address)
	}
	sleep(ctx, jittered(o.pause))
	o.pause = o.client.nodes.backoff.longer(o.pause)
	return nil
}

func (o *observer) end() {
	if o.messages != nil {
		o.messages.close()
		o.messages = nil
	}
}
