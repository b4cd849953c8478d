//! The URI SAN of a client certificate: the one place where a stock NGINX carries a SPIFFE ID.

use std::fmt::Write as _;

use model::identity::Serial;
use x509_cert::{
    Certificate,
    der::{Decode as _, pem},
    ext::pkix::{SubjectAltName, name::GeneralName},
};

/// What we take from a certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) serial: Option<Serial>,
    pub(super) spiffe_id: Option<String>,
}

/// Longest SPIFFE ID that the specification allows, in bytes.
const LONGEST_SPIFFE_ID: usize = 2048;

/// Reads `$ssl_client_escaped_cert`: PEM with percent escapes (RFC 3986). Nothing is verified here: NGINX did, and
/// says so in `$ssl_client_verify`.
pub(super) fn read(escaped: &[u8]) -> Option<Seen> {
    let text: Vec<u8> = percent_encoding::percent_decode(escaped).collect();
    let (_, der) = pem::decode_vec(&text).ok()?;
    let certificate = Certificate::from_der(&der).ok()?;
    let certificate = certificate.tbs_certificate();
    let mut hex = String::with_capacity(40);
    for byte in certificate.serial_number().as_bytes() {
        let _ = write!(hex, "{byte:02X}"); // writing to a String cannot fail
    }
    let names = certificate.get_extension::<SubjectAltName>().ok().flatten().map(|(_, names)| names.0);
    // A SVID has exactly one URI SAN (SPIFFE X.509-SVID, section 2).
    let spiffe_id = names.into_iter().flatten().find_map(|name| match name {
        GeneralName::UniformResourceIdentifier(uri) => {
            let uri: &str = uri.as_ref();
            (uri.starts_with("spiffe://") && uri.len() <= LONGEST_SPIFFE_ID).then(|| uri.to_owned())
        }
        _ => None,
    });
    Some(Seen { serial: Serial::from_hex(&hex), spiffe_id })
}
