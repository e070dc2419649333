//! JSON shapes of the administration: performance, service, operations, scaling.

use serde::Serialize;

use crate::performance::{Figures, WINDOW};
use crate::store::figures::PartitionFigures;

/// How the service has answered in the last minute.
#[derive(Debug, Serialize)]
pub struct PerformanceDoc<'a> {
    /// How far the figures look back, in seconds.
    window_s: u64,
    #[serde(flatten)]
    overall: FiguresDoc,
    partitions: Vec<PartitionFiguresDoc<'a>>,
}

/// Rates per second, times in milliseconds.
#[derive(Debug, Serialize)]
struct FiguresDoc {
    request_rate: f64,
    error_rate: f64,
    throughput: f64,
    response_time: f64,
    response_time_p50: f64,
    response_time_p99: f64,
}

#[derive(Debug, Serialize)]
struct PartitionFiguresDoc<'a> {
    name: &'a str,
    #[serde(flatten)]
    figures: FiguresDoc,
}

/// Three decimals: more would be noise.
fn rounded(figure: f64) -> f64 {
    (figure * 1000.0).round() / 1000.0
}

impl FiguresDoc {
    fn new(figures: &Figures) -> Self {
        let millis = |time: std::time::Duration| rounded(time.as_secs_f64() * 1000.0);
        Self {
            request_rate: rounded(figures.request_rate),
            error_rate: rounded(figures.error_rate),
            throughput: rounded(figures.throughput),
            response_time: millis(figures.response_time),
            response_time_p50: millis(figures.response_time_p50),
            response_time_p99: millis(figures.response_time_p99),
        }
    }
}

impl<'a> PerformanceDoc<'a> {
    /// Overall and per partition.
    pub fn new(overall: &Figures, partitions: &'a [PartitionFigures]) -> Self {
        let one = |one: &'a PartitionFigures| PartitionFiguresDoc {
            name: &one.partition.name,
            figures: FiguresDoc::new(&one.figures),
        };
        Self {
            window_s: WINDOW.as_secs(),
            overall: FiguresDoc::new(overall),
            partitions: partitions.iter().map(one).collect(),
        }
    }
}
