//! JSON shapes of verify and of the ledger.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;

use super::rfc3339;
use super::wire::text_or_base64;
use crate::duration;
use crate::partition::upkeep::ConflictPlace;
use crate::record::{Key, Space};
use crate::sync::verify::Difference;
use crate::sync::verify::judge::Wrong;
use crate::topology::Topology;
use crate::upkeep::{KeptConflict, VerifyReport};
use crate::version::Version;

/// A verify pass.
#[derive(Debug, Serialize)]
pub struct VerifyDoc<'a> {
    pass: u64,
    done: bool,
    started_at: Option<String>,
    took_ms: Option<u64>,
    /// Live rows that are the same at every partition.
    rows: u64,
    /// What it took to tell: digests, rows told one by one, and bytes that left the partitions.
    digests: u64,
    marks: u64,
    bytes: u64,
    mended: u64,
    left: u64,
    partitions: Vec<VerifiedDoc<'a>>,
    differences: Vec<DifferenceDoc<'a>>,
}

#[derive(Debug, Serialize)]
struct VerifiedDoc<'a> {
    name: &'a str,
    error: Option<&'a str>,
}

/// A copy that was wrong.
#[derive(Debug, Serialize)]
struct DifferenceDoc<'a> {
    space: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_base64: Option<String>,
    partition: String,
    wrong: &'a str,
    mended: bool,
}

impl<'a> VerifyDoc<'a> {
    /// Before the first pass.
    pub const NONE: Self = Self {
        pass: 0,
        done: false,
        started_at: None,
        took_ms: None,
        rows: 0,
        digests: 0,
        marks: 0,
        bytes: 0,
        mended: 0,
        left: 0,
        partitions: Vec::new(),
        differences: Vec::new(),
    };

    /// A pass, done or not.
    pub fn new(report: &'a VerifyReport, topology: &Topology) -> Self {
        let found = &report.findings;
        let partition = |(name, error): &'a (std::sync::Arc<str>, Option<&'static str>)| {
            VerifiedDoc { name, error: *error }
        };
        Self {
            pass: report.pass,
            done: report.is_done,
            started_at: Some(rfc3339::format(report.started_ms)),
            took_ms: Some(u64::try_from(report.took.as_millis()).unwrap_or(u64::MAX)),
            rows: found.rows,
            digests: found.digests,
            marks: found.marks,
            bytes: found.bytes,
            mended: found.mended,
            left: found.left,
            partitions: report.partitions.iter().map(partition).collect(),
            differences: found.differences.iter().map(|d| difference(d, topology)).collect(),
        }
    }
}

fn difference<'a>(difference: &'a Difference, topology: &Topology) -> DifferenceDoc<'a> {
    let (key, key_base64) = text_or_base64(difference.key.bytes());
    let voter = topology.voter(difference.partition);
    DifferenceDoc {
        space: space_name(difference.key.space()),
        key,
        key_base64,
        partition: voter.map_or_else(|| difference.partition.to_string(), |v| v.name.clone()),
        wrong: match difference.wrong {
            Wrong::Damaged => "damaged",
            Wrong::Different => "different",
            Wrong::Missing => "missing",
            Wrong::Surplus => "surplus",
        },
        mended: difference.is_mended,
    }
}

const fn space_name(space: Space) -> &'static str {
    match space {
        Space::Data => "data",
        Space::System => "system",
    }
}

/// A page of the ledger.
#[derive(Debug, Serialize)]
pub struct ConflictsDoc<'a> {
    conflicts: Vec<ConflictDoc<'a>>,
    next: Option<String>,
    /// How long entries are kept; `None`: for ever.
    retention: Option<String>,
    /// How many this front end has removed since its start, having been kept for so long.
    expired: BTreeMap<&'a str, u64>,
}

/// A write that lost.
#[derive(Debug, Serialize)]
pub struct ConflictDoc<'a> {
    /// What it can be asked for by.
    id: String,
    space: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_base64: Option<String>,
    version: String,
    origin: u16,
    deleted: bool,
    content_type: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value_base64: Option<String>,
    noted_at: String,
    kept_by: Vec<&'a str>,
}

impl<'a> ConflictsDoc<'a> {
    /// A page that was asked for `limit` entries.
    pub fn new(
        conflicts: &'a [KeptConflict],
        limit: usize,
        retention: Option<Duration>,
        expired: &'a [(Arc<str>, u64)],
    ) -> Self {
        let last = conflicts.last().filter(|_| conflicts.len() >= limit);
        let next = last.map(|last| {
            let place = text_of(&ConflictPlace::of(&last.conflict.row));
            format!("/admin/conflicts?after={place}&limit={limit}")
        });
        Self {
            conflicts: conflicts.iter().map(ConflictDoc::new).collect(),
            next,
            retention: retention.map(duration::format),
            expired: expired.iter().map(|(name, count)| (name.as_ref(), *count)).collect(),
        }
    }
}

impl<'a> ConflictDoc<'a> {
    /// As it is kept.
    pub fn new(kept: &'a KeptConflict) -> Self {
        let row = &kept.conflict.row;
        let (key, key_base64) = text_or_base64(row.key.bytes());
        let body = row.body.as_ref();
        let (value, value_base64) =
            body.map(|body| text_or_base64(&body.value)).unwrap_or_default();
        Self {
            id: text_of(&ConflictPlace::of(row)),
            space: space_name(row.key.space()),
            key,
            key_base64,
            version: row.version.to_string(),
            origin: row.origin.0,
            deleted: row.is_tombstone(),
            content_type: body.map(|body| body.content_type.as_str()),
            value,
            value_base64,
            noted_at: rfc3339::format(kept.conflict.noted_ms),
            kept_by: kept.kept_by.iter().map(AsRef::as_ref).collect(),
        }
    }
}

/// A place in the ledger as clients carry it: opaque to them.
fn text_of(place: &ConflictPlace) -> String {
    let mut bytes = vec![u8::from(place.key.space() == Space::System)];
    bytes.extend(place.version.packed().to_be_bytes());
    bytes.extend_from_slice(place.key.bytes());
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The place that [`ConflictsDoc`] has told; `None`: it never did.
pub fn place_of(text: &[u8]) -> Option<ConflictPlace> {
    let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
    let (space, rest) = bytes.split_first()?;
    let (version, key) = rest.split_first_chunk::<8>()?;
    let space = match space {
        0 => Space::Data,
        1 => Space::System,
        _ => return None,
    };
    let version = Version::from_packed(i64::from_be_bytes(*version))?;
    Some(ConflictPlace { key: Key::stored(space, key.to_vec()), version })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::version::{Epoch, Seq};

    #[test]
    fn a_place_survives_its_text() {
        for space in Space::ALL {
            let version = Version::new(Epoch::FIRST, Seq::new(7).unwrap());
            let place = ConflictPlace { key: Key::stored(space, &b"a\xff"[..]), version };
            assert_eq!(place_of(text_of(&place).as_bytes()), Some(place));
        }
        for text in ["", "AA", "!", "Av8AAAAAAAAAAA"] {
            assert_eq!(place_of(text.as_bytes()), None, "{text:?}");
        }
    }
}
