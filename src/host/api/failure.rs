//! What a failure of kube's client means here: whether it passes by itself, is a refusal, or is for a person.

use std::error::Error as StdError;
use std::time::Duration;

use crate::error::{Error, Kind};

/// How many seconds a server that is busy asks to be left alone. The other form of the header, a date, is for clocks that agree.
pub fn asked_pause(headers: &http::HeaderMap) -> Option<Duration> {
    headers.get(http::header::RETRY_AFTER)?.to_str().ok()?.trim().parse().ok().map(Duration::from_secs)
}

/// The failure of a request; `doing` is what it was for.
pub fn failure(doing: &str, error: kube::Error) -> Error {
    if let kube::Error::Api(status) = error {
        return refusal(doing, status.code, &status.message);
    }
    let certificate = invalid_certificate(&error);
    match (&error, certificate) {
        (_, Some(why)) => Error::host(doing)
            .because(format!("the API server's certificate is not what the kubeconfig's CA vouches for: {why}"))
            .hint("compare the clock, and the CA in /etc/kubernetes/pki with the one in the kubeconfig"),
        (kube::Error::Service(_) | kube::Error::HyperError(_) | kube::Error::ReadEvents(_) | kube::Error::FromUtf8(_), None) => {
            Error::transient(doing).because(innermost(&error))
        }
        _ => Error::host(doing).because(error),
    }
}

/// The last link of the chain, which says what happened; those before it say in which layer of the client.
fn innermost(error: &(dyn StdError + 'static)) -> String {
    let mut last = error;
    while let Some(inner) = last.source() {
        last = inner;
    }
    last.to_string()
}

/// What the server said in so many words.
fn refusal(doing: &str, code: u16, message: &str) -> Error {
    let kind = match code {
        401 | 403 => Kind::Rejected,
        408 | 409 | 429 | 500.. => Kind::Transient,
        _ if message.contains("etcdserver:") => Kind::Transient,
        _ => Kind::Host,
    };
    let message = if message.is_empty() { format!("HTTP {code}") } else { message.to_owned() };
    let error = Error::new(kind, doing).because(message);
    if kind == Kind::Rejected {
        error.hint(
            "the kubeconfig may belong to another cluster, or its certificate may have expired: `edgeboot certs check-expiration`",
        )
    } else {
        error
    }
}

/// A TLS failure that will not pass by itself. An [`std::io::Error`] hides what it wraps from `source()`, so it is asked for it.
fn invalid_certificate(error: &(dyn StdError + 'static)) -> Option<String> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(rustls::Error::InvalidCertificate(why)) = error.downcast_ref::<rustls::Error>() {
            return Some(why.to_string());
        }
        let wrapped = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        next = match wrapped {
            Some(inner) => Some(inner as &(dyn StdError + 'static)),
            None => error.source(),
        };
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_sorted_by_what_helps() {
        let table = [
            (401, "Unauthorized", Kind::Rejected),
            (403, "forbidden", Kind::Rejected),
            (409, "the object has been modified", Kind::Transient),
            (422, "spec.clusterIP: Invalid value", Kind::Host),
            (429, "storage is initializing", Kind::Transient),
            (500, "etcdserver: leader changed", Kind::Transient),
            (503, "", Kind::Transient),
            (400, "etcdserver: request timed out", Kind::Transient),
        ];
        for (code, message, kind) in table {
            let error = refusal("reading Node box", code, message);
            assert_eq!(error.kind(), kind, "{code} {message}");
            assert!(error.to_string().starts_with("reading Node box: "), "{error}");
        }
    }

    #[test]
    fn a_wrong_certificate_does_not_pass_by_itself() {
        let tls = rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer);
        // As hyper-rustls wraps it: an I/O error in an I/O error.
        let error = std::io::Error::other(std::io::Error::new(std::io::ErrorKind::InvalidData, tls));
        assert_eq!(failure("reading", kube::Error::Service(Box::new(error))).kind(), Kind::Host);
        let error = kube::Error::Service(Box::new(std::io::Error::from(std::io::ErrorKind::ConnectionRefused)));
        let error = failure("reading Node box", error);
        assert_eq!((error.kind(), error.to_string()), (Kind::Transient, "reading Node box: connection refused".to_owned()));
    }
}
