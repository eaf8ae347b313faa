package seshat

import (
	"github.com/seshat-kv/seshat/clients/go/seshatpb/kvpb"
)

// Command is one command of a [Pipeline]: an [Operation] or a [Txn].
type Command interface {
	isWrite() bool
	// command returns the message of the command with the number that it has in a session.
	command(session *kvpb.Session) *kvpb.PipelineCommand
	// reply returns what an answer says that is no refusal.
	reply(result *kvpb.PipelineResult) (Reply, error)
}

// Reply is the answer to one command.
type Reply struct {
	// Why there is no answer. The command has no effect on later ones.
	Err error
	// The revision of a write.
	Revision uint64
	// Whether the key of an OpDelete was bound before.
	Existed bool
	// What an OpGet has read.
	Found Found
	// The outcome of a Txn.
	Txn TxnOutcome
}

// whole returns the transaction that an operation with a lifetime is, as a Set has none.
func (o Operation) whole() (Txn, bool) {
	return Txn{Then: []Operation{o}}, o.proto.GetSet().GetLifetime() != nil
}

func (o Operation) command(session *kvpb.Session) *kvpb.PipelineCommand {
	if txn, ok := o.whole(); ok {
		return txn.command(session)
	}
	command := &kvpb.PipelineCommand{}
	switch operation := o.proto.GetOperation().(type) {
	case *kvpb.Operation_Set:
		set := &kvpb.SetRequest{Key: operation.Set.Key, Value: operation.Set.Value, Session: session}
		command.Command = &kvpb.PipelineCommand_Set{Set: set}
	case *kvpb.Operation_Get:
		command.Command = &kvpb.PipelineCommand_Get{Get: &kvpb.GetRequest{Key: operation.Get.Key}}
	case *kvpb.Operation_Delete:
		removal := &kvpb.DeleteRequest{Key: operation.Delete.Key, Session: session}
		command.Command = &kvpb.PipelineCommand_Delete{Delete: removal}
	}
	return command
}

func (o Operation) reply(result *kvpb.PipelineResult) (Reply, error) {
	if txn, ok := o.whole(); ok {
		return txn.reply(result)
	}
	switch o.proto.GetOperation().(type) {
	case *kvpb.Operation_Set:
		if set := result.GetSet(); set != nil {
			return Reply{Revision: set.GetAppliedIndex()}, nil
		}
	case *kvpb.Operation_Get:
		if get := result.GetGet(); get != nil {
			return Reply{Found: foundOf(get)}, nil
		}
	case *kvpb.Operation_Delete:
		if removal := result.GetDelete(); removal != nil {
			return Reply{Revision: removal.GetAppliedIndex(), Existed: removal.GetExisted()}, nil
		}
	}
	return Reply{}, astray()
}

func (t Txn) command(session *kvpb.Session) *kvpb.PipelineCommand {
	return &kvpb.PipelineCommand{Command: &kvpb.PipelineCommand_Txn{Txn: t.request(session, nil)}}
}

func (t Txn) reply(result *kvpb.PipelineResult) (Reply, error) {
	answer := result.GetTxn()
	if answer == nil {
		return Reply{}, astray()
	}
	outcome, err := t.outcome(answer)
	return Reply{Revision: outcome.Revision, Txn: outcome}, err
}
