package seshat

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/seshat-kv/seshat/clients/go/seshatpb/kvpb"
)

// Nodes that are known besides the endpoints because other nodes named them.
const maxLearned = 64

// nodes is what a client knows of its nodes, and its connections to them.
type nodes struct {
	options
	endpoints []string
	// Ends when the client is closed.
	ctx context.Context
	// Held during a search for the leader: all other calls wait for its result.
	searching chan struct{}
	// Held by the claims whose state is asked for. Claims take turns, first come, first served.
	awaits chan struct{}

	mu sync.Mutex
	// The cluster that requests name; 0: none is known.
	cluster uint64
	// The node that served last, and when; empty: none.
	leader      string
	heard       time.Time
	connections map[connectionKey]*connection
	// Whether the log has a warning about another cluster.
	warned bool
	closed bool
}

type connectionKey struct {
	address string
	purpose purpose
}

func newNodes(ctx context.Context, endpoints []string, o options) *nodes {
	return &nodes{
		options: o, endpoints: endpoints, ctx: ctx, searching: make(chan struct{}, 1),
		awaits: make(chan struct{}, o.awaits), cluster: o.cluster, connections: map[connectionKey]*connection{},
	}
}

// known returns the node that served last, if that was within age (0: at any time), and the cluster.
func (n *nodes) known(age time.Duration) (address string, cluster uint64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if age > 0 && time.Since(n.heard) >= age {
		return "", n.cluster
	}
	return n.leader, n.cluster
}

// found remembers the leader.
func (n *nodes) found(address string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.leader, n.heard = address, time.Now()
}

// served notes that the node at address has just served a call, as only the leader does.
func (n *nodes) served(address string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.leader == address {
		n.heard = time.Now()
	}
}

// connected returns the nodes that calls went to, endpoints or not.
func (n *nodes) connected() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	var addresses []string
	for key := range n.connections {
		if key.purpose == forCalls {
			addresses = append(addresses, key.address)
		}
	}
	return addresses
}

// learn notes that the leader that was found first belongs to the cluster named. It returns the cluster that
// requests name.
func (n *nodes) learn(named uint64) uint64 {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.cluster == 0 {
		n.cluster = named
	}
	return n.cluster
}

// follow: the cluster former is no more, and successor was recovered from it.
func (n *nodes) follow(former, successor uint64) {
	n.mu.Lock()
	follows := n.follows && former != 0 && n.cluster == former
	if follows {
		n.cluster = successor
	}
	n.mu.Unlock()
	if follows {
		n.logger.Warn("the cluster was recovered by an operator: writes that were acknowledged before may be lost, "+
			"and its sessions are over. This client goes on with what was recovered",
			hex("former", former), hex("successor", successor))
		n.recovered(former, successor)
	}
}

// note updates what is known after a fault of a node.
func (n *nodes) note(of *node, f *fault) {
	if other := f.detail.GetOtherCluster(); other != nil {
		n.noteCluster(of, other)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if f.endsLeadership() && n.leader == of.address {
		n.leader = ""
	}
	if f.silent {
		n.retire(of)
	}
}

func (n *nodes) noteCluster(of *node, other *kvpb.OtherCluster) {
	if other.GetSuccessor() {
		n.follow(of.cluster, other.GetClusterId())
		return
	}
	n.mu.Lock()
	news := !n.warned && of.cluster != 0
	n.warned = n.warned || news
	n.mu.Unlock()
	if news {
		n.logger.Warn("an address leads to another cluster than the one that this client belongs to: it is not asked "+
			"for anything",
			slog.String("address", of.address), hex("own", of.cluster), hex("other", other.GetClusterId()))
	}
}

// dialAnew replaces the connection to a node: its address may lead to another node then. Calls that still wait on
// the old connection are not disturbed.
func (n *nodes) dialAnew(of *node) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.retire(of)
}

// retire drops the connection of a node, unless another call has replaced it already.
func (n *nodes) retire(of *node) {
	key := connectionKey{of.address, of.purpose}
	if n.connections[key] == of.connection {
		n.drop(key)
	}
}

// drop drops a connection. It is closed when its last call has ended.
func (n *nodes) drop(key connectionKey) {
	old := n.connections[key]
	delete(n.connections, key)
	old.retired = true
	if old.inUse == 0 {
		_ = old.grpc.Close()
	}
}

// node returns the node at address and a connection to it, which the caller releases.
func (n *nodes) node(p purpose, address string) (*node, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return nil, unreachable("the client is closed")
	}
	key := connectionKey{address, p}
	found := n.connections[key]
	if found == nil {
		n.makeRoom()
		made, err := dial(address, p, n.connectTimeout)
		if err != nil {
			return nil, err
		}
		n.connections[key], found = made, made
	}
	found.inUse++
	return &node{address: address, purpose: p, cluster: n.cluster, connection: found, nodes: n}, nil
}

// makeRoom drops the connections to nodes that are no endpoints when there are many.
func (n *nodes) makeRoom() {
	if len(n.connections) < 3*(len(n.endpoints)+maxLearned) {
		return
	}
	for key := range n.connections {
		if !slices.Contains(n.endpoints, key.address) {
			n.drop(key)
		}
	}
}

// hold keeps the connection for one more call.
func (n *node) hold() {
	n.nodes.mu.Lock()
	defer n.nodes.mu.Unlock()
	n.inUse++
}

// release ends one call on the connection.
func (n *node) release() {
	n.nodes.mu.Lock()
	defer n.nodes.mu.Unlock()
	n.inUse--
	if n.retired && n.inUse == 0 {
		_ = n.grpc.Close()
	}
}

// close closes all connections. Calls on them end.
func (n *nodes) close() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.closed = true
	for key, each := range n.connections {
		delete(n.connections, key)
		_ = each.grpc.Close()
	}
}

// hex is the id of a cluster, as logs show it.
func hex(key string, cluster uint64) slog.Attr {
	return slog.String(key, fmt.Sprintf("%016x", cluster))
}
