//! What HTTP alone costs: the headers of a read, with constants, and no store behind them.
//!
//! `scripts/bench` holds the service against this. Listens on the address given as its argument.

use std::net::SocketAddr;

use actix_web::http::header::{self, HeaderName};
use actix_web::{App, HttpResponse, HttpServer, web};

/// As the service has it.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// A hundred bytes, as the values of the measurement.
const VALUE: &str = "0123456789012345678901234567890123456789012345678901234567890123456789\
                     012345678901234567890123456789";

async fn read() -> HttpResponse {
    let name = HeaderName::from_static;
    HttpResponse::Ok()
        .insert_header((header::CONTENT_TYPE, "text/plain; charset=utf-8"))
        .insert_header((header::ETAG, "\"1.4242\""))
        .insert_header((header::CACHE_CONTROL, "private, no-cache"))
        .insert_header((header::VARY, "Accept"))
        .insert_header((header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .insert_header((header::CONTENT_SECURITY_POLICY, "sandbox"))
        .insert_header((name("datastore-version"), "1.4242"))
        .insert_header((name("datastore-partition"), "store_1"))
        .insert_header((name("datastore-age"), "42"))
        .insert_header((header::AGE, "1"))
        .insert_header((name("datastore-updated"), "2026-11-20T14:05:41.000Z"))
        .insert_header((
            name("datastore-session"),
            "AQAAAAAAAAAAAAAAAAAAAAEAAQAAEAAAABCSAAIAABAAAAAQkgADAAAQAAAAEJI",
        ))
        .body(VALUE)
}

#[actix_web::main]
async fn main() -> std::io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:0".to_owned());
    let address: SocketAddr = address.parse().map_err(std::io::Error::other)?;
    let server =
        HttpServer::new(|| App::new().route("/bucket/{key}", web::get().to(read))).bind(address)?;
    for bound in server.addrs() {
        println!("{bound}");
    }
    server.run().await
}
