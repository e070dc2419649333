//! JSON shapes of subscriptions, followers and front ends.

use serde::Serialize;

use super::rfc3339;
use super::wire::text_or_base64;
use crate::duration;
use crate::feed::Feed;
use crate::frontends::{FollowerAbout, Running};
use crate::subscription::Subscription;

/// A subscription.
#[derive(Debug, Serialize)]
pub struct SubscriptionDoc<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    prefix: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prefix_base64: Option<String>,
    position: String,
    lag: Option<u64>,
    lease: String,
    created_at: String,
    expires_at: Option<String>,
}

impl<'a> SubscriptionDoc<'a> {
    /// One as it stands; its lag as far as `feed` knows.
    pub fn new(subscription: &'a Subscription, feed: &Feed) -> Self {
        let (prefix, prefix_base64) = text_or_base64(&subscription.prefix);
        Self {
            name: &subscription.name,
            prefix,
            prefix_base64,
            position: subscription.mark.to_string(),
            lag: feed.lag(&subscription.mark.position),
            lease: duration::format(subscription.lease),
            created_at: rfc3339::format(subscription.created_ms),
            expires_at: subscription.expires_ms.map(rfc3339::format),
        }
    }
}

/// Somebody who follows at a front end.
#[derive(Debug, Serialize)]
struct FollowerDoc<'a> {
    kind: &'a str,
    subscription: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prefix: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prefix_base64: Option<String>,
    position: &'a str,
    lag: Option<u64>,
    since: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    frontend: Option<&'a str>,
}

impl<'a> FollowerDoc<'a> {
    fn new(follower: &'a FollowerAbout, frontend: Option<&'a str>) -> Self {
        let (prefix, prefix_base64) = text_or_base64(&follower.prefix);
        Self {
            kind: &follower.kind,
            subscription: follower.subscription.as_deref(),
            prefix,
            prefix_base64,
            position: &follower.position,
            lag: follower.lag,
            since: rfc3339::format(follower.since_ms),
            frontend,
        }
    }
}

/// Everybody who follows.
#[derive(Debug, Serialize)]
pub struct FollowersDoc<'a> {
    subscriptions: Vec<SubscriptionDoc<'a>>,
    followers: Vec<FollowerDoc<'a>>,
    /// At how many places somebody follows, those that are not named included.
    following: usize,
}

impl<'a> FollowersDoc<'a> {
    /// Subscriptions, and who follows at the front ends.
    pub fn new(subscriptions: &'a [Subscription], running: &'a [Running], feed: &Feed) -> Self {
        let at = |running: &'a Running| {
            let follower = |one: &'a FollowerAbout| FollowerDoc::new(one, Some(&running.id));
            running.about.listed.iter().map(follower)
        };
        Self {
            subscriptions: subscriptions
                .iter()
                .map(|one| SubscriptionDoc::new(one, feed))
                .collect(),
            followers: running.iter().flat_map(at).collect(),
            following: running.iter().map(|running| running.about.followers).sum(),
        }
    }
}

/// The front ends that run.
#[derive(Debug, Serialize)]
pub struct FrontendsDoc<'a> {
    frontends: Vec<FrontendDoc<'a>>,
}

#[derive(Debug, Serialize)]
struct FrontendDoc<'a> {
    id: &'a str,
    is_self: bool,
    address: &'a str,
    version: &'a str,
    started_at: String,
    heartbeat: String,
    silent_ms: i64,
    serves: Vec<ServesDoc<'a>>,
    following: usize,
    followers: Vec<FollowerDoc<'a>>,
}

#[derive(Debug, Serialize)]
struct ServesDoc<'a> {
    partition: &'a str,
    engine: &'a str,
    readable: bool,
    writable: bool,
    trouble: Option<&'a str>,
}

impl<'a> FrontendsDoc<'a> {
    /// Those that run.
    pub fn new(running: &'a [Running]) -> Self {
        let one = |running: &'a Running| {
            let about = &running.about;
            let interval = u64::try_from(about.interval_ms).unwrap_or_default();
            let serves = about.serves.iter().map(|serves| ServesDoc {
                partition: &serves.partition,
                engine: &serves.engine,
                readable: serves.readable,
                writable: serves.writable,
                trouble: serves.trouble.as_deref(),
            });
            FrontendDoc {
                id: &running.id,
                is_self: running.is_self,
                address: &about.address,
                version: &about.version,
                started_at: rfc3339::format(about.started_ms),
                heartbeat: duration::format(std::time::Duration::from_millis(interval)),
                silent_ms: running.silent_ms,
                serves: serves.collect(),
                following: about.followers,
                followers: about.listed.iter().map(|one| FollowerDoc::new(one, None)).collect(),
            }
        };
        Self { frontends: running.iter().map(one).collect() }
    }
}
