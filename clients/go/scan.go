package seshat

import (
	"context"
	"fmt"
	"iter"
	"time"

	"google.golang.org/grpc"

	"github.com/seshat-kv/seshat/clients/go/seshatpb/kvpb"
)

// ScanOption is a setting of a scan.
type ScanOption func(*kvpb.ScanRequest)

// Limit reads at most this many keys, the first ones of the range; 0: all.
func Limit(keys uint64) ScanOption { return func(r *kvpb.ScanRequest) { r.Limit = keys } }

// KeysOnly leaves out the values: those of the entries are empty.
func KeysOnly() ScanOption { return func(r *kvpb.ScanRequest) { r.KeysOnly = true } }

func scanRequest(keys Keys, options []ScanOption) *kvpb.ScanRequest {
	request := &kvpb.ScanRequest{Range: keys.proto}
	for _, set := range options {
		set(request)
	}
	return request
}

// Scan reads the keys of a range in ascending order, one by one and in bounded memory. All entries are of one moment.
//
//	for entry, err := range client.Scan(ctx, seshat.Prefix("user/")) {
//		if err != nil {
//			return err
//		}
//		fmt.Println(entry.Key)
//	}
//
// Until the first part has come the call is repeated like any read. If the connection or the node is lost after that,
// or the entries are not taken within 60 s, the last error is of [KindInterrupted]: begin again. The timeout of the
// client limits the wait for each part; a deadline of ctx limits the whole scan. A program that takes entries slowly
// delays no other call.
func (c *Client) Scan(ctx context.Context, keys Keys, options ...ScanOption) iter.Seq2[Entry, error] {
	request := scanRequest(keys, options)
	return func(yield func(Entry, error) bool) {
		_, err := c.scan(ctx, request, func(part *kvpb.ScanResponse) bool {
			for _, entry := range part.GetEntries() {
				if !yield(entryOf(entry), nil) {
					return false
				}
			}
			return true
		})
		if err != nil {
			yield(Entry{}, err)
		}
	}
}

// ScanAll is [Client.Scan] with all entries at once. They have to fit into memory. If the leader is lost on the way,
// the scan begins again, until the deadline.
func (c *Client) ScanAll(ctx context.Context, keys Keys, options ...ScanOption) ([]Entry, error) {
	entries, _, err := c.scanWhole(ctx, scanRequest(keys, options))
	return entries, err
}

// Count returns the number of keys of a range. Only the number is sent.
func (c *Client) Count(ctx context.Context, keys Keys, options ...ScanOption) (uint64, error) {
	request := scanRequest(keys, options)
	request.CountOnly = true
	_, count, err := c.scanWhole(ctx, request)
	return count, err
}

// scanWhole reads all at once. It may begin again, because the caller has seen nothing before its end.
func (c *Client) scanWhole(ctx context.Context, request *kvpb.ScanRequest) ([]Entry, uint64, error) {
	end := time.Now().Add(c.nodes.timeout)
	for {
		var entries []Entry
		count, err := c.scan(ctx, request, func(part *kvpb.ScanResponse) bool {
			entries = append(entries, entriesOf(part.GetEntries())...)
			return true
		})
		failure := asError(err)
		if failure == nil {
			return entries, count, nil
		}
		if failure.Kind != KindInterrupted || ctx.Err() != nil || time.Now().After(end) {
			return nil, 0, err
		}
	}
}

// scan gives take the parts, until it returns false. It returns the number of keys.
func (c *Client) scan(
	ctx context.Context, request *kvpb.ScanRequest, take func(*kvpb.ScanResponse) bool,
) (uint64, error) {
	parts, err := call(ctx, c.over(forStreams), read, func(
		attempt context.Context, n *node,
	) (*stream[kvpb.ScanResponse], error) {
		asked := &kvpb.ScanRequest{
			Range: request.Range, Limit: request.Limit, KeysOnly: request.KeysOnly, CountOnly: request.CountOnly,
			ClusterId: n.named(),
		}
		return begin(attempt, ctx, n, func(ctx context.Context) (grpc.ServerStreamingClient[kvpb.ScanResponse], error) {
			return n.kv().Scan(ctx, asked)
		})
	})
	if err != nil {
		return 0, err
	}
	defer parts.close()
	for {
		part, f := parts.receive(c.nodes.timeout)
		if f != nil {
			return 0, c.interrupted(ctx, parts, f)
		}
		// Only the last part tells the count, and without a key there is one part.
		isLast := part.GetCount() > 0 || !part.GetMore()
		if !take(part) || isLast {
			return part.GetCount(), nil
		}
	}
}

// interrupted returns the error of a scan that was cut off. What is left cannot be read at the same moment any more.
func (c *Client) interrupted(ctx context.Context, parts *stream[kvpb.ScanResponse], f *fault) *Error {
	if err := c.ended(ctx, "the deadline passed in the middle of the scan"); err != nil {
		return asError(err)
	}
	c.note(parts.node, f, c.nodes.timeout)
	if f.retry != later {
		return f.ended(parts.node.address)
	}
	message := fmt.Sprintf("the scan was cut off, begin it again: %s: %s", parts.node.address, f.message)
	return f.refusal(KindInterrupted, message)
}
