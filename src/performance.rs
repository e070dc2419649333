//! Figures of the last minute: how much was asked, how much of it failed, how long it took.
//!
//! # Flow
//!
//! Whoever answers something calls [`Meter::record`]. That adds to counters which only rise, of
//! which every thread has its own ([`SHARDS`]): no lock, and no cache line that two threads write.
//! Every [`STEP`] the first to record also keeps what the counters were until then; a figure is the
//! difference between now and the kept counters at the beginning of the [`WINDOW`].
//!
//! # Bounds
//!
//! Memory is fixed: [`BUCKETS`] durations, [`KEPT_MAX`] kept counters. The durations are counted in
//! four steps per power of two, so a quantile is at most a fifth above the truth. Counters that
//! begin anew give a rate that is too low, never a negative one.

use std::cell::Cell;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// How far the figures look back.
pub const WINDOW: Duration = Duration::from_secs(60);
/// How often counters are kept: a twelfth of the window is as exact as a person can use.
const STEP: Duration = Duration::from_secs(5);
/// Kept counters: those of the window, and the one before it.
const KEPT_MAX: usize = 14;
/// Places to count at: as many as web workers of a large machine; beyond that two share one.
const SHARDS: usize = 16;
/// Steps per power of two.
const FINE: usize = 4;
/// Durations in microseconds, up to 134 seconds: longer than any request may take but for streams.
const BUCKETS: usize = FINE * 26;
/// A rate over less would be noise.
const ELAPSED_MIN: Duration = Duration::from_secs(1);

/// One thing that was answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// How long it took.
    pub took: Duration,
    /// How many bytes of values went in and out.
    pub bytes: u64,
    /// Whether it failed through no fault of whoever asked.
    pub failed: bool,
}

/// Counters since some beginning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Totals {
    /// How many were answered.
    pub requests: u64,
    /// How many of them failed.
    pub errors: u64,
    /// Bytes of values in and out.
    pub bytes: u64,
    /// Microseconds that they took, summed up.
    pub micros: u64,
    /// How many took how long.
    buckets: [u64; BUCKETS],
}

impl Default for Totals {
    fn default() -> Self {
        Self { requests: 0, errors: 0, bytes: 0, micros: 0, buckets: [0; BUCKETS] }
    }
}

/// What a sliding window shows.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Figures {
    /// Answers per second.
    pub request_rate: f64,
    /// Failures per second.
    pub error_rate: f64,
    /// Bytes of values per second.
    pub throughput: f64,
    /// The mean time that an answer took.
    pub response_time: Duration,
    /// Half of the answers took no longer.
    pub response_time_p50: Duration,
    /// 99 of 100 answers took no longer.
    pub response_time_p99: Duration,
}

/// The bucket of a duration in microseconds.
fn bucket(micros: u64) -> usize {
    if micros < FINE as u64 {
        return usize::try_from(micros).unwrap_or(0);
    }
    let octave = usize::try_from(micros.ilog2()).unwrap_or(usize::MAX);
    let fine = usize::try_from(micros >> (octave - 2)).unwrap_or(0) % FINE;
    (FINE * (octave - 1) + fine).min(BUCKETS - 1)
}

/// The longest duration of a bucket, in microseconds.
fn upper(bucket: usize) -> u64 {
    if bucket < FINE {
        return bucket as u64;
    }
    let (octave, fine) = (bucket / FINE + 1, bucket % FINE);
    (((FINE + fine + 1) as u64) << (octave - 2)) - 1
}

impl Totals {
    fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.errors += other.errors;
        self.bytes += other.bytes;
        self.micros += other.micros;
        for (own, other) in self.buckets.iter_mut().zip(other.buckets) {
            *own += other;
        }
    }

    /// What was added since `earlier`; nothing of it where the counters began anew in between.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let mut buckets = self.buckets;
        for (own, earlier) in buckets.iter_mut().zip(earlier.buckets) {
            *own = own.saturating_sub(earlier);
        }
        Self {
            requests: self.requests.saturating_sub(earlier.requests),
            errors: self.errors.saturating_sub(earlier.errors),
            bytes: self.bytes.saturating_sub(earlier.bytes),
            micros: self.micros.saturating_sub(earlier.micros),
            buckets,
        }
    }

    /// No more than this share of all took longer than what is returned.
    fn quantile(&self, share: f64) -> Duration {
        let counted: u64 = self.buckets.iter().sum();
        let (mut seen, mut found) = (0, 0);
        for (bucket, count) in self.buckets.iter().enumerate().filter(|(_, count)| **count > 0) {
            seen += count;
            found = upper(bucket);
            if as_f64(seen) >= as_f64(counted) * share {
                break;
            }
        }
        Duration::from_micros(found)
    }

    /// How many took at most so long, for each power of two microseconds from a quarter of a
    /// millisecond on: what a histogram of Prometheus shows.
    pub fn cumulative(&self) -> impl Iterator<Item = (Duration, u64)> {
        (8..24).map(|octave: u32| {
            let micros = 1_u64 << octave;
            let within = self.buckets.iter().take(bucket(micros)).sum();
            (Duration::from_micros(micros), within)
        })
    }

    fn figures(&self, elapsed: Duration) -> Figures {
        let seconds = elapsed.max(ELAPSED_MIN).as_secs_f64();
        let mean = self.micros.checked_div(self.requests).unwrap_or_default();
        Figures {
            request_rate: as_f64(self.requests) / seconds,
            error_rate: as_f64(self.errors) / seconds,
            throughput: as_f64(self.bytes) / seconds,
            response_time: Duration::from_micros(mean),
            response_time_p50: self.quantile(0.5),
            response_time_p99: self.quantile(0.99),
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "figures for people: 53 bits are enough")]
const fn as_f64(count: u64) -> f64 {
    count as f64
}

/// The counters of one thread, on cache lines of their own.
#[derive(Debug)]
#[repr(align(128))]
struct Shard {
    requests: AtomicU64,
    errors: AtomicU64,
    bytes: AtomicU64,
    micros: AtomicU64,
    buckets: [AtomicU64; BUCKETS],
}

impl Default for Shard {
    fn default() -> Self {
        Self {
            requests: AtomicU64::default(),
            errors: AtomicU64::default(),
            bytes: AtomicU64::default(),
            micros: AtomicU64::default(),
            buckets: std::array::from_fn(|_| AtomicU64::default()),
        }
    }
}

impl Shard {
    // Relaxed throughout: a figure needs no order between its counters.
    fn record(&self, event: Event) {
        let micros = u64::try_from(event.took.as_micros()).unwrap_or(u64::MAX);
        self.requests.fetch_add(1, Ordering::Relaxed);
        if event.failed {
            self.errors.fetch_add(1, Ordering::Relaxed);
        }
        if event.bytes > 0 {
            self.bytes.fetch_add(event.bytes, Ordering::Relaxed);
        }
        self.micros.fetch_add(micros, Ordering::Relaxed);
        self.buckets[bucket(micros)].fetch_add(1, Ordering::Relaxed);
    }

    fn totals(&self) -> Totals {
        Totals {
            requests: self.requests.load(Ordering::Relaxed),
            errors: self.errors.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
            micros: self.micros.load(Ordering::Relaxed),
            buckets: std::array::from_fn(|nth| self.buckets[nth].load(Ordering::Relaxed)),
        }
    }
}

/// Which place this thread counts at.
fn own_shard() -> usize {
    static THREADS: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static OWN: Cell<Option<usize>> = const { Cell::new(None) };
    }
    OWN.with(|own| {
        own.get().unwrap_or_else(|| {
            let shard = THREADS.fetch_add(1, Ordering::Relaxed) % SHARDS;
            own.set(Some(shard));
            shard
        })
    })
}

/// Counts and keeps; shared by all who record.
#[derive(Debug)]
pub struct Meter {
    shards: [Shard; SHARDS],
    began: Duration,
    /// When counters are to be kept next, in microseconds.
    keep_at: AtomicU64,
    /// What the counters were, and when; the oldest first.
    kept: Mutex<VecDeque<(Duration, Totals)>>,
}

impl Meter {
    /// Counts from `now` on, an instant of [`crate::clock::Clock::monotonic`].
    pub fn new(now: Duration) -> Self {
        Self {
            shards: std::array::from_fn(|_| Shard::default()),
            began: now,
            keep_at: AtomicU64::new(0),
            kept: Mutex::default(),
        }
    }

    /// Counts what was answered at `now`.
    pub fn record(&self, now: Duration, event: Event) {
        let now_micros = u64::try_from(now.as_micros()).unwrap_or(u64::MAX);
        if now_micros >= self.keep_at.load(Ordering::Relaxed) {
            self.keep(now);
        }
        self.shards[own_shard()].record(event);
    }

    /// Keeps the counters as they are, unless somebody is doing that already.
    fn keep(&self, now: Duration) {
        let Ok(mut kept) = self.kept.try_lock() else { return };
        if kept.back().is_some_and(|(at, _)| *at + STEP > now) {
            return;
        }
        let next = u64::try_from((now + STEP).as_micros()).unwrap_or(u64::MAX);
        self.keep_at.store(next, Ordering::Relaxed);
        kept.push_back((now, self.totals()));
        if kept.len() > KEPT_MAX {
            kept.pop_front();
        }
    }

    /// The counters since the beginning.
    pub fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        for shard in &self.shards {
            totals.add(&shard.totals());
        }
        totals
    }

    /// The figures of the window that ends at `now`.
    pub fn figures(&self, now: Duration) -> Figures {
        let from = now.saturating_sub(WINDOW).max(self.began);
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(first) = kept.iter().position(|(at, _)| *at >= from) else {
            // Whatever was recorded after the last time that something was kept is older than a
            // step, and a window is longer: nothing of it lies within, but for the last step.
            let last = kept.back().filter(|(at, _)| *at + STEP > from);
            let earlier = last.map_or_else(|| self.totals(), |(_, totals)| totals.clone());
            return self.totals().since(&earlier).figures(now.saturating_sub(from));
        };
        let (at, earlier) = &kept[first];
        // All that was recorded before `at` was recorded within a step of the time before.
        let quiet_from = first.checked_sub(1).map_or(self.began, |nth| kept[nth].0 + STEP);
        let from = from.max(quiet_from.min(*at));
        self.totals().since(earlier).figures(now.saturating_sub(from))
    }
}

/// A number that only rises, of which every thread has its own part.
#[derive(Debug, Default)]
pub struct Counter {
    shards: [CounterShard; SHARDS],
}

#[derive(Debug, Default)]
#[repr(align(128))]
struct CounterShard(AtomicU64);

impl Counter {
    /// One more.
    pub fn add_one(&self) {
        self.shards[own_shard()].0.fetch_add(1, Ordering::Relaxed);
    }

    /// How many there were.
    pub fn total(&self) -> u64 {
        self.shards.iter().map(|shard| shard.0.load(Ordering::Relaxed)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn event(millis: u64) -> Event {
        Event { took: Duration::from_millis(millis), bytes: 10, failed: false }
    }

    fn assert_near(is: f64, should: f64) {
        assert!((is - should).abs() <= should * 0.001 + 1e-9, "{is} instead of {should}");
    }

    #[test]
    fn buckets_are_in_order_and_a_fifth_wide_at_most() {
        for micros in (1..27).flat_map(|octave| [(1 << octave) - 1, 1 << octave, (1 << octave) + 1])
        {
            let bucket = bucket(micros);
            assert!(upper(bucket) >= micros, "{micros}");
            assert!(as_f64(upper(bucket)) <= as_f64(micros) * 1.25, "{micros}: {}", upper(bucket));
        }
        for micros in 1..5000 {
            let step = bucket(micros) - bucket(micros - 1);
            assert!(step <= 1, "{micros} skips a bucket");
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn a_steady_load_shows_its_rates() {
        let meter = Meter::new(seconds(100));
        assert_eq!(meter.figures(seconds(100)), Figures::default());
        for second in 100..300 {
            for nth in 0..10 {
                let failed = nth == 0;
                let millis = if nth < 2 { 80 } else { 2 };
                meter.record(seconds(second), Event { failed, ..event(millis) });
            }
        }
        let figures = meter.figures(seconds(300));
        assert_near(figures.request_rate, 10.0);
        assert_near(figures.error_rate, 1.0);
        assert_near(figures.throughput, 100.0);
        assert_eq!(figures.response_time, Duration::from_micros(17_600));
        assert!(figures.response_time_p50.as_micros().abs_diff(2000) < 500, "{figures:?}");
        assert!(figures.response_time_p99.as_micros().abs_diff(80_000) < 20_000, "{figures:?}");
    }

    #[test]
    fn the_window_slides_past_what_is_over() {
        let meter = Meter::new(seconds(0));
        for second in 0..10 {
            meter.record(seconds(second), event(1));
        }
        assert_near(meter.figures(seconds(10)).request_rate, 1.0);
        // Half a minute of silence: the same ten in 40 seconds.
        assert_near(meter.figures(seconds(40)).request_rate, 0.25);
        assert_near(meter.figures(seconds(100)).request_rate, 0.0);
        // One more after a long silence counts for a whole window.
        meter.record(seconds(1000), event(1));
        assert_near(meter.figures(seconds(1001)).request_rate, 1.0 / 60.0);
    }

    #[test]
    fn a_few_requests_in_a_young_window_show() {
        let meter = Meter::new(seconds(0));
        for _ in 0..100 {
            meter.record(Duration::from_millis(3), event(1));
        }
        assert_near(meter.figures(Duration::from_millis(4)).request_rate, 100.0);
    }

    #[test]
    fn counters_that_begin_anew_give_no_negative_rate() {
        let (before, after) = (Meter::new(seconds(0)), Meter::new(seconds(0)));
        for _ in 0..5 {
            before.record(seconds(1), Event { failed: true, ..event(9) });
        }
        after.record(seconds(2), event(1));
        let figures = after.totals().since(&before.totals()).figures(seconds(10));
        for figure in [figures.request_rate, figures.error_rate, figures.throughput] {
            assert!((0.0..=0.1).contains(&figure), "{figures:?}");
        }
    }

    #[test]
    fn threads_count_together() {
        let (meter, counter) = (Meter::new(seconds(0)), Counter::default());
        std::thread::scope(|scope| {
            for _ in 0..SHARDS + 2 {
                scope.spawn(|| {
                    for second in 0..1000 {
                        meter.record(seconds(second), event(1));
                        counter.add_one();
                    }
                });
            }
        });
        let all = (SHARDS as u64 + 2) * 1000;
        assert_eq!((meter.totals().requests, counter.total()), (all, all));
        let (_, within) =
            meter.totals().cumulative().find(|(at, _)| at.as_micros() > 1500).unwrap();
        assert_eq!(within, all);
        assert!(meter.kept.lock().unwrap().len() <= KEPT_MAX);
    }
}
