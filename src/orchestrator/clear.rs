//! Deleting every key: tombstones at the masters, which travel like any other.

use futures_util::{StreamExt as _, stream};

use super::operation::Ended;
use crate::partition::Range;
use crate::record::Space;
use crate::store::Store;
use crate::store::answer::{Ack, Need, StoreError};
use crate::vector::Vector;
use crate::write::Write;

/// Keys of a page.
const KEYS_AT_ONCE: usize = 1000;
/// Deletes that wait at their masters at once: a good batch of each.
const DELETES_AT_ONCE: usize = 128;

/// Deletes all keys that the masters show.
pub async fn clear(store: &Store) -> Ended {
    let mut deleted = 0;
    match delete_all(store, &mut deleted).await {
        Ok(()) => Ended::Done(format!("{deleted} keys were deleted")),
        Err(error) => {
            tracing::warn!(error = crate::sync::round::chain(&error), deleted, "not cleared");
            Ended::Failed(format!("{error}; {deleted} keys were deleted before"))
        }
    }
}

async fn delete_all(store: &Store, deleted: &mut usize) -> Result<(), StoreError> {
    let mut range = Range {
        space: Space::Data,
        prefix: bytes::Bytes::new(),
        after: None,
        keys_max: KEYS_AT_ONCE,
        scanned_max: KEYS_AT_ONCE * 10,
        value_bytes_max: None,
    };
    loop {
        let page = store.list(&range, &Need::master(Vector::new()), None).await?;
        let deletes = page.rows.into_iter().map(|row| Write::delete(row.key));
        let written = deletes.map(|delete| store.write(delete, Ack::One, None));
        let mut written = stream::iter(written).buffer_unordered(DELETES_AT_ONCE);
        while let Some(written) = written.next().await {
            written?;
            *deleted += 1;
        }
        drop(written);
        match page.next {
            Some(next) => range.after = Some(next),
            None => return Ok(()),
        }
    }
}
