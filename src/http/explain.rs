//! `?explain` on a read: not the value, but which partition gave it and why, what each of them was
//! asked and how old it is. Always JSON, and 200 also where the read itself was refused.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;

use super::paths;
use super::wire_partitions::ExplainDoc;
use crate::record::Key;
use crate::store::Store;
use crate::store::answer::Need;
use crate::vector::Token;

/// The query parameter that asks for it.
pub const EXPLAIN: &str = "explain";

/// Reads `key` and tells how the answer came about.
pub async fn answer(
    store: &Store,
    key: &Key,
    need: &Need,
    session: Option<&Token>,
) -> HttpResponse {
    let explained = store.explain(key, need, session).await;
    let path = paths::emit(paths::BUCKET, key.bytes());
    let doc = ExplainDoc::new(store.set_id(), path, need, &explained);
    super::answer::json(StatusCode::OK, &doc)
}
