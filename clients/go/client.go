package seshat

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/seshat-kv/seshat/clients/go/seshatpb/kvpb"
)

// How long Close waits for the end of sessions and claims.
const closeGrace = time.Second

// Client is a client of one cluster. It is safe for concurrent use.
type Client struct {
	issuer
	stop context.CancelFunc
	// What the client does in the background, and what of it ends sessions and claims.
	background, farewells sync.WaitGroup

	mu     sync.Mutex
	living map[*LivingSession]struct{}
	closed bool
}

// New returns a client of the cluster that has nodes at endpoints, each host:port, or several with commas between
// them. One that answers is enough: it names the leader. An address may lead to several nodes, through a load
// balancer or a name with several addresses. The client connects when it is first used.
//
// The error is of [KindInvalid]: there is no endpoint, or one is not of the form host:port.
func New(endpoint []string, settings ...Option) (*Client, error) {
	addresses, err := endpoints(endpoint)
	if err != nil {
		return nil, err
	}
	o := defaults()
	for _, set := range settings {
		set(&o)
	}
	ctx, stop := context.WithCancel(context.Background())
	client := &Client{stop: stop, living: map[*LivingSession]struct{}{}}
	client.issuer = issuer{caller: caller{nodes: newNodes(ctx, addresses, o)}}
	return client, nil
}

// Close ends the client: its calls, watches and pipelines, its living sessions, and so its locks. It waits a second at
// most until the cluster has ended the sessions. It returns nil.
func (c *Client) Close() error {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return nil
	}
	c.closed = true
	living := slices.Collect(maps.Keys(c.living))
	c.mu.Unlock()

	ctx, cancel := context.WithTimeout(context.Background(), closeGrace)
	defer cancel()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		var closing sync.WaitGroup
		for _, session := range living {
			closing.Go(func() { _ = session.Close(ctx) })
		}
		closing.Wait()
		c.farewells.Wait()
	}()
	select {
	case <-ended:
	case <-ctx.Done():
	}
	c.stop()
	c.nodes.close()
	c.background.Wait()
	return nil
}

// goes runs work in the background, until the client is closed.
func (c *Client) goes(work func(ctx context.Context)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closed {
		c.background.Go(func() { work(c.nodes.ctx) })
	}
}

// farewell runs work in the background that ends a session or a claim. Close waits for it.
func (c *Client) farewell(work func(ctx context.Context)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closed {
		c.farewells.Add(1)
		c.background.Go(func() {
			defer c.farewells.Done()
			work(c.nodes.ctx)
		})
	}
}

// Cluster returns the id of the cluster that the client belongs to; 0 before a node has answered.
func (c *Client) Cluster() uint64 {
	_, cluster := c.nodes.known(0)
	return cluster
}

// Ready waits until a leader serves requests, which is the case once the cluster has formed.
func (c *Client) Ready(ctx context.Context) error {
	_, err := call(ctx, c.caller, read, probe)
	return err
}

// Found is what a key is bound to.
type Found struct {
	// Whether the key is bound. An empty value is a value.
	Exists bool
	Value  []byte
	// The revision of the write that has bound the key; 0: the key is missing.
	Revision uint64
	// The revision up to which the answer has all writes.
	AppliedIndex uint64
}

func foundOf(answer *kvpb.GetResponse) Found {
	return Found{
		Exists: answer.Value != nil, Value: answer.Value, Revision: answer.GetRevision(),
		AppliedIndex: answer.GetAppliedIndex(),
	}
}
