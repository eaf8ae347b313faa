//! The schemas: of the protocol with the client program, and of Seshat.

use anyhow::{Context as _, Result};
use prost_reflect::{
    DescriptorPool, DynamicMessage, MessageDescriptor, MethodDescriptor, ReflectMessage as _,
};
use seshat_conformance::protocol;

/// Both schemas.
#[derive(Debug, Clone)]
pub(crate) struct Schema {
    /// `Request` of the protocol with the client program.
    pub(crate) request: MessageDescriptor,
    /// `Response` of it.
    pub(crate) response: MessageDescriptor,
    seshat: DescriptorPool,
}

impl Schema {
    /// The schemas of this build.
    pub(crate) fn new() -> Result<Self> {
        let own = DescriptorPool::decode(protocol::FILE_DESCRIPTOR_SET)?;
        let message = |name: &str| {
            let name = format!("seshat.conformance.v1.{name}");
            own.get_message_by_name(&name).context(name)
        };
        Ok(Self {
            request: message("Request")?,
            response: message("Response")?,
            seshat: DescriptorPool::decode(seshat_proto::FILE_DESCRIPTOR_SET)?,
        })
    }

    /// A message type of Seshat by its full name.
    pub(crate) fn message(&self, name: &str) -> Result<MessageDescriptor> {
        let found = self.seshat.get_message_by_name(name);
        found.with_context(|| format!("there is no message {name}"))
    }

    /// A method of the services for clients by its name, such as `Set`.
    pub(crate) fn method(&self, name: &str) -> Result<MethodDescriptor> {
        let mut services = self.seshat.services();
        let found = services.find_map(|service| {
            let is_for_clients = !service.full_name().starts_with("seshat.raft");
            service
                .methods()
                .find(|method| is_for_clients && method.name() == name)
        });
        found.with_context(|| format!("there is no method {name}"))
    }
}

/// One line of JSON, as people read it.
pub(crate) fn shown(message: &DynamicMessage) -> String {
    const LONGEST: usize = 400;
    let mut text = serde_json::to_string(message).unwrap_or_else(|error| error.to_string());
    if text.len() > LONGEST {
        let end = text.floor_char_boundary(LONGEST);
        text.truncate(end);
        text.push('…');
    }
    format!("{} {text}", message.descriptor().name())
}
