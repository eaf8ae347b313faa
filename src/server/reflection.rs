//! gRPC server reflection, for tools that discover the services of a server.

use tonic::service::Routes;
use tonic_reflection::server::{Builder, Error};

use crate::proto::FILE_DESCRIPTOR_SET;

/// Adds reflection to `routes`, for exactly the services named: each listener shows the services that it
/// has. Both versions of the protocol are served, because grpcurl and `buf curl` use different ones.
pub(super) fn with_reflection(routes: Routes, services: &[&str]) -> Result<Routes, Error> {
    let builder = || {
        let builder = Builder::configure()
            .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET);
        services.iter().fold(builder, |builder, service| {
            builder.with_service_name(*service)
        })
    };
    Ok(routes
        .add_service(builder().build_v1()?)
        .add_service(builder().build_v1alpha()?))
}
