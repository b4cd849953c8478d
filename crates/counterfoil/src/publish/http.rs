//! One HTTP client for everything that is handed out.

use std::{sync::Arc, time::Duration};

use http::{HeaderMap, Request};
use ureq::{
    Agent,
    tls::{RootCerts, TlsConfig, TlsProvider},
};

use super::Trouble;

/// Largest answer that is read. The largest that is asked for is a time stamp with its certificates.
const MAX_ANSWER: u64 = 256 << 10;

/// The client: keeps connections, trusts the certificates that the machine trusts.
#[derive(Debug)]
pub struct Http(Agent);

/// An answer, whatever its status.
#[derive(Debug)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// Headers.
    pub headers: HeaderMap,
    /// Body.
    pub body: Vec<u8>,
}

impl Answer {
    /// Whether it is a 2xx.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// The value of a header, if it is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The body as text.
    pub fn text(&self) -> Result<&str, Trouble> {
        std::str::from_utf8(&self.body).map_err(|_| Trouble::new("bad_answer", "the answer is not UTF-8"))
    }

    /// A status that was not hoped for, with the beginning of what was said.
    pub fn refused(&self) -> Trouble {
        let said: String = String::from_utf8_lossy(&self.body).chars().take(200).collect();
        Trouble::new("refused", format!("status {}: {}", self.status, said.trim()))
    }
}

impl Http {
    /// A client. Redirects are not followed: a checkpoint goes where the configuration says, or nowhere.
    pub fn new() -> Self {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = TlsConfig::builder()
            .provider(TlsProvider::Rustls)
            .root_certs(RootCerts::PlatformVerifier)
            .unversioned_rustls_crypto_provider(provider)
            .build();
        let config = Agent::config_builder()
            .tls_config(tls)
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent(concat!("counterfoil/", env!("CARGO_PKG_VERSION")))
            .build();
        Self(config.new_agent())
    }

    /// Sends a request and reads the whole answer in this time.
    ///
    /// # Errors
    /// A [`Trouble`] when there is no answer.
    pub fn send(&self, request: Request<Vec<u8>>, patience: Duration) -> Result<Answer, Trouble> {
        let request = self.0.configure_request(request).timeout_global(Some(patience)).build();
        let unreachable = |error: ureq::Error| Trouble::new("unreachable", error.to_string());
        let mut response = self.0.run(request).map_err(unreachable)?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let body = response.body_mut().with_config().limit(MAX_ANSWER).read_to_vec().map_err(unreachable)?;
        Ok(Answer { status, headers, body })
    }
}

impl Default for Http {
    fn default() -> Self {
        Self::new()
    }
}
