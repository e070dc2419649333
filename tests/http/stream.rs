//! A stream of server-sent events, read as a browser does.

use std::future::poll_fn;
use std::pin::Pin;

use actix_web::body::{BoxBody, MessageBody};
use actix_web::http::header::ACCEPT;
use serde_json::Value;
use tokio::time::timeout;

use super::fixture::{BOUND, Front, get};

/// One event.
#[derive(Debug)]
pub struct Sse {
    pub id: Option<String>,
    pub event: String,
    pub data: Value,
}

impl Sse {
    pub fn id(&self) -> &str {
        self.id.as_deref().unwrap_or_else(|| panic!("no id: {self:?}"))
    }
}

/// An open stream. Dropping it closes the connection.
pub struct Stream {
    body: Pin<Box<BoxBody>>,
    text: String,
}

impl Stream {
    pub async fn open(front: &Front, query: &str) -> Self {
        Self::again(front, query, "").await
    }

    /// As a client that was told `last` comes again.
    pub async fn again(front: &Front, query: &str, last: &str) -> Self {
        let request =
            get(&format!("/changes?{query}")).insert_header((ACCEPT, "text/event-stream"));
        let response = front.send(request.insert_header(("last-event-id", last))).await;
        assert_eq!(response.status(), 200);
        let kind = response.headers().get("content-type").unwrap();
        assert_eq!(kind, "text/event-stream");
        Self { body: Box::pin(response.into_body()), text: String::new() }
    }

    /// The next event; panics at the end of the stream.
    pub async fn next(&mut self) -> Sse {
        loop {
            if let Some((frame, rest)) = self.text.split_once("\n\n") {
                let (frame, rest) = (frame.to_owned(), rest.to_owned());
                self.text = rest;
                return parsed(&frame);
            }
            assert!(self.more().await, "the stream has ended");
        }
    }

    pub async fn heartbeat(&mut self) -> Sse {
        let next = self.next().await;
        assert_eq!(next.event, "heartbeat", "{next:?}");
        next
    }

    /// The next one that is not a heartbeat.
    pub async fn next_event(&mut self) -> Sse {
        loop {
            let next = self.next().await;
            if next.event != "heartbeat" {
                return next;
            }
        }
    }

    /// All that comes until the end.
    pub async fn rest(mut self) -> String {
        while self.more().await {}
        self.text
    }

    async fn more(&mut self) -> bool {
        let piece = poll_fn(|cx| self.body.as_mut().poll_next(cx));
        match timeout(BOUND, piece).await.expect("something within the bound") {
            Some(Ok(bytes)) => {
                self.text.push_str(std::str::from_utf8(&bytes).unwrap());
                true
            }
            Some(Err(error)) => panic!("{error}"),
            None => false,
        }
    }
}

fn parsed(frame: &str) -> Sse {
    let field = |name: &str| {
        frame
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
            .map(str::to_owned)
    };
    let data = field("data").unwrap_or_else(|| panic!("no data: {frame:?}"));
    Sse {
        id: field("id"),
        event: field("event").unwrap(),
        data: serde_json::from_str(&data).unwrap(),
    }
}
