//! Which service a command speaks to, and what its answers mean for a script.

use clap::Args;
use ureq::http::StatusCode;

use super::Exit;
use crate::client::{Client, ClientError};

/// Which service.
#[derive(Clone, Debug, Args)]
pub struct Service {
    /// The service's address
    #[arg(long, env = "DATASTORE_URL", default_value = "http://127.0.0.1:8080")]
    url: String,
}

impl Service {
    /// Nothing is sent yet.
    pub fn client(&self) -> Result<Client, ClientError> {
        Client::new(&self.url)
    }

    /// Its address.
    pub fn url(&self) -> &str {
        &self.url
    }
}

/// The exit code that tells it to a script.
pub fn exit(error: &ClientError) -> Exit {
    match error {
        ClientError::Url { .. } | ClientError::Request(_) => Exit::Usage,
        ClientError::Unreachable { .. } | ClientError::Foreign { .. } => Exit::Unavailable,
        ClientError::Refused { status, .. } => match *status {
            StatusCode::NOT_MODIFIED
            | StatusCode::NOT_FOUND
            | StatusCode::PRECONDITION_FAILED
            | StatusCode::CONFLICT => Exit::NotDone,
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => Exit::Unavailable,
            status if status.is_client_error() => Exit::Usage,
            _ => Exit::Unavailable,
        },
    }
}
