//! A node refuses each request with a field that it does not know, in whichever message, and reads every
//! encoding of the fields that it knows.

use std::collections::BTreeMap;
use std::fmt::Debug;

use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::TestRunner;
use prost::Message as _;
use prost_reflect::ReflectMessage as _;
use prost_reflect::{
    DescriptorPool, DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, Value,
};
use seshat_codec::Request;
use seshat_conformance::{any, config};
use seshat_proto::FILE_DESCRIPTOR_SET;
use seshat_proto::{admin::v1 as admin, kv::v1 as kv, lock::v1 as lock};
use tonic::Code;

/// An encoder that makes use of all freedom that protobuf gives: the order of the fields, numbers longer than
/// necessary, values that are replaced, messages in parts, lists that are packed in part.
struct Free {
    random: u64,
    /// How many messages come before the one that gets an unknown field.
    until_unknown: Option<usize>,
    /// The complaint about that field.
    unknown: Option<String>,
}

impl Free {
    fn new(random: u64, until_unknown: Option<usize>) -> Self {
        Self {
            random,
            until_unknown,
            unknown: None,
        }
    }

    /// A number below `bound`.
    fn draw(&mut self, bound: usize) -> usize {
        // SplitMix64.
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.random ^ (self.random >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        usize::try_from((mixed >> 32) % bound as u64).unwrap()
    }

    fn varint(&mut self, mut value: u64, out: &mut Vec<u8>) {
        let longest = out.len() + 10;
        while value >= 0x80 || out.len() + 1 < longest && self.draw(4) == 0 {
            out.push(u8::try_from(value & 0x7f).unwrap() | 0x80);
            value >>= 7;
        }
        out.push(u8::try_from(value).unwrap());
    }

    fn key(&mut self, number: u32, wire_type: u64, out: &mut Vec<u8>) {
        self.varint(u64::from(number) << 3 | wire_type, out);
    }

    fn delimited(&mut self, number: u32, content: &[u8], out: &mut Vec<u8>) {
        self.key(number, 2, out);
        self.varint(content.len() as u64, out);
        out.extend(content);
    }

    fn message(&mut self, message: &DynamicMessage) -> Vec<u8> {
        let descriptor = message.descriptor();
        let mut parts = Vec::new();
        match &mut self.until_unknown {
            Some(0) => {
                self.until_unknown = None;
                parts.push(self.unknown_field(&descriptor));
            }
            Some(more) => *more -= 1,
            None => {}
        }
        for field in descriptor.fields() {
            // The default value may be there, too.
            let absent = field.supports_presence() || field.is_list() || self.draw(2) == 0;
            if message.has_field(&field) || !absent {
                parts.push(self.field(&field, &message.get_field(&field)));
            }
        }
        let mut out = Vec::new();
        while !parts.is_empty() {
            let next = self.draw(parts.len());
            out.extend(parts.swap_remove(next));
        }
        out
    }

    fn unknown_field(&mut self, message: &MessageDescriptor) -> Vec<u8> {
        let number = loop {
            let highest = [40, 3000, (1 << 29) - 1][self.draw(3)];
            let number = u32::try_from(self.draw(highest) + 1).unwrap();
            if message.get_field(number).is_none() {
                break number;
            }
        };
        let name = message.full_name();
        self.unknown = Some(format!("field {number} of {name} is not known"));
        let mut out = Vec::new();
        match self.draw(4) {
            0 => {
                self.key(number, 0, &mut out);
                self.varint(7, &mut out);
            }
            1 => {
                self.key(number, 1, &mut out);
                out.extend([7; 8]);
            }
            2 => self.delimited(number, b"later", &mut out),
            _ => {
                self.key(number, 5, &mut out);
                out.extend([7; 4]);
            }
        }
        out
    }

    fn field(&mut self, field: &FieldDescriptor, value: &Value) -> Vec<u8> {
        let mut out = Vec::new();
        match value {
            Value::List(items) if field.is_packed() => self.list(field, items, &mut out),
            Value::List(items) => {
                for item in items {
                    self.single(field, item, &mut out);
                }
            }
            value => {
                // A part of a message that adds nothing, or a value that the last one replaces.
                if self.draw(3) == 0 {
                    let default = Value::default_value_for_field(field);
                    self.single(field, &default, &mut out);
                }
                self.single(field, value, &mut out);
            }
        }
        out
    }

    /// Some of the numbers packed, others not.
    fn list(&mut self, field: &FieldDescriptor, mut items: &[Value], out: &mut Vec<u8>) {
        while !items.is_empty() {
            let (now, later) = items.split_at(self.draw(items.len()) + 1);
            items = later;
            if self.draw(2) == 0 {
                now.iter().for_each(|item| self.single(field, item, out));
                continue;
            }
            let mut packed = Vec::new();
            for item in now {
                self.varint(varint_of(item).unwrap(), &mut packed);
            }
            self.delimited(field.number(), &packed, out);
        }
    }

    fn single(&mut self, field: &FieldDescriptor, value: &Value, out: &mut Vec<u8>) {
        let number = field.number();
        match (field.kind(), value) {
            (_, Value::Message(inner)) => {
                let content = self.message(inner);
                self.delimited(number, &content, out);
            }
            (_, Value::Bytes(content)) => self.delimited(number, content, out),
            (_, Value::String(content)) => self.delimited(number, content.as_bytes(), out),
            (Kind::Fixed64, Value::U64(value)) => {
                self.key(number, 1, out);
                out.extend(value.to_le_bytes());
            }
            // prost keeps a value that it does not know, and the codec does not look at it.
            (Kind::Enum(_), _) => panic!("{}: refuse unknown values", field.full_name()),
            (_, value) => {
                let value = varint_of(value);
                self.key(number, 0, out);
                self.varint(value.unwrap_or_else(|| panic!("{field:?}")), out);
            }
        }
    }
}

fn varint_of(value: &Value) -> Option<u64> {
    match value {
        Value::Bool(value) => Some(u64::from(*value)),
        Value::U32(value) => Some(u64::from(*value)),
        Value::U64(value) => Some(*value),
        Value::I32(value) => Some(i64::from(*value).cast_unsigned()),
        Value::I64(value) => Some(value.cast_unsigned()),
        _ => None,
    }
}

/// The number of messages in `message`, itself included.
fn messages(message: &DynamicMessage) -> usize {
    fn within(value: &Value) -> usize {
        match value {
            Value::Message(inner) => messages(inner),
            Value::List(items) => items.iter().map(within).sum(),
            _ => 0,
        }
    }
    1 + message
        .fields()
        .map(|(_, value)| within(value))
        .sum::<usize>()
}

/// Takes any request of the type `R` through the decoder of a node, with and without an unknown field.
fn check<R: Request + PartialEq + Debug>(descriptor: &MessageDescriptor) {
    let request = any::message(descriptor);
    let cases = (request, any::<u64>(), any::<Index>());
    let result = TestRunner::new(config(128)).run(&cases, |(request, random, at)| {
        let typed = R::decode(request.encode_to_vec().as_slice()).unwrap();
        let known = Free::new(random, None).message(&request);
        let read = seshat_codec::decode::<R>(known.as_slice());
        prop_assert_eq!(read.map_err(|status| status.to_string()), Ok(typed));

        let mut free = Free::new(random, Some(at.index(messages(&request))));
        let later = free.message(&request);
        prop_assert!(R::decode(later.as_slice()).is_ok());
        let status = seshat_codec::decode::<R>(later.as_slice()).unwrap_err();
        prop_assert_eq!(status.code(), Code::Unimplemented);
        let unknown = free.unknown.unwrap();
        prop_assert!(
            status.message().starts_with(&unknown),
            "{unknown}: {status}"
        );
        Ok(())
    });
    if let Err(failure) = result {
        panic!("{}: {failure}", descriptor.full_name());
    }
}

#[test]
fn every_request_is_understood_whole_or_refused() {
    type Check = fn(&MessageDescriptor);
    let checks: [(&str, Check); 23] = [
        ("AddMemberRequest", check::<admin::AddMemberRequest>),
        ("FormRequest", check::<admin::FormRequest>),
        ("RecoverRequest", check::<admin::RecoverRequest>),
        ("RemoveMemberRequest", check::<admin::RemoveMemberRequest>),
        ("StatusRequest", check::<admin::StatusRequest>),
        (
            "TransferLeadershipRequest",
            check::<admin::TransferLeadershipRequest>,
        ),
        ("DeleteRequest", check::<kv::DeleteRequest>),
        ("GetRequest", check::<kv::GetRequest>),
        ("OpenSessionRequest", check::<kv::OpenSessionRequest>),
        ("PipelineRequest", check::<kv::PipelineRequest>),
        ("ScanRequest", check::<kv::ScanRequest>),
        ("KeepAliveRequest", check::<kv::KeepAliveRequest>),
        ("CloseSessionRequest", check::<kv::CloseSessionRequest>),
        ("ListSessionsRequest", check::<kv::ListSessionsRequest>),
        ("AcquireRequest", check::<lock::AcquireRequest>),
        ("AwaitRequest", check::<lock::AwaitRequest>),
        ("InspectRequest", check::<lock::InspectRequest>),
        ("ListLocksRequest", check::<lock::ListLocksRequest>),
        ("ObserveRequest", check::<lock::ObserveRequest>),
        ("ReleaseRequest", check::<lock::ReleaseRequest>),
        ("SetRequest", check::<kv::SetRequest>),
        ("TxnRequest", check::<kv::TxnRequest>),
        ("WatchRequest", check::<kv::WatchRequest>),
    ];
    let schema = DescriptorPool::decode(FILE_DESCRIPTOR_SET).unwrap();
    let of_clients = schema
        .services()
        .filter(|service| service.package_name() != "seshat.raft.v1");
    let mut requests: BTreeMap<_, _> = of_clients
        .flat_map(|service| service.methods().map(|it| it.input()).collect::<Vec<_>>())
        .map(|request| (request.name().to_owned(), request))
        .collect();
    for (name, check) in checks {
        check(&requests.remove(name).expect(name));
    }
    assert!(requests.is_empty(), "not checked: {requests:?}");
}
