//! JSON of the sync job: reports and operations.

use std::time::Duration;

use serde::Serialize;

use super::rfc3339;
use crate::sync::report::{Pair, Report, Trouble};

/// What a round of sync passes did; round 0 stands for "none yet".
#[derive(Debug, Serialize)]
pub struct ReportDoc<'a> {
    round: u64,
    started_at: Option<String>,
    took_ms: Option<u64>,
    pairs: Vec<PairDoc<'a>>,
}

impl<'a> ReportDoc<'a> {
    /// What a report says at the monotonic instant `now`.
    pub fn new(report: &'a Report, now: Duration) -> Self {
        let finished = report.round > 0;
        Self {
            round: report.round,
            started_at: finished.then(|| rfc3339::format(report.started_ms)),
            took_ms: finished.then(|| ms(report.took)),
            pairs: report.pairs.iter().map(|pair| PairDoc::new(pair, now)).collect(),
        }
    }
}

/// One target that pulled from one source.
#[derive(Debug, Serialize)]
struct PairDoc<'a> {
    target: &'a str,
    source: Option<&'a str>,
    rows: usize,
    bytes: usize,
    took_ms: u64,
    lag: u64,
    /// How old, at most, what the target has of the source's writes is; `null`: not measured.
    age_ms: Option<u64>,
    error: Option<&'a str>,
    last_error: Option<TroubleDoc>,
    paused: bool,
    seeding: bool,
}

impl<'a> PairDoc<'a> {
    fn new(pair: &'a Pair, now: Duration) -> Self {
        Self {
            target: &pair.target,
            source: pair.source.as_deref(),
            rows: pair.rows,
            bytes: pair.bytes,
            took_ms: ms(pair.took),
            lag: pair.lag,
            age_ms: pair.covered_at.map(|at| ms(now.saturating_sub(at))),
            error: pair.error,
            last_error: pair.last_error.map(TroubleDoc::new),
            paused: pair.paused,
            seeding: pair.seeding,
        }
    }
}

#[derive(Debug, Serialize)]
struct TroubleDoc {
    what: &'static str,
    at: String,
}

impl TroubleDoc {
    fn new(trouble: Trouble) -> Self {
        Self { what: trouble.what, at: rfc3339::format(trouble.at_ms) }
    }
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Something that takes longer than a request.
#[derive(Debug, Serialize)]
pub struct OperationDoc<'a> {
    /// What it is, for people.
    pub message: &'static str,
    /// Where it can be asked for: `/admin/operations/{id}`.
    pub operation: String,
    /// What kind of thing it is: `sync`.
    pub kind: &'static str,
    /// `running` or `done`.
    pub state: &'static str,
    /// What came of it, once it is done.
    pub report: Option<ReportDoc<'a>>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_report_has_a_row_per_pair() {
        let pair = Pair {
            target: "b".into(),
            source: Some("a".into()),
            rows: 2,
            bytes: 300,
            took: Duration::from_millis(5),
            lag: 1,
            covered_at: Some(Duration::from_millis(400)),
            error: None,
            last_error: Some(Trouble { what: "busy", at_ms: 1_000_000_000_000 }),
            paused: false,
            seeding: false,
        };
        let unreachable = Pair {
            source: None,
            error: Some("unreachable"),
            last_error: None,
            covered_at: None,
            rows: 0,
            bytes: 0,
            took: Duration::ZERO,
            lag: 0,
            ..pair.clone()
        };
        let report = Report {
            round: 7,
            started_ms: 1_000_000_000_123,
            took: Duration::from_millis(15),
            pairs: vec![pair, unreachable],
        };
        let now = Duration::from_secs(1);
        assert_eq!(
            serde_json::to_value(ReportDoc::new(&report, now)).unwrap(),
            json!({
                "round": 7, "started_at": "2001-09-09T01:46:40.123Z", "took_ms": 15,
                "pairs": [
                    {"target": "b", "source": "a", "rows": 2, "bytes": 300, "took_ms": 5, "lag": 1,
                     "age_ms": 600, "error": null,
                     "last_error": {"what": "busy", "at": "2001-09-09T01:46:40.000Z"},
                     "paused": false, "seeding": false},
                    {"target": "b", "source": null, "rows": 0, "bytes": 0, "took_ms": 0, "lag": 0,
                     "age_ms": null, "error": "unreachable", "last_error": null,
                     "paused": false, "seeding": false},
                ],
            })
        );
        let none = Report { round: 0, started_ms: 0, took: Duration::ZERO, pairs: Vec::new() };
        assert_eq!(
            serde_json::to_value(ReportDoc::new(&none, now)).unwrap(),
            json!({"round": 0, "started_at": null, "took_ms": null, "pairs": []})
        );
    }
}
