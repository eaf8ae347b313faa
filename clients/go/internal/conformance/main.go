// Command conformance is the program that the conformance runner drives: a thin layer over the client.
package main

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log"
	"os"
	"sync"

	"google.golang.org/protobuf/encoding/protodelim"

	pb "github.com/seshat-kv/seshat/clients/go/internal/conformancepb"
)

func main() {
	p := &program{
		output: bufio.NewWriter(os.Stdout), handles: map[string]any{}, running: map[uint64]context.CancelFunc{},
	}
	input := bufio.NewReader(os.Stdin)
	for {
		request := &pb.Request{}
		err := protodelim.UnmarshalOptions{MaxSize: -1}.UnmarshalFrom(input, request)
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			log.Fatalf("the input is no request: %v", err)
		}
		p.begin(request)
	}
}

// program has what requests name by handles, and the requests that are under way.
type program struct {
	mu      sync.Mutex
	output  *bufio.Writer
	handles map[string]any
	running map[uint64]context.CancelFunc
}

// begin carries out a request in the background.
func (p *program) begin(request *pb.Request) {
	ctx, cancel := context.WithCancel(context.Background())
	p.mu.Lock()
	p.running[request.GetId()] = cancel
	p.mu.Unlock()
	go func() {
		response := p.carryOut(ctx, request)
		cancel()
		response.Id = request.GetId()
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.running, response.Id)
		if _, err := protodelim.MarshalTo(p.output, response); err != nil {
			log.Fatalf("cannot write a response: %v", err)
		}
		if err := p.output.Flush(); err != nil {
			log.Fatalf("cannot write a response: %v", err)
		}
	}()
}

func (p *program) cancel(request uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if cancel := p.running[request]; cancel != nil {
		cancel()
	}
}

func (p *program) put(handle string, thing any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.handles[handle] = thing
}

// get returns what a handle names.
func get[T any](p *program, handle string) T {
	p.mu.Lock()
	defer p.mu.Unlock()
	thing, ok := p.handles[handle].(T)
	if !ok {
		log.Panicf("%q names a %T", handle, p.handles[handle])
	}
	return thing
}
