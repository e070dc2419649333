//! `/admin/`: what operators ask of the set. Always JSON.

pub mod conflicts;
pub mod decisions;
pub mod operations;
pub mod partitions;
pub mod promote;
pub mod scaling;
pub mod service;
pub mod topology;
pub mod verify;

use actix_web::web::{ServiceConfig, resource};

use super::{drivers, frontends, performance, sync};

/// Adds all resources below `/admin/`.
pub fn routes(cfg: &mut ServiceConfig) {
    cfg.service(resource("/admin/drivers").to(drivers::serve))
        .service(resource("/admin/frontends").to(frontends::serve))
        .service(resource("/admin/partitions").to(partitions::all))
        .service(resource("/admin/partitions/{name}").to(partitions::one))
        .service(resource("/admin/partitions/{name}/crash").to(partitions::crash))
        .service(resource("/admin/partitions/{name}/promote").to(promote::serve))
        .service(resource("/admin/topology").to(topology::serve))
        .service(resource("/admin/sync").to(sync::serve))
        .service(resource("/admin/sync/pause").to(sync::pause))
        .service(resource("/admin/sync/resume").to(sync::resume))
        .service(resource("/admin/verify").to(verify::serve))
        .service(resource("/admin/conflicts").to(conflicts::serve))
        .service(resource("/admin/decisions").to(decisions::serve))
        .service(resource("/admin/conflicts/{id}").to(conflicts::one))
        .service(resource("/admin/conflicts/{id}/replay").to(conflicts::replay))
        .service(resource("/admin/service").to(service::serve))
        .service(resource("/admin/service/history").to(service::history))
        .service(resource("/admin/service/performance").to(performance::figures))
        .service(resource("/admin/service/shutdown").to(service::shutdown))
        .service(resource("/admin/plan").to(scaling::plan))
        .service(resource("/admin/scaling").to(scaling::serve))
        .service(resource("/admin/clear").to(service::clear))
        .service(resource("/admin/operations").to(operations::all))
        .service(resource("/admin/operations/{id}").to(operations::one));
}
