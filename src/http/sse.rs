//! A stream of server-sent events.
//!
//! Each batch of events ends with an `id`, the position after it; a client that comes again sends
//! the last one that it was told. A heartbeat is an event, too: it has an id, so that the position
//! moves on where nothing happens to the keys that are followed, and it tells the newest version of
//! every partition, so that a client can see that it has all. The first one says that the snapshot
//! is through, or that there is none.
//!
//! BOUND-1: a stream is asked for more only when what it gave is nearly written. What is large is
//! counted in the budget of all bodies and handed over in pieces. A client that never reads holds
//! one batch, and is cut by the socket's own timeout; nobody waits for it.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use actix_web::HttpResponse;
use actix_web::body::{BodySize, MessageBody};
use actix_web::http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use bytes::Bytes;

use super::answer;
use super::body::{Budget, Reservation};
use super::wire_feed::{self, HeartbeatDoc, ResetDoc};
use crate::feed::{Batch, Follower, Mark, Position, Step};
use crate::record::Key;

/// Tells proxies not to keep events back.
static ACCEL: HeaderName = HeaderName::from_static("x-accel-buffering");
/// What is handed over at a time.
const PIECE_BYTES: usize = 16 * 1024;
/// When a client whose stream was ended should come again, in milliseconds: not all at once.
const RETRY_MS: u64 = 1_000;
const RETRY_SPREAD_MS: u64 = 2_000;

const RESET: &str = "the position cannot be resumed: its log has been trimmed, or it is of another \
                     set; a snapshot follows";

/// Answers with everything that follows `follower`'s position. `is_reset`: it was given one that
/// cannot be resumed, and stands at the beginning instead.
pub fn respond(
    follower: Follower,
    with_value: bool,
    is_reset: bool,
    budget: &Arc<Budget>,
) -> HttpResponse {
    let state = Box::new(State {
        follower,
        with_value,
        budget: Arc::clone(budget),
        is_reset,
        has_ended: false,
    });
    let stream = Stream { turn: Turn::Idle(state), piece: Bytes::new(), reservation: None };
    HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, mime::TEXT_EVENT_STREAM.as_ref()))
        .insert_header((ACCEL.clone(), HeaderValue::from_static("no")))
        .body(stream)
}

struct State {
    follower: Follower,
    with_value: bool,
    budget: Arc<Budget>,
    /// The client has to be told that it begins again.
    is_reset: bool,
    has_ended: bool,
}

/// Bytes, and what they have taken from the budget.
type Piece = (Bytes, Option<Reservation>);

impl State {
    /// What comes next; `None`: the end.
    async fn next(&mut self) -> Option<Piece> {
        loop {
            if self.has_ended {
                return None;
            }
            if std::mem::take(&mut self.is_reset) {
                return Some((self.reset(), None));
            }
            let patience = self.follower.feed().limits().heartbeat;
            let is_first = *self.follower.position() == Position::Start;
            match self.follower.step(patience).await {
                Step::Events(batch) => match self.events(&batch, is_first) {
                    Ok(None) => {}
                    Ok(Some(piece)) => return Some(piece),
                    Err(Full) => return Some((self.end(), None)),
                },
                Step::Current | Step::Quiet => return Some((self.heartbeat(), None)),
                Step::Reset => self.is_reset = true,
                Step::End => return Some((self.end(), None)),
            }
        }
    }

    /// The events of a batch, the last one with the position after it. The first one of a snapshot
    /// has one, too: whoever has been told anything goes on with this snapshot, not with another.
    fn events(&self, batch: &Batch, is_first: bool) -> Result<Option<Piece>, Full> {
        let mut text: Vec<u8> = Vec::new();
        let mut followed =
            batch.events.iter().filter(|event| self.follower.follows(event.row.key.bytes()));
        let Some(mut event) = followed.next() else { return Ok(None) };
        let mut first = is_first.then(|| self.id_within(&event.row.key)).flatten();
        loop {
            let next = followed.next();
            let data = wire_feed::event(event, self.follower.feed(), self.with_value);
            let id = if next.is_none() { Some(self.id()) } else { first.take() };
            frame(&mut text, id.as_deref(), wire_feed::kind(&event.row), &data);
            match next {
                Some(next) => event = next,
                None => break,
            }
        }
        let reservation = match text.len() {
            ..=PIECE_BYTES => None,
            bytes => Some(self.budget.reserve(bytes).map_err(|_| Full)?),
        };
        Ok(Some((text.into(), reservation)))
    }

    fn id(&self) -> String {
        let set = self.follower.feed().set_id();
        Mark::of(set, self.follower.position().clone()).to_string()
    }

    /// The position inside the snapshot that has just begun.
    fn id_within(&self, after: &Key) -> Option<String> {
        let vector = match self.follower.position() {
            Position::Snapshot { vector, .. } | Position::Tail(vector) => vector.clone(),
            Position::Start => return None,
        };
        let position = Position::Snapshot { vector, after: Some(after.clone()) };
        Some(Mark::of(self.follower.feed().set_id(), position).to_string())
    }

    fn heartbeat(&self) -> Bytes {
        let doc = HeartbeatDoc::new(self.follower.feed(), self.follower.position());
        let mut text = Vec::new();
        frame(&mut text, Some(&self.id()), "heartbeat", &answer::json_bytes(&doc));
        text.into()
    }

    fn reset(&self) -> Bytes {
        let mut text = Vec::new();
        // Whoever is cut off right here begins again, too.
        let doc = answer::json_bytes(&ResetDoc::new(RESET));
        frame(&mut text, Some(&self.id()), "reset", &doc);
        text.into()
    }

    /// The last word: when to come again.
    fn end(&mut self) -> Bytes {
        self.has_ended = true;
        let spread = self.follower.number().wrapping_mul(379) % RETRY_SPREAD_MS;
        format!("retry: {}\n\n", RETRY_MS + spread).into()
    }
}

/// The budget of bodies is used up.
struct Full;

/// JSON has no line ends of its own, so that an event is always one line of data.
fn frame(text: &mut Vec<u8>, id: Option<&str>, event: &str, data: &[u8]) {
    if let Some(id) = id {
        text.extend(b"id: ");
        text.extend(id.as_bytes());
        text.push(b'\n');
    }
    text.extend(b"event: ");
    text.extend(event.as_bytes());
    text.extend(b"\ndata: ");
    text.extend(data);
    text.extend(b"\n\n");
}

/// What comes next, and who made it.
type Made = (Box<State>, Option<Piece>);

enum Turn {
    Idle(Box<State>),
    Busy(Pin<Box<dyn Future<Output = Made>>>),
    Over,
}

/// The body of the answer.
struct Stream {
    turn: Turn,
    piece: Bytes,
    reservation: Option<Reservation>,
}

impl MessageBody for Stream {
    type Error = Infallible;

    fn size(&self) -> BodySize {
        BodySize::Stream
    }

    fn poll_next(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Self::Error>>> {
        let this = self.get_mut();
        loop {
            if !this.piece.is_empty() {
                let piece = this.piece.split_to(this.piece.len().min(PIECE_BYTES));
                if this.piece.is_empty() {
                    this.reservation = None;
                }
                return Poll::Ready(Some(Ok(piece)));
            }
            match std::mem::replace(&mut this.turn, Turn::Over) {
                Turn::Idle(mut state) => {
                    this.turn = Turn::Busy(Box::pin(async move {
                        let piece = state.next().await;
                        (state, piece)
                    }));
                }
                Turn::Busy(mut future) => match future.as_mut().poll(cx) {
                    Poll::Pending => {
                        this.turn = Turn::Busy(future);
                        return Poll::Pending;
                    }
                    Poll::Ready((_, None)) => return Poll::Ready(None),
                    Poll::Ready((state, Some((piece, reservation)))) => {
                        (this.piece, this.reservation) = (piece, reservation);
                        this.turn = Turn::Idle(state);
                    }
                },
                Turn::Over => return Poll::Ready(None),
            }
        }
    }
}
