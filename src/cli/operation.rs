//! One operation on one key: by its path, as any client does, or, where no path reaches the key, as
//! a batch of one.

use serde_json::{Map, Value};
use ureq::http::{Method, StatusCode};

use super::arguments::{Target, parameter, query};
use super::value;
use crate::client::{Answer, Client, ClientError};
use crate::http::paths;

/// What is done with the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    Get,
    Set,
    Update,
    Delete,
}

impl Verb {
    const fn method(self) -> Method {
        match self {
            Self::Get => Method::GET,
            Self::Set => Method::PUT,
            Self::Update => Method::PATCH,
            Self::Delete => Method::DELETE,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Set => "set",
            Self::Update => "update",
            Self::Delete => "delete",
        }
    }
}

/// What is asked for.
#[derive(Debug)]
pub struct Operation {
    /// What to do.
    pub verb: Verb,
    /// With which key.
    pub key: Vec<u8>,
    /// What to store.
    pub value: Option<Vec<u8>>,
    /// Conditions and media type, by the names of their headers.
    pub headers: Vec<(&'static str, String)>,
    /// The time to live.
    pub ttl: Option<String>,
    /// How many have to hold it.
    pub ack: Option<String>,
    /// Where to read.
    pub partition: Option<String>,
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Done {
    /// The value that was read.
    pub value: Vec<u8>,
    /// Whether there was none before, where that is told.
    created: Option<bool>,
    /// What else is told, by the names that `--json` prints.
    told: Vec<(&'static str, String)>,
}

impl Operation {
    /// An operation without a value, conditions or wishes.
    pub const fn new(verb: Verb, key: Vec<u8>) -> Self {
        let headers = Vec::new();
        Self { verb, key, value: None, headers, ttl: None, ack: None, partition: None }
    }

    /// Asks the service.
    pub fn run(&self, target: &Target) -> Result<Done, ClientError> {
        let client = target.service.client()?;
        if paths::is_unreachable(&self.key) {
            self.run_as_batch(&client, target)
        } else {
            self.run_by_path(&client, target)
        }
    }

    /// What the whole request asks for, by path or as a batch.
    fn parameters(&self) -> Vec<String> {
        let wishes = [("ack", &self.ack), ("partition", &self.partition)];
        wishes.iter().filter_map(|(name, value)| parameter(name, value.as_ref())).collect()
    }

    fn run_by_path(&self, client: &Client, target: &Target) -> Result<Done, ClientError> {
        let path = paths::emit(target.base(), &self.key);
        let mut parameters = self.parameters();
        parameters.extend(parameter("ttl", self.ttl.as_ref()));
        let path = format!("{path}{}", query(&parameters));
        let mut headers = self.headers.clone();
        headers.extend(target.session());
        headers.push(("accept", "*/*".to_owned()));
        let mut answer = client.send(self.verb.method(), &path, &headers, self.value.as_deref())?;
        let told = [
            ("version", answer.version()),
            ("content_type", answer.header("content-type").filter(|_| self.verb == Verb::Get)),
            ("expires_at", answer.header("datastore-expires")),
            ("acks", answer.header("datastore-acks")),
            ("partition", answer.header("datastore-partition")),
            ("session", answer.header("datastore-session")),
        ];
        let told = told.into_iter().filter_map(|(name, text)| Some((name, text?.to_owned())));
        let told = told.collect();
        let created = (self.verb == Verb::Set).then_some(answer.status == StatusCode::CREATED);
        let value = if self.verb == Verb::Get { answer.bytes()? } else { Vec::new() };
        Ok(Done { value, created, told })
    }

    fn run_as_batch(&self, client: &Client, target: &Target) -> Result<Done, ClientError> {
        let mut operation = Map::new();
        operation.insert("op".to_owned(), self.verb.name().into());
        value::insert(&mut operation, "key", &self.key);
        if let Some(bytes) = &self.value {
            value::insert(&mut operation, "value", bytes);
        }
        for (name, text) in &self.headers {
            operation.insert(name.replace('-', "_"), text.as_str().into());
        }
        if let Some(ttl) = &self.ttl {
            operation.insert("ttl".to_owned(), ttl.as_str().into());
        }
        let path = format!("{}{}", target.batch(), query(&self.parameters()));
        let mut headers = vec![("content-type", "application/json".to_owned())];
        headers.extend(target.session());
        let batch = serde_json::json!({ "operations": [operation] }).to_string();
        let mut answer = client.send(Method::POST, &path, &headers, Some(batch.as_bytes()))?;
        let mut doc = answer.json()?;
        let result = doc.pointer_mut("/results/0").map(Value::take);
        let result = result.ok_or_else(|| answer.foreign("a batch without its result"))?;
        self.of_result(&answer, &result)
    }

    fn of_result(&self, answer: &Answer, result: &Value) -> Result<Done, ClientError> {
        let status = result.get("status").and_then(Value::as_u64);
        let status =
            status.and_then(|status| StatusCode::from_u16(u16::try_from(status).ok()?).ok());
        let status = status.ok_or_else(|| answer.foreign("a result without its status"))?;
        if !status.is_success() {
            return Err(ClientError::refused(status, result.get("error").unwrap_or(&Value::Null)));
        }
        let text = |name: &str| result.get(name).and_then(Value::as_str);
        let told = [
            ("version", text("etag").map(|tag| tag.trim_matches('"'))),
            ("content_type", text("content_type")),
            ("expires_at", text("expires_at")),
            ("acks", text("acks")),
            ("session", answer.header("datastore-session")),
        ];
        let told = told.into_iter().filter_map(|(name, text)| Some((name, text?.to_owned())));
        let value = value::bytes_of(result, "value").unwrap_or_default();
        Ok(Done { value, created: None, told: told.collect() })
    }
}

impl Done {
    /// What `--json` prints.
    pub fn json(&self, operation: &Operation) -> Value {
        let mut object = Map::new();
        value::insert(&mut object, "key", &operation.key);
        if operation.verb == Verb::Get {
            value::insert(&mut object, "value", &self.value);
        }
        if let Some(created) = self.created {
            object.insert("created".to_owned(), created.into());
        }
        for (name, text) in &self.told {
            object.insert((*name).to_owned(), text.as_str().into());
        }
        object.into()
    }
}
