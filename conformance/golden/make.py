#!/usr/bin/env python3
"""Makes the golden vectors: what Python's protobuf makes of Seshat's messages.

    python3 -m pip install --require-hashes --requirement requirements.txt
    python3 make.py           writes one file for each message type, beside this script
    python3 make.py --check   fails if that would change anything

The schema comes from the pinned buf (tools/proto), the bytes and the canonical
JSON from the pinned protobuf, so neither shares a line with the code under test.

A file holds vectors: a name, the message as hexadecimal bytes, and the same
message as JSON. Vectors that are marked as real are messages as nodes and
clients send them, written by hand below; the others try each field's corners.
"""

import base64
import json
import subprocess
import sys
import zlib
from pathlib import Path

from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory
from google.protobuf.descriptor import FieldDescriptor as Field

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent


def schema():
    """Every message type of ours, by its full name."""
    built = subprocess.run(
        [ROOT / "tools/proto", "buf", "build", "--as-file-descriptor-set", "-o", "-#format=binpb"],
        check=True,
        stdout=subprocess.PIPE,
    ).stdout
    pool = descriptor_pool.DescriptorPool()
    types = {}
    for file in descriptor_pb2.FileDescriptorSet.FromString(built).file:
        pool.Add(file)
        if file.package.startswith("seshat."):
            for message in file.message_type:
                name = f"{file.package}.{message.name}"
                types[name] = message_factory.GetMessageClass(pool.FindMessageTypeByName(name))
    return types


def usual(field):
    """A value of `field` that no other field has."""
    n = field.number
    return {
        Field.TYPE_BOOL: True,
        Field.TYPE_BYTES: bytes([n, 0, 255]),
        Field.TYPE_FIXED32: n << 24 | 0xABC,
        Field.TYPE_FIXED64: n << 48 | 0xABC,
        Field.TYPE_INT32: -n,
        Field.TYPE_INT64: -n,
        Field.TYPE_STRING: f"field {n}: ü €",
        Field.TYPE_UINT32: 1000 + n,
        Field.TYPE_UINT64: 1000 + n,
    }[field.type]


def largest(field):
    """The value of `field` that takes the most bytes, or many."""
    return {
        Field.TYPE_BOOL: True,
        Field.TYPE_BYTES: bytes(range(256)),
        Field.TYPE_FIXED32: 2**32 - 1,
        Field.TYPE_FIXED64: 2**64 - 1,
        Field.TYPE_INT32: -(2**31),
        Field.TYPE_INT64: -(2**63),
        Field.TYPE_STRING: "\u0001\"\\/ü\U0010ffff" * 20,
        Field.TYPE_UINT32: 2**32 - 1,
        Field.TYPE_UINT64: 2**64 - 1,
    }[field.type]


# Of these types JSON says more than their fields do.
WELL_KNOWN = {
    "google.protobuf.Duration": {"usual": "3.5s", "largest": "-315576000000.999999999s"},
    "google.protobuf.Timestamp": {
        "usual": "2026-01-02T03:04:05.006Z",
        "largest": "9999-12-31T23:59:59.999999999Z",
    },
}


def fill(message, how):
    """Sets every field of `message`; of a oneof, its first branch."""
    known = WELL_KNOWN.get(message.DESCRIPTOR.full_name)
    if known:
        json_format.Parse(json.dumps(known[how.__name__]), message)
        return
    for field in message.DESCRIPTOR.fields:
        oneof = field.containing_oneof
        if oneof is None or oneof.fields[0] is field or len(oneof.fields) == 1:
            set_field(message, field, how)


def set_field(message, field, how):
    count = 3 if field.is_repeated else 1
    for at in range(count):
        if field.type == Field.TYPE_MESSAGE:
            one = getattr(message, field.name)
            if field.is_repeated:
                one = one.add()
            one.SetInParent()
            fill(one, how)
            continue
        if field.type == Field.TYPE_ENUM:
            value = field.enum_type.values[-1 if how is largest else 1].number
        else:
            value = how(field)
        if field.is_repeated:
            other = value[at:] if field.type == Field.TYPE_BYTES else value - at
            getattr(message, field.name).append(other)
        else:
            setattr(message, field.name, value)


def corners(new):
    """The messages of one type that try the corners of its fields."""
    yield "nothing", new()
    fields = new.DESCRIPTOR.fields
    if not fields:
        return
    for how in usual, largest:
        message = new()
        fill(message, how)
        yield f"every field, {how.__name__}", message
    for field in fields:
        if field.has_presence:
            message = new()
            if field.type == Field.TYPE_MESSAGE:
                getattr(message, field.name).SetInParent()
            else:
                setattr(message, field.name, field.default_value)
            yield f"{field.name}, there but empty", message
        oneof = field.containing_oneof
        if oneof is not None and oneof.fields[0] is not field:
            message = new()
            set_field(message, field, usual)
            yield f"{field.name}, usual", message


def vectors(new, real):
    for name, message in corners(new):
        yield vector(name, message)
    for name, fields in real.items():
        yield vector(name, json_format.ParseDict(fields, new())) | {"real": True}


def vector(name, message):
    return {
        "name": name,
        "hex": message.SerializeToString(deterministic=True).hex(),
        "json": json_format.MessageToDict(message),
    }


def b64(data):
    return base64.b64encode(data).decode()


TYPES = schema()


def snapshot(*records):
    """A whole snapshot: its records, each after its length, as kv.proto describes it."""
    new = TYPES["seshat.kv.v1.SnapshotRecord"]
    encoded = (json_format.ParseDict(record, new()).SerializeToString() for record in records)
    return b"".join(varint(len(record)) + record for record in encoded)


def varint(number):
    """Seven bits a byte, the lowest first; all but the last have the highest bit set."""
    low, rest = number & 0x7F, number >> 7
    return bytes([low | 0x80]) + varint(rest) if rest else bytes([low])


# Raft ids of some nodes, and a cluster.
ONE, TWO, THREE, FOUR, FIVE = (
    str(node << 48 | 0xA1B2C3D4E5F0 + node) for node in (1, 2, 3, 4, 5)
)
CLUSTER = str(0xFEED_FACE_CAFE_BEEF)
INITIAL = [
    {"id": node, "addr": f"node-{node}.example:7379", "clientAddr": f"node-{node}.example:6379"}
    for node in (1, 2, 3)
]
SET = b"\x0a\x0c\x0a\x03key\x12\x05value"
DELETE = b"\x12\x05\x0a\x03key"
SNAPSHOT = snapshot(
    {"header": {"version": 1, "pairs": "1"}},
    {"pair": {"key": b64(b"key"), "value": b64(b"value")}},
)
PAIRS = {b"city": b"Uruk", b"empty": b"", b"goddess": b"Nisaba", b"key": b"value"}
# The others are bound with the oldest revision, and for ever.
BOUND = {
    b"key": {"revision": "1790000000001043"},
    b"city": {"ttlMs": "5000", "deadlineMs": "77000"},
    b"goddess": {"owner": "8"},
}
RESULTS = [
    {"set": {}},
    {"get": {}},
    {"get": {"entry": {"key": b64(b"key"), "value": b64(b"value"), "revision": "1790000000001043"}}},
    {"get": {"entry": {"key": b64(b"city"), "revision": "1790000000001042", "ttl": "5s"}}},
    {"get": {"entry": {"key": b64(b"goddess"), "revision": "1790000000001041", "owner": "8"}}},
    {"delete": {"existed": True}},
    {"delete": {}},
]
# Its header, then members, then sessions, then claims to locks, then pairs in the order of their keys' CRC-32.
WHOLE_STATE = snapshot(
    {
        "header": {
            "version": 2, "pairs": "4", "members": "3", "sessions": "6", "protocolLevel": 5,
            "recoveredFrom": ["77", "66"], "revisionBase": "1790000000000000",
            "oldestRevision": "1790000000000500", "clockMs": "76543", "claims": "7",
        },
    },
    *({"member": member} for member in INITIAL),
    {
        "session": {
            "clientId": "7", "lastUsed": "1041", "firstOutstanding": "5",
            "answers": [
                {"sequence": "6", "appliedIndex": "1038", "set": True},
                {"sequence": "8", "appliedIndex": "1040", "existed": True},
                {"sequence": "9", "appliedIndex": "1041", "existed": False},
                {"sequence": "10", "appliedIndex": "1042", "txn": {"succeeded": True, "results": RESULTS}},
                {"sequence": "11", "appliedIndex": "1043", "answerLimit": "65536"},
                {"sequence": "12", "appliedIndex": "1044", "expiredOwner": "9"},
                {"sequence": "13", "appliedIndex": "1045", "ownedLimit": "1024"},
                {"sequence": "14", "appliedIndex": "1046", "claimed": True},
                {"sequence": "15", "appliedIndex": "1047", "released": True},
                {
                    "sequence": "16", "appliedIndex": "1048",
                    "occupied": {
                        "clientId": "8", "sequence": "3", "token": "1790000000001030",
                        "value": b64(b"value"),
                    },
                },
            ],
        },
    },
    {
        "session": {
            "clientId": "8", "lastUsed": "1042", "firstOutstanding": "1", "ttlMs": 10000,
            "deadlineMs": "87000",
        },
    },
    *(
        {"session": {"clientId": str(client_id), "lastUsed": "1045", "firstOutstanding": "4"}}
        for client_id in range(9, 13)
    ),
    {
        "claim": {
            "name": "lock", "clientId": "8", "sequence": "3", "revision": "1790000000001029",
            "token": "1790000000001030", "value": b64(b"value"),
        },
    },
    {
        "claim": {
            "name": "lock", "clientId": "8", "sequence": "4", "revision": "1790000000001031",
            "deadlineMs": "88000",
        },
    },
    *(
        {
            "claim": {
                "name": "lock", "clientId": "8", "sequence": str(sequence),
                "revision": str(1790000000001027 + sequence),
            },
        }
        for sequence in range(5, 10)
    ),
    *(
        {"pair": {"key": b64(key), "value": b64(PAIRS[key])} | BOUND.get(key, {})}
        for key in sorted(PAIRS, key=lambda key: (zlib.crc32(key) >> 20, key))
    ),
)
TXN = {
    "conditions": [
        {"key": {"key": b64(b"one"), "exists": True}},
        {"key": {"key": b64(b"two"), "exists": False}},
        {"key": {"key": b64(b"three"), "revision": "1790000000001043"}},
        {"key": {"key": b64(b"four"), "revision": "0"}},
        {"key": {"key": b64(b"five"), "value": b64(b"value")}},
        {"key": {"key": b64(b"six"), "value": ""}},
        {"lock": {"name": "seven", "token": "1790000000001042"}},
    ],
    "success": [
        {"set": {"key": b64(b"one"), "value": b64(b"uno")}},
        {"get": {"key": b64(b"two")}},
        {"delete": {"key": b64(b"three")}},
    ],
    "failure": [
        {"get": {"key": b64(b"one")}},
        {"set": {"key": b64(b"two")}},
    ],
}
CHANGES = [
    ("CONF_CHANGE_TYPE_ADD_NODE", THREE),
    ("CONF_CHANGE_TYPE_REMOVE_NODE", TWO),
    ("CONF_CHANGE_TYPE_ADD_LEARNER_NODE", FOUR),
]
LIMITS = {
    "maxKeyBytes": "4096", "maxValueBytes": "1048576", "maxAppendBytes": "524288",
    "maxMessageBytes": "4194304",
}


def change_of(kind, raft_id):
    """A change of one process, in the only form that a leader proposes."""
    return {
        "transition": "CONF_CHANGE_TRANSITION_AUTO",
        "changes": [{"changeType": kind, "raftId": raft_id}],
    }


def to(receiver, **fields):
    return fields | {"clusterId": CLUSTER, "to": receiver}


REAL = {
    "seshat.raft.v1.RequestVoteRequest": {
        "a candidate asks for a vote": to(
            TWO, term="8", candidateId=ONE, lastLogIndex="1042", lastLogTerm="7",
            commitIndex="1040", commitTerm="6", campaign="CAMPAIGN_KIND_ELECTION",
        ),
        "a node asks how a vote would go": to(
            THREE, term="8", candidateId=ONE, lastLogIndex="1042", lastLogTerm="7", preVote=True,
            commitIndex="1040", commitTerm="7", campaign="CAMPAIGN_KIND_ELECTION",
        ),
        "the leader has asked the candidate to take over": to(
            TWO, term="2", candidateId=THREE, lastLogIndex="1", lastLogTerm="1",
            commitIndex="1", commitTerm="1", campaign="CAMPAIGN_KIND_TRANSFER", priority="-3",
        ),
    },
    "seshat.raft.v1.RequestVoteResponse": {
        "a vote": to(ONE, term="8", voterId=TWO, voteGranted=True),
        "a pre-vote": to(ONE, term="8", voterId=TWO, voteGranted=True, preVote=True),
        "no vote": to(ONE, term="9", voterId=THREE, commitIndex="1041", commitTerm="8"),
        "no pre-vote for a candidate of an earlier term": to(
            ONE, term="9", voterId=THREE, preVote=True
        ),
    },
    "seshat.raft.v1.AppendEntriesRequest": {
        "a leader begins": to(
            TWO, term="8", leaderId=ONE, prevLogIndex="1042", prevLogTerm="7",
            entries=[{"term": "8", "index": "1043"}], leaderCommit="1042",
        ),
        "two writes": to(
            TWO, term="8", leaderId=ONE, prevLogIndex="1043", prevLogTerm="8",
            entries=[
                {"term": "8", "index": "1044", "command": b64(SET)},
                {"term": "8", "index": "1045", "command": b64(DELETE)},
            ],
            leaderCommit="1043",
        ),
        "a change of one member": to(
            TWO, term="8", leaderId=ONE, prevLogIndex="1045", prevLogTerm="8",
            entries=[{
                "term": "8", "index": "1046", "context": b64(b"why"),
                "confChangeV2": change_of("CONF_CHANGE_TYPE_ADD_LEARNER_NODE", THREE),
            }],
            leaderCommit="1045",
        ),
        "every change that there is": to(
            TWO, term="9", leaderId=ONE, prevLogIndex="1048", prevLogTerm="8",
            entries=[
                {"term": "8", "index": "1049", "command": b64(DELETE), "context": b64(b"no")},
                *(
                    {
                        "term": "9", "index": str(1050 + at), "context": b64(b"outer"),
                        "confChangeV2": change_of(kind, raft_id),
                    }
                    for at, (kind, raft_id) in enumerate(CHANGES)
                ),
            ],
            leaderCommit="1047",
        ),
        "a probe of an empty log": to(TWO, term="8", leaderId=ONE, leaderCommit="1048"),
    },
    "seshat.raft.v1.AppendEntriesResponse": {
        "the entries are there": to(
            ONE, term="8", success=True, followerId=TWO, index="1045", commitIndex="1043"
        ),
        "the logs differ, and a snapshot is wanted": to(
            ONE, term="8", followerId=TWO, index="1043", rejectHintIndex="1040",
            rejectHintTerm="6", commitIndex="1030", requestSnapshot="1035",
        ),
        "a snapshot is wanted": to(
            ONE, term="8", followerId=TWO, index="1043", rejectHintIndex="1045",
            rejectHintTerm="8", requestSnapshot="1045",
        ),
        "the leader is stale": to(ONE, term="9", success=True, followerId=TWO),
    },
    "seshat.raft.v1.HeartbeatRequest": {
        "the leader is there": to(TWO, term="8", leaderId=ONE, leaderCommit="1045"),
        "reads wait": to(
            TWO, term="8", leaderId=ONE, leaderCommit="1045", readContext=b64(b"\x00\x01\x02")
        ),
    },
    "seshat.raft.v1.HeartbeatResponse": {
        "the follower is there": to(ONE, term="8", followerId=TWO, commitIndex="1045"),
        "reads may go on": to(
            ONE, term="8", followerId=TWO, commitIndex="1045", readContext=b64(b"\x00\x01\x02")
        ),
    },
    "seshat.raft.v1.InstallSnapshotRequest": {
        "a small state in one chunk": to(
            THREE, term="8", leaderId=ONE, lastIncludedIndex="1045", lastIncludedTerm="8",
            data=b64(SNAPSHOT), done=True, totalSize=str(len(SNAPSHOT)),
            crc32=zlib.crc32(SNAPSHOT),
            confState={"voters": [ONE, TWO], "learners": [THREE]},
        ),
        "a state with members, sessions and pairs": to(
            THREE, term="8", leaderId=ONE, lastIncludedIndex="1045", lastIncludedTerm="7",
            data=b64(WHOLE_STATE), done=True, totalSize=str(len(WHOLE_STATE)),
            crc32=zlib.crc32(WHOLE_STATE),
            confState={"voters": [ONE, TWO], "learners": [FIVE]},
        ),
    },
    "seshat.raft.v1.TimeoutNowRequest": {
        "take over": to(TWO, term="8", leaderId=ONE),
    },
    "seshat.raft.v1.InstallSnapshotResponse": {
        "the state is there": {
            "term": "8",
            "log": to(ONE, term="8", success=True, followerId=THREE, index="1045"),
        },
    },
    "seshat.raft.v1.IdentifyRequest": {
        "a fresh process": {
            "from": ONE, "state": "FORMATION_STATE_FRESH", "members": INITIAL,
        },
        "a survivor": {
            "from": TWO, "clusterId": CLUSTER, "state": "FORMATION_STATE_STARTED",
            "members": INITIAL,
        },
    },
    "seshat.raft.v1.IdentifyResponse": {
        "a fresh process": {"raftId": ONE, "state": "FORMATION_STATE_FRESH"},
        "a bound process": {
            "raftId": ONE, "state": "FORMATION_STATE_BOUND", "clusterId": CLUSTER,
        },
        "a leader": {
            "raftId": ONE, "state": "FORMATION_STATE_STARTED", "clusterId": CLUSTER, "term": "8",
            "role": "ROLE_LEADER", "leaderId": ONE, "commitIndex": "1045", "appliedIndex": "1045",
            "keys": "12", "joinedAt": "2026-01-02T03:04:05.006Z", "lastLogIndex": "1047",
            "lastLogTerm": "8", "voters": [ONE, TWO], "learners": [THREE], "members": [1, 2, 3],
            "membersKnown": True,
            "following": {"lastLogIndex": "1046", "commitIndex": "1040", "acknowledgedBy": [ONE, TWO]},
            "doubled": [{"one": TWO, "other": THREE}],
        },
        "a learner": {
            "raftId": THREE, "state": "FORMATION_STATE_STARTED", "clusterId": CLUSTER, "term": "8",
            "role": "ROLE_LEARNER", "leaderId": ONE,
            "receiving": {"receivedBytes": "1048576", "totalBytes": "5000000", "leaderId": ONE,
                          "term": "8", "lastIncludedIndex": "1040"},
        },
        "all that a process can say": {
            "raftId": TWO, "state": "FORMATION_STATE_STARTED", "clusterId": CLUSTER, "term": "8",
            "role": "ROLE_FOLLOWER", "leaderId": ONE, "commitIndex": "1045",
            "appliedIndex": "1044", "keys": "12", "joinedAt": "2026-01-02T03:04:05.006Z",
            "lastLogIndex": "1047", "voters": [ONE, TWO], "learners": [THREE],
            "members": [1, 2, 3], "membersKnown": True,
            "receiving": {"receivedBytes": "1048576", "totalBytes": "5000000", "leaderId": ONE,
                          "term": "8", "lastIncludedIndex": "1040"},
            "lastLogTerm": "7", "recoveryAttempt": "4", "recovering": True,
            "following": {
                "lastLogIndex": "1046", "commitIndex": "1040", "acknowledgedBy": [ONE, TWO],
            },
            "doubled": [{"one": THREE, "other": FOUR}], "protocolLevel": 6,
            "clusterProtocolLevel": 5, "unreadableIndex": "1048", "limits": LIMITS,
            "unconfirmed": True, "differsFrom": 3, "stateBytes": "2000",
            "maxStateBytes": "3000",
            "reach": {
                "asOfIndex": "1001", "reached": [ONE],
                "missed": [
                    {"nodeId": 3, "asks": True},
                    {"nodeId": 4, "answering": "ANSWERING_REFUSING"},
                    {"nodeId": 5, "answering": "ANSWERING_NOT_GRPC"},
                    {"nodeId": 6, "answering": "ANSWERING_CLIENT_PORT"},
                    {"nodeId": 7, "answering": "ANSWERING_OTHER_SERVICE"},
                    {"nodeId": 8, "answering": "ANSWERING_OTHER_NODE", "otherNodeId": 3},
                    {"nodeId": 9, "answering": "ANSWERING_HUNG"},
                ],
            },
            "time": "1790000000000001",
        },
        "only the members are known": {
            "raftId": TWO, "state": "FORMATION_STATE_BOUND", "clusterId": CLUSTER,
            "membersKnown": True,
        },
        "only a recovery is under way": {
            "raftId": TWO, "state": "FORMATION_STATE_BOUND", "clusterId": CLUSTER,
            "recovering": True,
        },
        "outside, without a member that it knows": {
            "raftId": THREE, "state": "FORMATION_STATE_FRESH", "unconfirmed": True,
        },
    },
    "seshat.raft.v1.YieldRecoveryRequest": {
        "the first attempt": to(
            TWO, claimantId=ONE, attempt="1", lastLogTerm="8", lastLogIndex="1047", votes=True,
            commitIndex="1045",
        ),
    },
    "seshat.raft.v1.YieldRecoveryResponse": {
        "yields": {"yielded": True},
        "does not": {"reason": "has more"},
    },
    "seshat.raft.v1.OfferRequest": {
        "three members": to(
            TWO, coordinatorId=ONE, members=[ONE, TWO, THREE], initialMembers=INITIAL,
        ),
        "one of three is missing": to(
            TWO, coordinatorId=ONE, members=[ONE, TWO], initialMembers=INITIAL,
        ),
        "members of a former cluster are gone": to(
            TWO, coordinatorId=ONE, members=[ONE, TWO, THREE], initialMembers=INITIAL,
            absent=[4, 5], protocolLevel=6, limits=LIMITS, revisionBase="1790000000000000",
        ),
    },
    "seshat.raft.v1.NotMe": {
        "another incarnation": {"raftId": TWO, "clusterId": CLUSTER},
        "no cluster yet": {"raftId": TWO},
    },
    "seshat.kv.v1.Command": {
        "binds": {"set": {"key": b64(b"key"), "value": b64(b"value")}},
        "binds to nothing": {"set": {"key": b64(b"key")}},
        "removes": {"delete": {"key": b64(b"key")}},
        "adds a member": {"addMember": {"member": INITIAL[2]}},
        "removes a member": {"removeMember": {"id": 3}},
        "opens a session": {"openSession": {"clientId": "7"}},
        "opens a living session": {"openSession": {"clientId": "7", "ttlMs": 10000}},
        "closes a session": {"closeSession": {"clientId": "7"}},
        "advances the clock": {"clock": {"stepMs": 250}},
        "advances the clock and renews": {"clock": {"stepMs": 500, "renewed": ["7", "8"]}},
        "binds with every lifetime": {
            "txn": {
                "success": [
                    {"set": {"key": b64(b"one"), "ttl": "1.500s"}},
                    {"set": {"key": b64(b"two"), "owner": "7"}},
                    {"set": {"key": b64(b"three"), "keep": {}}},
                ],
            },
        },
        "raises the level": {"raiseProtocolLevel": {"level": 6}},
        "raises the level from the first": {
            "raiseProtocolLevel": {"level": 2, "revision": "1790000000000007"},
        },
        "carries out a transaction": {"txn": TXN},
        "carries out a transaction once": {
            "txn": {
                "success": [{"delete": {"key": b64(b"key")}}],
                "session": {"clientId": "7", "sequence": "9", "firstOutstanding": "5"},
            },
        },
        "claims a lock": {
            "acquire": {
                "name": "lock", "value": b64(b"value"),
                "session": {"clientId": "7", "sequence": "9", "firstOutstanding": "5"},
            },
        },
        "claims a lock and waits a minute": {
            "acquire": {
                "name": "lock", "maxWaitMs": "60000",
                "session": {"clientId": "7", "sequence": "9", "firstOutstanding": "5"},
            },
        },
        "releases a lock": {
            "release": {
                "name": "lock",
                "session": {"clientId": "7", "sequence": "9", "firstOutstanding": "5"},
            },
        },
        "removes once": {
            "delete": {"key": b64(b"key")},
            "session": {"clientId": "7", "sequence": "9", "firstOutstanding": "5"},
        },
        "binds once": {
            "set": {"key": b64(b"key"), "value": b64(b"value")},
            "session": {"clientId": "7", "sequence": "9", "firstOutstanding": "5"},
        },
    },
    "seshat.kv.v1.ErrorDetail": {
        "ask the leader": {
            "applied": "APPLIED_NO",
            "notLeader": {"leaderId": 2, "leaderAddr": "node-2.example:6379"},
        },
        "no node leads": {"applied": "APPLIED_NO", "notLeader": {}},
        "it may have happened": {"applied": "APPLIED_UNKNOWN", "noQuorum": {}},
        "cut off": {"applied": "APPLIED_NO", "noQuorum": {"cutOff": True}},
        "overloaded": {
            "applied": "APPLIED_NO", "overloaded": {"what": "max_pending_requests", "limit": "7"},
        },
        "full": {
            "applied": "APPLIED_NO", "full": {"what": "max_state_bytes", "limit": "8", "nodeId": 3},
        },
        "too large for a member": {
            "applied": "APPLIED_NO", "tooLarge": {"what": "key", "limit": "4096", "nodeId": 3},
        },
        "forming": {"applied": "APPLIED_NO", "forming": {"waitingFor": "node 2"}},
        "invalid": {
            "applied": "APPLIED_NO", "invalidRequest": {"field": "key", "rule": "not empty"},
        },
        "not now": {"applied": "APPLIED_NO", "failedPrecondition": {"rule": "heal first"}},
        "no such session": {"applied": "APPLIED_UNKNOWN", "sessionExpired": {"clientId": "7"}},
        "of another cluster": {
            "applied": "APPLIED_NO", "otherCluster": {"clusterId": CLUSTER, "successor": True},
        },
        "shutting down": {"applied": "APPLIED_NO", "shuttingDown": {}},
    },
    "seshat.kv.v1.GetResponse": {
        "missing": {"appliedIndex": "1045"},
        "present and empty": {"value": "", "appliedIndex": "1045"},
        "bound by a write": {
            "value": b64(b"value"), "appliedIndex": "1790000000001045",
            "revision": "1790000000001043",
        },
    },
    "seshat.kv.v1.ScanRequest": {
        "a prefix": {"range": {"prefix": b64(b"city/")}},
        "every key, counted": {"range": {"prefix": ""}, "countOnly": True},
        "one key": {"range": {"key": b64(b"key")}, "clusterId": CLUSTER},
        "some keys of an interval": {
            "range": {"interval": {"start": b64(b"a"), "end": b64(b"b")}}, "limit": "10",
            "keysOnly": True,
        },
        "an interval without an end": {"range": {"interval": {"start": b64(b"a")}}},
    },
    "seshat.kv.v1.ScanResponse": {
        "a part": {
            "entries": [
                {"key": b64(b"key"), "value": b64(b"value"), "revision": "1790000000001043"},
            ],
            "revision": "1790000000001045", "more": True,
        },
        "the last part": {"revision": "1790000000001045", "count": "7"},
    },
    "seshat.kv.v1.TxnRequest": {
        "conditions, and two branches": TXN,
        "in a session, for a cluster": {
            "success": [{"delete": {"key": b64(b"key")}}], "clusterId": CLUSTER,
            "session": {"clientId": "7", "sequence": "9", "firstOutstanding": "5"},
        },
    },
    "seshat.kv.v1.OpenSessionRequest": {
        "a session that lives": {"clientId": "7", "ttl": "10s"},
    },
    "seshat.kv.v1.OpenSessionResponse": {
        "a session that lives": {"appliedIndex": "1790000000001043", "ttl": "10s"},
    },
    "seshat.kv.v1.KeepAliveRequest": {
        "a session": {"clientId": "7", "clusterId": CLUSTER},
    },
    "seshat.kv.v1.KeepAliveResponse": {
        "renewed": {"ttl": "10s", "revision": "1790000000001043"},
    },
    "seshat.kv.v1.ListSessionsResponse": {
        "a page": {
            "sessions": [
                {"clientId": "7", "ttl": "10s", "remaining": "9.750s", "ownedKeys": "3"},
            ],
            "more": True, "revision": "1790000000001043",
        },
    },
    "seshat.lock.v1.AcquireRequest": {
        "claims a lock": {
            "name": "lock", "value": b64(b"value"), "clusterId": CLUSTER,
            "session": {"clientId": "7", "sequence": "9", "firstOutstanding": "5"},
        },
        "does not wait": {
            "name": "lock", "maxWait": "0s",
            "session": {"clientId": "7", "sequence": "9", "firstOutstanding": "5"},
        },
    },
    "seshat.lock.v1.AcquireResponse": {
        "holds it": {"held": {"token": "1790000000001030"}},
        "waits": {"waiting": {"ahead": "2"}},
        "occupied": {
            "occupied": {
                "holder": {
                    "clientId": "8", "claim": "3", "token": "1790000000001030",
                    "value": b64(b"value"),
                },
            },
        },
        "gone": {"gone": {}, "clusterId": CLUSTER},
    },
    "seshat.lock.v1.AwaitRequest": {
        "a claim": {"name": "lock", "clientId": "7", "claim": "9"},
    },
    "seshat.lock.v1.AwaitResponse": {
        "holds it": {"held": {"token": "1790000000001030"}},
        "waits": {"waiting": {"ahead": "2"}},
        "gone": {"gone": {}},
    },
    "seshat.lock.v1.ReleaseRequest": {
        "a claim": {
            "name": "lock",
            "session": {"clientId": "7", "sequence": "9", "firstOutstanding": "5"},
        },
    },
    "seshat.lock.v1.ListLocksResponse": {
        "a page": {
            "locks": [
                {
                    "name": "lock", "waiting": "1",
                    "holder": {"clientId": "8", "claim": "3", "token": "1790000000001030"},
                },
            ],
            "more": True, "revision": "1790000000001043",
        },
    },
    "seshat.kv.v1.TxnResponse": {
        "every kind of result": {
            "succeeded": True, "results": RESULTS, "revision": "1790000000001043",
        },
        "a condition did not hold": {"revision": "1790000000001043", "clusterId": CLUSTER},
    },
    "seshat.kv.v1.WatchRequest": {
        "every key, for a client without a state": {"range": {"prefix": ""}},
        "a prefix, from where the client stands": {
            "range": {"prefix": b64(b"city/")}, "clusterId": CLUSTER,
            "afterRevision": "1790000000001043", "progressInterval": "5s",
        },
        "the keys alone, after the client's own write": {
            "range": {"key": b64(b"key")}, "minRevision": "1790000000001045", "keysOnly": True,
        },
    },
    "seshat.kv.v1.WatchResponse": {
        "the beginning": {"reset": {}},
        "the state, and a key that has gone": {
            "state": {
                "entries": [
                    {"key": b64(b"key"), "value": b64(b"value"), "revision": "1790000000001043"},
                ],
                "deleted": [b64(b"gone")],
            },
        },
        "complete": {"synced": {"clusterId": CLUSTER, "revision": "1790000000001045"}},
        "a part of a transaction": {
            "events": {
                "revision": "1790000000001046", "more": True,
                "events": [
                    {
                        "cause": "CAUSE_SET",
                        "entry": {
                            "key": b64(b"key"), "value": b64(b"new"),
                            "revision": "1790000000001046",
                        },
                    },
                    {
                        "cause": "CAUSE_DELETED",
                        "entry": {"key": b64(b"gone"), "revision": "1790000000001046"},
                    },
                ],
            },
        },
        "nothing has changed": {"progress": {"revision": "1790000000001050"}},
    },
}


def main():
    assert REAL.keys() <= TYPES.keys(), REAL.keys() - TYPES.keys()
    files = {}
    for name, new in TYPES.items():
        found = {"message": name, "vectors": list(vectors(new, REAL.get(name, {})))}
        files[HERE / f"{name}.json"] = json.dumps(found, ensure_ascii=False, indent=2) + "\n"
    there = {path: path.read_text() for path in HERE.glob("*.json")}
    if sys.argv[1:] == ["--check"]:
        changed = {path.name for path, _ in files.items() ^ there.items()}
        sys.exit(f"not as make.py makes them: {sorted(changed)}" if changed else 0)
    if sys.argv[1:]:
        sys.exit(__doc__)
    for path in there.keys() - files.keys():
        path.unlink()
    for path, content in files.items():
        path.write_text(content)


if __name__ == "__main__":
    main()
