//! Messages of Seshat, read and written.
//!
//! The generated types of Rust know no JSON, so the schema reads and writes it.

use std::sync::LazyLock;

use prost::Message as _;
use prost_reflect::{DescriptorPool, DynamicMessage};
use seshat_conformance::protocol::echo::Message;
use seshat_conformance::protocol::response::Outcome;
use seshat_conformance::protocol::{Echo, Echoed};

use crate::Answer;
use crate::convert::invalid;

static SCHEMA: LazyLock<DescriptorPool> =
    LazyLock::new(|| DescriptorPool::decode(seshat_proto::FILE_DESCRIPTOR_SET).unwrap_or_default());

/// Reads a message, and writes it in both formats.
pub(crate) fn echo(echo: &Echo) -> Answer {
    let descriptor = SCHEMA.get_message_by_name(&echo.r#type);
    let descriptor =
        descriptor.ok_or_else(|| invalid(format!("there is no message {}", echo.r#type)))?;
    let message = match &echo.message {
        Some(Message::Binary(bytes)) => {
            DynamicMessage::decode(descriptor, bytes.as_ref()).map_err(invalid)?
        }
        Some(Message::Json(json)) => {
            let mut json = serde_json::Deserializer::from_str(json);
            DynamicMessage::deserialize(descriptor, &mut json).map_err(invalid)?
        }
        None => return Err(invalid("an echo of nothing")),
    };
    Ok(Outcome::Echoed(Echoed {
        binary: message.encode_to_vec().into(),
        json: serde_json::to_string(&message).map_err(invalid)?,
    }))
}
