//! Bodies in bounded memory (BOUND-1).
//!
//! The framework limits neither the size of a raw request body nor the time it takes. [`read`] does
//! both: a declared length is checked before a byte is read, an undeclared one as it grows, and all
//! of it has to arrive before a deadline. Every byte held, in and out, is taken from one [`Budget`]
//! of the process; when it is used up, requests are answered 503 rather than queued, because a
//! waiting upload would hold what it has already taken.
//!
//! Caveat: small answers are not counted. There are at most as many as connections, and counting
//! them would make every worker write to one cache line on the fastest path.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use actix_web::body::{BodySize, BodyStream, BoxBody, MessageBody};
use actix_web::error::PayloadError;
use actix_web::http::header::{CONTENT_LENGTH, HeaderMap};
use bytes::Bytes;
use futures_util::Stream;

use super::HttpLimits;
use super::code::Code;
use super::error::Problem;

/// Answers up to this size are not counted.
const UNCOUNTED_BYTES_MAX: usize = 16 * 1024;

/// How many bytes of bodies may be in memory at once.
#[derive(Debug)]
pub struct Budget {
    free: AtomicUsize,
}

/// Bytes taken from a budget; given back on drop.
#[derive(Debug)]
pub struct Reservation {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Budget {
    /// A budget of so many bytes.
    pub fn new(bytes: usize) -> Arc<Self> {
        Arc::new(Self { free: AtomicUsize::new(bytes) })
    }

    /// Takes `bytes`, if they are there.
    pub fn reserve(self: &Arc<Self>, bytes: usize) -> Result<Reservation, Problem> {
        let mut reservation = Reservation { budget: Arc::clone(self), bytes: 0 };
        reservation.grow(bytes)?;
        Ok(reservation)
    }
}

impl Reservation {
    fn grow(&mut self, by: usize) -> Result<(), Problem> {
        // Relaxed: the counter guards nothing but itself.
        let took = self
            .budget
            .free
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |free| free.checked_sub(by));
        if took.is_err() {
            let detail = "the service holds as many bytes of bodies as it may";
            return Err(Problem::new(Code::Overloaded, detail));
        }
        self.bytes += by;
        Ok(())
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.budget.free.fetch_add(self.bytes, Ordering::Relaxed);
    }
}

/// Reads a value that is to be written; the reservation lasts as long as the value is in flight.
pub async fn read(
    headers: &HeaderMap,
    payload: impl Stream<Item = Result<Bytes, PayloadError>>,
    limits: &HttpLimits,
    budget: &Arc<Budget>,
) -> Result<(Bytes, Reservation), Problem> {
    let declared = declared_length(headers)?;
    if declared.is_some_and(|bytes| bytes > limits.value_bytes_max as u64) {
        return Err(too_large(declared, limits.value_bytes_max));
    }
    let collected = collect(declared, payload, limits.value_bytes_max, budget);
    match tokio::time::timeout(limits.body_deadline, collected).await {
        Ok(collected) => collected,
        Err(_) => {
            let deadline = crate::duration::format(limits.body_deadline);
            let detail = format!("the body did not arrive whole within {deadline}");
            Err(Problem::new(Code::BodyTimeout, detail))
        }
    }
}

async fn collect(
    declared: Option<u64>,
    payload: impl Stream<Item = Result<Bytes, PayloadError>>,
    bytes_max: usize,
    budget: &Arc<Budget>,
) -> Result<(Bytes, Reservation), Problem> {
    let declared = declared.and_then(|bytes| usize::try_from(bytes).ok());
    let mut reservation = budget.reserve(declared.unwrap_or(0))?;
    // Copied out of the connection's buffers, which a small value would otherwise keep alive for as
    // long as a memory partition holds it.
    let mut value = Vec::with_capacity(declared.unwrap_or(0));
    let mut chunks = pin!(BodyStream::new(payload));
    while let Some(chunk) = poll_fn(|cx| chunks.as_mut().poll_next(cx)).await {
        let chunk = chunk.map_err(|error| broken(&error))?;
        let length = value.len() + chunk.len();
        if length > bytes_max {
            return Err(too_large(None, bytes_max));
        }
        if length > reservation.bytes {
            reservation.grow(length - reservation.bytes)?;
        }
        value.extend_from_slice(&chunk);
    }
    if declared.is_some_and(|bytes| bytes != value.len()) {
        let detail =
            format!("the body ended after {} bytes, short of its Content-Length", value.len());
        return Err(Problem::new(Code::BadBody, detail));
    }
    value.shrink_to_fit();
    Ok((Bytes::from(value), reservation))
}

fn declared_length(headers: &HeaderMap) -> Result<Option<u64>, Problem> {
    let Some(length) = headers.get(CONTENT_LENGTH) else { return Ok(None) };
    let length = length.to_str().ok().and_then(|text| text.parse().ok());
    length.map(Some).ok_or_else(|| Problem::new(Code::BadBody, "Content-Length is not a number"))
}

fn too_large(declared: Option<u64>, bytes_max: usize) -> Problem {
    let size = match declared {
        Some(bytes) => format!("{bytes} bytes"),
        None => format!("more than {bytes_max} bytes"),
    };
    let detail = format!("the value has {size}; the limit is {bytes_max} (store.value_bytes_max)");
    Problem::new(Code::ValueTooLarge, detail)
}

fn broken(error: &PayloadError) -> Problem {
    tracing::debug!(%error, "a request body broke off");
    Problem::new(Code::BadBody, "the body did not arrive whole, or was framed wrongly")
}

/// The body of an answer, counted where it is large.
pub fn answer(bytes: Bytes, budget: &Arc<Budget>) -> Result<BoxBody, Problem> {
    if bytes.len() <= UNCOUNTED_BYTES_MAX {
        return Ok(BoxBody::new(bytes));
    }
    let reservation = budget.reserve(bytes.len())?;
    Ok(BoxBody::new(Counted { bytes, _reservation: reservation }))
}

/// A large body, counted until it was handed to the connection.
struct Counted {
    bytes: Bytes,
    _reservation: Reservation,
}

/// How much of a counted body is handed over at a time: the connection copies what it is given, and
/// asks for more only when that is nearly written.
const PIECE_BYTES: usize = 64 * 1024;

impl MessageBody for Counted {
    type Error = std::convert::Infallible;

    fn size(&self) -> BodySize {
        BodySize::Sized(self.bytes.len() as u64)
    }

    fn poll_next(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Self::Error>>> {
        let this = self.get_mut();
        let piece = this.bytes.split_to(this.bytes.len().min(PIECE_BYTES));
        Poll::Ready((!piece.is_empty()).then_some(Ok(piece)))
    }
}

/// No body, under the size of the one that GET would send: the answer to HEAD.
pub struct Headless(pub BodySize);

impl MessageBody for Headless {
    type Error = std::convert::Infallible;

    fn size(&self) -> BodySize {
        self.0
    }

    fn poll_next(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Self::Error>>> {
        Poll::Ready(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::body::to_bytes;
    use actix_web::test::TestRequest;
    use std::time::Duration;

    const LIMITS: HttpLimits = HttpLimits {
        key_bytes_max: 16,
        value_bytes_max: 10,
        body_budget_bytes: 100,
        body_deadline: Duration::from_secs(5),
    };

    async fn read_from(request: TestRequest, budget: &Arc<Budget>) -> Result<usize, Code> {
        let (request, payload) = request.to_http_parts();
        let read = read(request.headers(), payload, &LIMITS, budget).await;
        read.map(|(value, _)| value.len()).map_err(|problem| problem.code())
    }

    #[actix_web::test]
    async fn a_body_is_read_up_to_the_limit() {
        let budget = Budget::new(100);
        for (length, result) in [(0, Ok(0)), (10, Ok(10)), (11, Err(Code::ValueTooLarge))] {
            let request = TestRequest::post().set_payload(vec![b'x'; length]);
            assert_eq!(read_from(request, &budget).await, result);
        }
        assert_eq!(budget.free.load(Ordering::Relaxed), 100, "all was given back");
    }

    #[actix_web::test]
    async fn an_undeclared_length_is_limited_as_it_grows() {
        let budget = Budget::new(100);
        for (length, result) in [(10, Ok(10)), (11, Err(Code::ValueTooLarge))] {
            let mut request = TestRequest::post().set_payload(vec![b'x'; length]).to_request();
            request.headers_mut().remove(CONTENT_LENGTH);
            let (_, payload) = request.into_parts();
            let read = read(&HeaderMap::new(), payload, &LIMITS, &budget).await;
            assert_eq!(read.map(|(value, _)| value.len()).map_err(|p| p.code()), result);
        }
        assert_eq!(budget.free.load(Ordering::Relaxed), 100);
    }

    #[actix_web::test]
    async fn a_body_short_of_its_declared_length_is_refused() {
        let request = TestRequest::post().set_payload("abc").insert_header((CONTENT_LENGTH, "9"));
        assert_eq!(read_from(request, &Budget::new(100)).await, Err(Code::BadBody));
    }

    #[actix_web::test]
    async fn beyond_the_budget_nothing_is_taken() {
        let budget = Budget::new(15);
        let held = budget.reserve(8).unwrap();
        let request = || TestRequest::post().set_payload("12345678");
        assert_eq!(read_from(request(), &budget).await, Err(Code::Overloaded));
        drop(held);
        assert_eq!(read_from(request(), &budget).await, Ok(8));
        assert_eq!(budget.free.load(Ordering::Relaxed), 15);
    }

    #[actix_web::test]
    async fn large_answers_are_counted_until_they_are_sent() {
        let budget = Budget::new(200_000);
        let large = Bytes::from(vec![b'x'; 150_000]);
        let first = answer(large.clone(), &budget).unwrap();
        assert_eq!(first.size(), BodySize::Sized(150_000));
        assert_eq!(answer(large.clone(), &budget).unwrap_err().code(), Code::Overloaded);
        assert!(answer(Bytes::from_static(b"small"), &budget).is_ok());
        assert_eq!(to_bytes(first).await.unwrap(), large);
        assert_eq!(budget.free.load(Ordering::Relaxed), 200_000);
    }
}
