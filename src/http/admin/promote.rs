//! `/admin/partitions/{name}/promote`, and the plan of it: a voter takes more slots. Always JSON.

use actix_web::http::{Method, StatusCode};
use actix_web::{HttpRequest, HttpResponse, web};
use serde::Deserialize;

use super::operations::{Asked, accepted};
use super::partitions::{ALLOW_POST, Place, named};
use crate::http::answer;
use crate::http::code::Code;
use crate::http::error::Problem;
use crate::http::query::Query;
use crate::http::wire_topology::MovesDoc;
use crate::orchestrator::Orchestrator;
use crate::orchestrator::promotion::{REASON_BYTES_MAX, Share, Unfit, Wish};
use crate::version::Epoch;

/// Who is to take slots: what a plan of a promotion is asked for by.
pub const PROMOTE: &str = "promote";
/// All slots of whom.
pub const FROM: &str = "from";
/// A fair share instead.
pub const SHARE: &str = "share";
/// Also without the master.
pub const FORCE: &str = "force";
const EPOCH: &str = "epoch";
const END: &str = "/promote";

/// Which slots, and why; all of it may be left out.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Described {
    from: Option<String>,
    #[serde(default)]
    share: bool,
    #[serde(default)]
    force: bool,
    reason: Option<String>,
}

/// Answers one request.
pub async fn serve(request: HttpRequest, payload: web::Payload, place: Place) -> HttpResponse {
    let answered = match *request.method() {
        Method::POST => promote(&request, payload, &place).await,
        Method::OPTIONS => Ok(answer::options(ALLOW_POST)),
        _ => Err(Problem::method_not_allowed(ALLOW_POST)),
    };
    answered.unwrap_or_else(|problem| problem.respond(request.headers()))
}

async fn promote(
    request: &HttpRequest,
    payload: web::Payload,
    place: &Place,
) -> Result<HttpResponse, Problem> {
    let query = Query::parse(request.uri().query(), &[EPOCH])?;
    let epoch = epoch_of(&query)?;
    let to = named(request, END)?;
    let (body, _taken) = place.body(request, payload).await?;
    let bad = |detail: String| Problem::new(Code::BadPromotion, detail);
    let Described { from, share, force, reason } = match &*body {
        b"" => Described::default(),
        body => serde_json::from_slice(body).map_err(|error| bad(error.to_string()))?,
    };
    if let Some(given) = reason.as_ref().map(String::len).filter(|len| *len > REASON_BYTES_MAX) {
        return Err(bad(format!("reason has {given} bytes; the limit is {REASON_BYTES_MAX}")));
    }
    let wish = Wish { to, share: share_of(from, share)?, force, reason, epoch };
    let asked = Asked::of(request, &body)?;
    let operation = place.orchestrator().promote(&wish, asked.key, asked.digest).await?;
    Ok(accepted(&operation))
}

/// What would be done.
pub async fn planned(query: &Query, orchestrator: &Orchestrator) -> Result<HttpResponse, Problem> {
    let text =
        |name: &str| query.bytes(name).map(|name| String::from_utf8_lossy(name).into_owned());
    let share = share_of(text(FROM), query.switch(SHARE)?)?;
    let (to, force) = (text(PROMOTE).unwrap_or_default(), query.switch(FORCE)?);
    let wish = Wish { to, share, force, ..Wish::default() };
    let planned = orchestrator.plan_promotion(&wish).await?;
    Ok(answer::json(StatusCode::OK, &MovesDoc::new(&planned)))
}

fn share_of(from: Option<String>, share: bool) -> Result<Share, Problem> {
    match (from, share) {
        (Some(_), true) => {
            let detail = "from takes all slots of one master, and share some of each: send one";
            Err(Problem::new(Code::BadPromotion, detail))
        }
        (Some(from), false) => Ok(Share::From(from)),
        (None, true) => Ok(Share::Fair),
        (None, false) => Ok(Share::Only),
    }
}

/// The epoch that a request is based on, if it says so.
pub fn epoch_of(query: &Query) -> Result<Option<Epoch>, Problem> {
    let epoch = query.number(EPOCH, 1..=Epoch::MAX.number() as usize)?;
    Ok(epoch.and_then(|epoch| u32::try_from(epoch).ok()).and_then(Epoch::new))
}

impl From<Unfit> for Code {
    fn from(unfit: Unfit) -> Self {
        match unfit {
            Unfit::NotAVoter { .. } => Self::NotAVoter,
            Unfit::HoldsNoData { .. } => Self::HoldsNoData,
            Unfit::NotActive { .. } => Self::NotActive,
            Unfit::Away { .. } => Self::MasterAway,
            Unfit::WhichMaster { .. } => Self::WhichMaster,
            Unfit::NotAMaster { .. } | Unfit::ForcedShare => Self::BadPromotion,
        }
    }
}
