package main

import (
	"context"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/known/durationpb"

	seshat "github.com/seshat-kv/seshat/clients/go"
	pb "github.com/seshat-kv/seshat/clients/go/internal/conformancepb"
)

// carryOut carries out a request.
func (p *program) carryOut(ctx context.Context, request *pb.Request) *pb.Response {
	switch action := request.GetAction().(type) {
	case *pb.Request_Echo:
		return echo(action.Echo)
	case *pb.Request_Connect:
		return p.connect(action.Connect)
	case *pb.Request_Close:
		return p.close(ctx, action.Close.GetHandle())
	case *pb.Request_Cancel:
		p.cancel(action.Cancel.GetRequest())
		return done()
	case *pb.Request_Get:
		return p.get(ctx, action.Get)
	case *pb.Request_Set:
		return p.set(ctx, action.Set)
	case *pb.Request_Delete:
		return p.delete(ctx, action.Delete)
	case *pb.Request_Txn:
		return p.txn(ctx, action.Txn)
	case *pb.Request_Scan:
		return p.scan(ctx, action.Scan)
	case *pb.Request_OpenSession:
		return p.openSession(ctx, action.OpenSession)
	case *pb.Request_AwaitLost:
		return p.awaitLost(ctx, action.AwaitLost.GetHandle())
	case *pb.Request_Watch:
		return p.watch(action.Watch)
	case *pb.Request_Next:
		return p.next(ctx, action.Next.GetHandle())
	case *pb.Request_Lock:
		return p.lock(ctx, action.Lock)
	case *pb.Request_Observe:
		return p.observe(action.Observe)
	case *pb.Request_Pipeline:
		return p.pipeline(ctx, action.Pipeline)
	}
	return &pb.Response{Outcome: &pb.Response_Unsupported{Unsupported: &pb.Unsupported{What: "the action"}}}
}

func echo(asked *pb.Echo) *pb.Response {
	kind, err := protoregistry.GlobalTypes.FindMessageByName(protoreflect.FullName(asked.GetType()))
	if err != nil {
		return failed(err)
	}
	message := kind.New().Interface()
	switch asked := asked.GetMessage().(type) {
	case *pb.Echo_Binary:
		err = proto.Unmarshal(asked.Binary, message)
	case *pb.Echo_Json:
		err = protojson.Unmarshal([]byte(asked.Json), message)
	}
	if err != nil {
		return failed(err)
	}
	binary, err := proto.MarshalOptions{Deterministic: true}.Marshal(message)
	if err != nil {
		return failed(err)
	}
	json, err := protojson.Marshal(message)
	if err != nil {
		return failed(err)
	}
	return &pb.Response{Outcome: &pb.Response_Echoed{Echoed: &pb.Echoed{Binary: binary, Json: string(json)}}}
}

func (p *program) connect(asked *pb.Connect) *pb.Response {
	var options []seshat.Option
	if asked.Timeout != nil {
		options = append(options, seshat.WithTimeout(asked.GetTimeout().AsDuration()))
	}
	if asked.OnlyCluster != nil {
		options = append(options, seshat.WithOnlyCluster(asked.GetOnlyCluster()))
	}
	client, err := seshat.New(asked.GetEndpoints(), options...)
	if err != nil {
		return failed(err)
	}
	p.put(asked.GetClient(), client)
	return done()
}

func (p *program) close(ctx context.Context, handle string) *pb.Response {
	var err error
	switch thing := get[any](p, handle).(type) {
	case *seshat.Client:
		err = thing.Close()
	case *seshat.LivingSession:
		err = thing.Close(ctx)
	case *seshat.Lock:
		err = thing.Release(ctx)
	case *news:
		thing.stop()
	}
	if err != nil {
		return failed(err)
	}
	return done()
}

// from returns who makes a call, and the context of the call.
func (p *program) from(ctx context.Context, caller *pb.Caller) (context.Context, context.CancelFunc, seshat.KV) {
	cancel := context.CancelFunc(func() {})
	if caller.GetTimeout() != nil {
		ctx, cancel = context.WithTimeout(ctx, caller.GetTimeout().AsDuration())
	}
	if handle := caller.GetSession(); handle != "" {
		return ctx, cancel, get[seshat.KV](p, handle)
	}
	return ctx, cancel, get[seshat.KV](p, caller.GetClient())
}

func (p *program) get(ctx context.Context, asked *pb.Get) *pb.Response {
	ctx, cancel, kv := p.from(ctx, asked.GetCaller())
	defer cancel()
	found, err := kv.Get(ctx, string(asked.GetKey()))
	if err != nil {
		return failed(err)
	}
	return &pb.Response{Outcome: &pb.Response_Got{Got: got(string(asked.GetKey()), found)}}
}

func (p *program) set(ctx context.Context, asked *pb.Set) *pb.Response {
	ctx, cancel, kv := p.from(ctx, asked.GetCaller())
	defer cancel()
	key := string(asked.GetKey())
	if asked.Condition != nil {
		test := p.test(asked.GetCondition())
		outcome, err := kv.SetIf(ctx, test, key, asked.GetValue(), p.lifetime(asked.GetLifetime())...)
		if err != nil || !outcome.Succeeded {
			return notHeld(outcome, err)
		}
		return written(outcome.Revision)
	}
	answer, err := kv.Set(ctx, key, asked.GetValue(), p.lifetime(asked.GetLifetime())...)
	if err != nil {
		return failed(err)
	}
	return written(answer.Revision)
}

func (p *program) delete(ctx context.Context, asked *pb.Delete) *pb.Response {
	ctx, cancel, kv := p.from(ctx, asked.GetCaller())
	defer cancel()
	key := string(asked.GetKey())
	if asked.Condition != nil {
		outcome, err := kv.DeleteIf(ctx, p.test(asked.GetCondition()), key)
		if err != nil || !outcome.Succeeded {
			return notHeld(outcome, err)
		}
		return deleted(outcome.Existed, outcome.Revision)
	}
	answer, err := kv.Delete(ctx, key)
	if err != nil {
		return failed(err)
	}
	return deleted(answer.Existed, answer.Revision)
}

func (p *program) txn(ctx context.Context, asked *pb.Txn) *pb.Response {
	ctx, cancel, kv := p.from(ctx, asked.GetCaller())
	defer cancel()
	txn := seshat.Txn{Then: p.operations(asked.GetSuccess()), Else: p.operations(asked.GetFailure())}
	for _, condition := range asked.GetConditions() {
		txn.If = append(txn.If, p.test(condition)(string(condition.GetKey())))
	}
	outcome, err := kv.Txn(ctx, txn)
	if err != nil {
		return failed(err)
	}
	branch := asked.GetFailure()
	if outcome.Succeeded {
		branch = asked.GetSuccess()
	}
	answer := &pb.TxnDone{Succeeded: outcome.Succeeded, Revision: outcome.Revision}
	for i, result := range outcome.Results {
		answer.Results = append(answer.Results, resultOf(branch[i], result))
	}
	return &pb.Response{Outcome: &pb.Response_TxnDone{TxnDone: answer}}
}

func (p *program) scan(ctx context.Context, asked *pb.Scan) *pb.Response {
	ctx, cancel, kv := p.from(ctx, asked.GetCaller())
	defer cancel()
	client, keys := kv.(*seshat.Client), seshat.Prefix(string(asked.GetPrefix()))
	options := []seshat.ScanOption{seshat.Limit(asked.GetLimit())}
	if asked.GetKeysOnly() {
		options = append(options, seshat.KeysOnly())
	}
	scanned := &pb.Scanned{}
	var err error
	if asked.GetCountOnly() {
		scanned.Count, err = client.Count(ctx, keys, options...)
	} else {
		var entries []seshat.Entry
		entries, err = client.ScanAll(ctx, keys, options...)
		scanned.Entries = entriesOf(entries)
	}
	if err != nil {
		return failed(err)
	}
	return &pb.Response{Outcome: &pb.Response_Scanned{Scanned: scanned}}
}

func (p *program) pipeline(ctx context.Context, asked *pb.Pipeline) *pb.Response {
	ctx, cancel, kv := p.from(ctx, asked.GetCaller())
	defer cancel()
	pipeline, err := kv.Pipeline(ctx, seshat.Window(1024))
	if err != nil {
		return failed(err)
	}
	defer pipeline.Close()
	var batches []*seshat.Answers
	for _, operation := range p.operations(asked.GetCommands()) {
		answers, err := pipeline.Submit(ctx, operation)
		if err != nil {
			return failed(err)
		}
		batches = append(batches, answers)
	}
	answered := &pb.Answers{}
	for i, batch := range batches {
		replies, err := batch.Wait(ctx)
		if err != nil {
			return failed(err)
		}
		answered.Results = append(answered.Results, replyOf(asked.GetCommands()[i], replies[0]))
	}
	return &pb.Response{Outcome: &pb.Response_Answers{Answers: answered}}
}

// test returns the condition on a key.
func (p *program) test(condition *pb.Condition) seshat.Test {
	switch test := condition.GetTest().(type) {
	case *pb.Condition_Exists:
		if test.Exists {
			return seshat.KeyExists
		}
		return seshat.KeyMissing
	case *pb.Condition_Revision:
		return seshat.IfRevision(test.Revision)
	case *pb.Condition_Value:
		return seshat.IfValue(test.Value)
	case *pb.Condition_Held:
		return seshat.IfHeld(get[*seshat.Lock](p, test.Held))
	case *pb.Condition_Token:
		return seshat.IfToken(test.Token.GetName(), test.Token.GetToken())
	}
	return seshat.IfAbsent()
}

func (p *program) lifetime(lifetime *pb.Lifetime) []seshat.Lifetime {
	switch lifetime := lifetime.GetLifetime().(type) {
	case *pb.Lifetime_Ttl:
		return []seshat.Lifetime{seshat.TTL(lifetime.Ttl.AsDuration())}
	case *pb.Lifetime_Owner:
		return []seshat.Lifetime{seshat.OwnedBy(get[*seshat.LivingSession](p, lifetime.Owner))}
	case *pb.Lifetime_Keep:
		return []seshat.Lifetime{seshat.KeepLifetime()}
	}
	return nil
}

func (p *program) operations(asked []*pb.Operation) []seshat.Operation {
	var operations []seshat.Operation
	for _, operation := range asked {
		switch operation := operation.GetOperation().(type) {
		case *pb.Operation_Set:
			set := operation.Set
			lifetime := p.lifetime(set.GetLifetime())
			operations = append(operations, seshat.OpSet(string(set.GetKey()), set.GetValue(), lifetime...))
		case *pb.Operation_Get:
			operations = append(operations, seshat.OpGet(string(operation.Get.GetKey())))
		case *pb.Operation_Delete:
			operations = append(operations, seshat.OpDelete(string(operation.Delete.GetKey())))
		}
	}
	return operations
}

// optional returns nil for a duration that is absent.
func optional(duration *durationpb.Duration) *time.Duration {
	if duration == nil {
		return nil
	}
	present := duration.AsDuration()
	return &present
}
