//! Arbitrary messages of any type: strategies made from the schema.

use proptest::collection::vec;
use proptest::prelude::*;
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, Value};

/// Arbitrary messages of the type `descriptor`: each field may be set, and at most one of a oneof.
pub fn message(descriptor: &MessageDescriptor) -> BoxedStrategy<DynamicMessage> {
    let empty = DynamicMessage::new(descriptor.clone());
    descriptor
        .fields()
        .fold(Just(empty).boxed(), |messages, field| {
            let set = prop::option::weighted(0.7, content(&field));
            (messages, set)
                .prop_map(move |(mut message, value)| {
                    if let Some(value) = value {
                        message.set_field(&field, value);
                    }
                    message
                })
                .boxed()
        })
}

fn content(field: &FieldDescriptor) -> BoxedStrategy<Value> {
    if field.is_list() {
        return vec(single(&field.kind()), 0..4)
            .prop_map(Value::List)
            .boxed();
    }
    single(&field.kind())
}

fn single(kind: &Kind) -> BoxedStrategy<Value> {
    match kind {
        Kind::Bool => any::<bool>().prop_map(Value::Bool).boxed(),
        Kind::Int32 => any::<i32>().prop_map(Value::I32).boxed(),
        Kind::Int64 => any::<i64>().prop_map(Value::I64).boxed(),
        Kind::Uint32 | Kind::Fixed32 => any::<u32>().prop_map(Value::U32).boxed(),
        Kind::Uint64 | Kind::Fixed64 => any::<u64>().prop_map(Value::U64).boxed(),
        Kind::String => any::<String>().prop_map(Value::String).boxed(),
        Kind::Bytes => vec(any::<u8>(), 0..40)
            .prop_map(|bytes| Value::Bytes(bytes.into()))
            .boxed(),
        Kind::Enum(values) => {
            let numbers: Vec<_> = values.values().map(|value| value.number()).collect();
            prop::sample::select(numbers)
                .prop_map(Value::EnumNumber)
                .boxed()
        }
        Kind::Message(inner) => message(inner).prop_map(Value::Message).boxed(),
        other => panic!("the schema has no {other:?}"),
    }
}
