//! The closed list of everything that can go wrong, as clients see it.
//!
//! A code is stable: clients branch on it, `/problems/{code}` explains it. An entry cannot be added
//! without its status and its page, because one table gives all of them.

use actix_web::http::StatusCode;

macro_rules! codes {
    ($($variant:ident = $code:literal, $status:ident, $title:literal,
        means $means:literal, remedy $remedy:literal;)+) => {
        /// What went wrong.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Code {
            $(#[doc = $means] $variant,)+
        }

        impl Code {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// Its name in `code` and in `/problems/{code}`.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $code,)+ }
            }

            /// The status that it goes with.
            pub const fn status(self) -> StatusCode {
                match self { $(Self::$variant => StatusCode::$status,)+ }
            }

            /// The problem in a few words.
            pub const fn title(self) -> &'static str {
                match self { $(Self::$variant => $title,)+ }
            }

            /// What it means.
            pub const fn means(self) -> &'static str {
                match self { $(Self::$variant => $means,)+ }
            }

            /// What to do about it.
            pub const fn remedy(self) -> &'static str {
                match self { $(Self::$variant => $remedy,)+ }
            }
        }
    };
}

codes! {
    BadPath = "bad-path", BAD_REQUEST, "Bad escape in the path",
        means "A % in the path is not followed by two hexadecimal digits.",
        remedy "Percent-encode the key; a literal % is written %25.";
    KeyEmpty = "key-empty", BAD_REQUEST, "The key is empty",
        means "A key has at least one byte; nothing was written.",
        remedy "Write to /bucket/{key}.";
    KeyTooLong = "key-too-long", BAD_REQUEST, "The key is too long",
        means "The key has more bytes, after decoding, than the service allows; nothing was written.",
        remedy "Use a shorter key, or have the operator raise store.key_bytes_max.";
    KeyUnreachable = "key-unreachable", BAD_REQUEST, "No path reaches this key",
        means "Clients and proxies remove the segments . and .. from a path, however they are escaped, \
            so a key that consists of nothing else cannot be named by one.",
        remedy "Use another key, or a longer one: only these two cannot be named.";
    BadQuery = "bad-query", BAD_REQUEST, "Bad escape in the query",
        means "A % in the query is not followed by two hexadecimal digits.",
        remedy "Percent-encode parameters; a literal % is written %25.";
    UnknownParameter = "unknown-parameter", BAD_REQUEST, "Unknown query parameter",
        means "The request has a query parameter that this resource does not know. It is refused \
            rather than ignored, so that a misspelt parameter does not go unnoticed.",
        remedy "Correct or remove the parameter; the detail names what is known.";
    RepeatedParameter = "repeated-parameter", BAD_REQUEST, "Repeated query parameter",
        means "A query parameter stands there more than once, so it is not clear which one counts.",
        remedy "Give each parameter once.";
    BadParameter = "bad-parameter", BAD_REQUEST, "Bad value of a query parameter",
        means "The value of a query parameter is not of the right form, or out of its limits.",
        remedy "The detail names the parameter, its form or limit, and what was given.";
    UnknownPartition = "unknown-partition", BAD_REQUEST, "No such partition",
        means "The query parameter partition names a partition that does not exist. This is not a \
            404, which would say that there is no value under the key.",
        remedy "Use one of the names in the detail, or leave the parameter out.";
    BadAccept = "bad-accept", BAD_REQUEST, "Unreadable Accept header",
        means "No item of the Accept header is a media range.",
        remedy "Send for example Accept: application/json, or leave the header out.";
    BadCondition = "bad-condition", BAD_REQUEST, "Unreadable precondition",
        means "If-Match or If-None-Match is neither * nor a list of entity tags.",
        remedy "Send the ETag of an earlier answer as it came, with its double quotes.";
    BadSession = "bad-session", BAD_REQUEST, "Unreadable session token",
        means "The Datastore-Session header holds something that this service never gave out.",
        remedy "Send the Datastore-Session header of an earlier answer as it came, or none.";
    BadPosition = "bad-position", BAD_REQUEST, "Unreadable position",
        means "The position in since, position or Last-Event-ID is something that this service never \
            gave out.",
        remedy "Send what an earlier answer called next or id as it came; or 0, or now.";
    BadContentType = "bad-content-type", BAD_REQUEST, "Unreadable Content-Type",
        means "The Content-Type header is not one media type of at most 255 bytes; nothing was \
            written.",
        remedy "Send for example Content-Type: application/json, or leave the header out.";
    BadBody = "bad-body", BAD_REQUEST, "The body did not arrive whole",
        means "The request's body ended early or was framed wrongly; nothing was written.",
        remedy "Send the request again.";
    BadPatch = "bad-patch", BAD_REQUEST, "Unusable merge patch",
        means "The body of a PATCH with application/merge-patch+json is not JSON, nests too deep, names \
            too many members or one of them twice; nothing was written.",
        remedy "Send a JSON object with the members to change; null takes a member away.";
    BadBatch = "bad-batch", BAD_REQUEST, "Malformed batch",
        means "The batch is not of the form that it must have, or has too many operations. It is read \
            whole before anything is done; nothing was.",
        remedy "The detail names the place and what is wrong there; docs/api.md shows the form.";
    BadHost = "bad-host", BAD_REQUEST, "Unreadable Host header",
        means "The request has not exactly one Host header of the form name or name:port.",
        remedy "Send the host and port of the URL, as every client library does by itself.";
    CrossSite = "cross-site", FORBIDDEN, "Cross-site request refused",
        means "A browser says that a page of another site made this request. Requests that change \
            something are taken from the service's own pages and from other programs only.",
        remedy "Make the request outside of a foreign web page.";
    NotFound = "not-found", NOT_FOUND, "No value under this key",
        means "The partition that served the read has no value under the key: it was never written, \
            was deleted or has expired, or a write of it has not arrived there yet.",
        remedy "If you have just written it, send the Datastore-Session header of that answer along.";
    UnknownSubscription = "unknown-subscription", NOT_FOUND, "No such subscription",
        means "There is no subscription of this name: it was never made, was deleted, or was silent \
            for its lease.",
        remedy "Make it with PUT /subscriptions/{name}.";
    UnknownPath = "unknown-path", NOT_FOUND, "Nothing lives here",
        means "The service has no resource at this path.",
        remedy "Values live at /bucket/{key}; GET /bucket/ lists them.";
    MethodNotAllowed = "method-not-allowed", METHOD_NOT_ALLOWED, "Method not allowed",
        means "The resource does not support this method.",
        remedy "Use one of the methods in the Allow header.";
    NotAcceptable = "not-acceptable", NOT_ACCEPTABLE, "No acceptable representation",
        means "The Accept header excludes every representation that could be sent.",
        remedy "Accept one of the types that the detail names, or send Accept: */*.";
    Unmergeable = "unmergeable", CONFLICT, "What stands cannot be patched",
        means "A merge patch was sent, and what stands under the key is not JSON, or nests too deep; \
            nothing was written.",
        remedy "Replace the value with PUT, or with PATCH under its own Content-Type.";
    PositionBehind = "position-behind", CONFLICT, "The position lies behind",
        means "The acknowledged position lies behind the one that stands, or is not on the way from it; \
            nothing was changed. Positions only move forward.",
        remedy "Ask for the next page and acknowledge that. To go back, PUT the subscription with since.";
    WrongState = "wrong-state", CONFLICT, "Not in this state",
        means "The state of the service does not allow what was asked for: one operation is made at a \
            time, and only while the service is RUNNING. Nothing was changed.",
        remedy "GET /admin/service tells the state and the operation that is under way; ask again when \
            it has ended.";
    UnknownCopy = "no-such-partition", NOT_FOUND, "No such partition",
        means "There is no partition of this name.",
        remedy "GET /admin/partitions lists them.";
    NotACopy = "not-a-copy", CONFLICT, "Not a read copy that was added",
        means "The embedded copy belongs to its front end and cannot be removed; only the private \
            servers of read copies can be killed.",
        remedy "GET /admin/partitions tells which are copies.";
    NameTaken = "name-taken", CONFLICT, "The name is taken",
        means "There is a partition of this name already. Nothing was changed.",
        remedy "Give another name, or none.";
    TooManyVoters = "too-many-voters", CONFLICT, "Too many voters",
        means "There may be 64 voters.",
        remedy "Remove one, or add a read copy.";
    LastPartition = "last-partition", CONFLICT, "The last partition",
        means "Without this partition the service would hold no data.",
        remedy "Nothing: a service has at least one partition that holds the data.";
    NoStandby = "no-standby", CONFLICT, "No database is free",
        means "The list scaling.standby has not so many databases that no copy has taken yet.",
        remedy "Remove a copy, have the operator add databases to the list, or use another provisioner.";
    TooManyCopies = "too-many-copies", CONFLICT, "Too many read copies",
        means "There may be 64 read copies, and 16 may be added at once.",
        remedy "Ask for fewer, or remove some.";
    BadPartition = "bad-partition", BAD_REQUEST, "Unusable description of a partition",
        means "The body does not say which partitions are to be added.",
        remedy "Send {\"count\": 1}, with \"from\" sqlite, mariadb or standby if you like, or {\"url\": \
            \"mysql://user:password@host:3306/database\"}; for a voter one of those with \"role\" \
            replica or witness, and a \"name\" if you like.";
    NoKeyFile = "no-key-file", CONFLICT, "The password could not be kept",
        means "The url has a password, and this front end has no key to seal it with.",
        remedy "Have the operator set orchestrator.key_file at all front ends.";
    ChaosDisabled = "chaos-disabled", FORBIDDEN, "Nothing is killed on purpose",
        means "Killing servers on purpose is not switched on.",
        remedy "Have the operator set chaos.enabled = true, where that is wanted.";
    EpochMoved = "epoch-moved", CONFLICT, "The topology has moved on",
        means "The plan was made under an epoch that is over: what it was based on is not what is there. \
            Nothing was changed.",
        remedy "GET /admin/plan again, and look at what it says now.";
    NotAVoter = "not-a-voter", CONFLICT, "A read copy takes no writes",
        means "A read copy answers reads and nothing else; only voters can be masters. Nothing was changed.",
        remedy "Name one of the voters that the detail lists.";
    HoldsNoData = "holds-no-data", CONFLICT, "A witness takes no writes",
        means "A witness votes and holds no data, so it can be no master. Nothing was changed.",
        remedy "Name one of the voters that the detail lists.";
    NotActive = "not-active", CONFLICT, "Not in a state to take slots",
        means "Slots are given to active voters only: to none that joins, is down, is about to go or is \
            quarantined. Nothing was changed.",
        remedy "The detail tells its state and what has to happen first; or name another voter.";
    MasterAway = "master-away", CONFLICT, "The master does not answer",
        means "A master hands its slots over only while it answers. Nothing was changed.",
        remedy "Wait until it is back, or until its slots are taken over; or send {\"from\": NAME, \"force\": \
            true} to take them without it: GET /admin/plan with the same tells what may be lost.";
    WhichMaster = "which-master", BAD_REQUEST, "There are several masters",
        means "The request does not say whose slots are to be given. Nothing was changed.",
        remedy "Send {\"from\": NAME} for all slots of one of them, or {\"share\": true} for a fair share of \
            each.";
    BadPromotion = "bad-promotion", BAD_REQUEST, "Unusable description of a promotion",
        means "The body does not say which slots are to be given. Nothing was changed.",
        remedy "Send nothing, {\"from\": NAME} or {\"share\": true}; with from, force too; a reason if you like.";
    NoMajority = "no-majority", SERVICE_UNAVAILABLE, "The topology cannot be read or changed",
        means "Who takes which writes is agreed on by a majority of the voters, and too few answer, or \
            others change it at the same time.",
        remedy "GET /admin/partitions tells who does not answer. Where a majority is lost for good, begin a \
            new set with what is left: datastore init --restored.";
    NoServer = "no-server", CONFLICT, "There is no server to kill",
        means "The copy has no private server, or that does not run where this front end does.",
        remedy "Kill a copy from the provisioner mariadb, at a front end with the same data root.";
    KeyReused = "key-reused", CONFLICT, "The Idempotency-Key is taken",
        means "An earlier request with the same Idempotency-Key asked for something else. Nothing was \
            changed.",
        remedy "Send another key with another request; the same one only to repeat the same request.";
    BadKey = "bad-idempotency-key", BAD_REQUEST, "Unusable Idempotency-Key",
        means "The Idempotency-Key header is not one text of 1 to 255 visible ASCII characters.",
        remedy "Send for example a random UUID, or leave the header out.";
    Unconfirmed = "unconfirmed", BAD_REQUEST, "Not confirmed",
        means "What was asked for cannot be taken back, and the request does not confirm it.",
        remedy "The detail tells what to send along.";
    Reset = "reset", GONE, "The position is gone",
        means "What followed the position cannot be told any more: the log was trimmed past it, it \
            belongs to an earlier set of partitions, or what it covers is lost.",
        remedy "Drop what was followed so far and begin again with since=0.";
    BodyTimeout = "body-timeout", REQUEST_TIMEOUT, "The body took too long",
        means "The request's body did not arrive within the deadline; nothing was written.",
        remedy "Send it again over a faster connection, or in smaller values.";
    PreconditionFailed = "precondition-failed", PRECONDITION_FAILED, "Precondition failed",
        means "If-Match or If-None-Match does not hold for what stands under the key; nothing was \
            written.",
        remedy "Read the key again, decide anew, and send the ETag that you have read.";
    ValueTooLarge = "value-too-large", PAYLOAD_TOO_LARGE, "The value is too large",
        means "The body has more bytes than a value may have. Nothing was written; what stood \
            before still stands.",
        remedy "Store smaller values, or have the operator raise store.value_bytes_max.";
    UnsupportedMediaType = "unsupported-media-type", UNSUPPORTED_MEDIA_TYPE,
        "Forms are not taken apart",
        means "The body is a multipart form. A value is stored as it is sent, so its boundaries and \
            part headers would become part of it; nothing was written.",
        remedy "Send the bytes themselves: curl --data-binary @FILE -H 'Content-Type: TYPE' URL";
    BatchFull = "batch-full", PAYLOAD_TOO_LARGE, "The answer of the batch is full",
        means "The values that the batch asks for come to more bytes than one answer carries; this one \
            was left out.",
        remedy "Get this key on its own, or in a smaller batch.";
    UnsupportedBatch = "unsupported-batch", UNSUPPORTED_MEDIA_TYPE, "Unknown form of a batch",
        means "The body's Content-Type is none that a batch can have; nothing was done.",
        remedy "Send application/json, or application/x-ndjson with an operation a line.";
    UnsupportedPatch = "unsupported-patch", UNSUPPORTED_MEDIA_TYPE, "Unknown kind of patch",
        means "The body of a PATCH calls itself a patch of a kind that is not known here; nothing was \
            written.",
        remedy "Send application/merge-patch+json, or the whole new value under its own type.";
    UnsupportedContentEncoding = "unsupported-content-encoding", UNSUPPORTED_MEDIA_TYPE,
        "Encoded bodies are not taken",
        means "The body has a Content-Encoding. Values are stored as they are sent; nothing was \
            written.",
        remedy "Send the body as it is, or store the compressed bytes under their own Content-Type.";
    UnknownHost = "unknown-host", MISDIRECTED_REQUEST, "Not a name of this service",
        means "The Host header names a host that this service does not answer for. The check keeps \
            web pages from reaching it under a name of their own (DNS rebinding).",
        remedy "Use the address that the service listens on, or have the operator add the name to \
            server.hosts.";
    Overloaded = "overloaded", SERVICE_UNAVAILABLE, "Too busy",
        means "More requests are waiting than the service takes on; nothing was done.",
        remedy "Send the request again after the time in Retry-After.";
    NotWritten = "not-written", SERVICE_UNAVAILABLE, "The write was not made",
        means "The partition that takes the writes of this key could not take it. Certainly nothing \
            was written.",
        remedy "Send the request again after the time in Retry-After; repeating it is safe.";
    OutcomeUnknown = "outcome-unknown", SERVICE_UNAVAILABLE, "The write may stand or not",
        means "The write was sent to its partition, and no answer came back: it may have been made.",
        remedy "Read the key. Repeating a plain PUT or POST is safe; with a precondition, read first.";
    AckUnmet = "ack-unmet", SERVICE_UNAVAILABLE, "Fewer hold the write than was asked for",
        means "The write stands at its master, under the ETag of this answer, and will reach the other \
            partitions. In the time allowed, too few of them confirmed that they hold it.",
        remedy "Read the key to see what stands, or send the write again. With ack=1 the master's own \
            word is enough.";
    TooStale = "too-stale", SERVICE_UNAVAILABLE, "No partition is recent enough",
        means "No partition that can be read has yet what the session has seen, or is known to be as \
            young as max_age_ms asks for. An older answer is never given silently.",
        remedy "Send the request again after the time in Retry-After; or without Datastore-Session, or \
            with a greater max_age_ms, to take what there is.";
    SessionLost = "session-lost", SERVICE_UNAVAILABLE, "What the session has seen is lost",
        means "The session token covers a write that no partition can have any more, or belongs to \
            an earlier set of partitions.",
        remedy "Drop the token and read anew. Waiting does not help.";
    Unavailable = "unavailable", SERVICE_UNAVAILABLE, "No partition could serve the read",
        means "The partitions that could have answered are down or in trouble.",
        remedy "Send the request again after the time in Retry-After; /readyz tells what is degraded.";
    DeadlinePassed = "deadline-passed", SERVICE_UNAVAILABLE, "The deadline passed",
        means "The request waited too long for its partition and was taken back; nothing was done.",
        remedy "Send the request again after the time in Retry-After.";
    Stopping = "stopping", SERVICE_UNAVAILABLE, "Shutting down",
        means "This front end is shutting down; nothing was done.",
        remedy "Send the request again: another front end, or this one after its restart, takes it.";
}

impl Code {
    /// The code of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|code| code.name() == name)
    }

    /// Where its page is.
    pub fn path(self) -> String {
        format!("{}{}", super::PROBLEMS, self.name())
    }

    /// After how many seconds the request may be repeated without a second thought; `None` where
    /// repeating it would not help, or might do harm: what nobody has thought of is not repeated.
    pub const fn retry_after_secs(self) -> Option<u32> {
        // Long enough for a balancer to have noticed, or for a restart.
        if matches!(self, Self::Stopping) {
            return Some(5);
        }
        let passes = matches!(
            self,
            Self::Overloaded
                | Self::NotWritten
                | Self::TooStale
                | Self::Unavailable
                | Self::DeadlinePassed
        );
        if passes { Some(1) } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_code_has_its_own_name_and_a_page() {
        let mut seen = HashSet::new();
        for &code in Code::ALL {
            let name = code.name();
            assert!(seen.insert(name), "{name} twice");
            assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b == b'-'), "{name}");
            assert_eq!(Code::named(name), Some(code));
            assert!(code.status().is_client_error() || code.status() == 503, "{name}");
            for text in [code.means(), code.remedy()] {
                assert!(text.len() > 20 && !text.contains("  ") && !text.contains('\n'), "{text}");
            }
        }
        assert_eq!(Code::named("nonsense"), None);
    }

    #[test]
    fn only_what_is_over_soon_may_be_repeated() {
        for &code in Code::ALL {
            if code.retry_after_secs().is_some() {
                assert_eq!(code.status(), StatusCode::SERVICE_UNAVAILABLE, "{}", code.name());
            }
        }
        assert_eq!(Code::OutcomeUnknown.retry_after_secs(), None);
    }
}
