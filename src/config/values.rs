//! The values that configurations are made of, read as kubeadm reads them (`cmd/kubeadm/app/apis/kubeadm/validation`, `util/endpoint`,
//! Go's `time.ParseDuration`). Each reader says what is wrong in words that need no source code.

use std::net::IpAddr;
use std::time::Duration;

use camino::Utf8PathBuf;
use ipnet::IpNet;

use crate::k8s::names;

use super::node::{CertificateKey, Discovery, Endpoint, KeyAlgorithm, PublicKeyHash, Token};

/// An address.
pub fn address(text: &str) -> Result<IpAddr, String> {
    text.parse().map_err(|_| format!("`{text}` is not an IP address"))
}

/// A TCP port.
pub fn port(number: i64) -> Result<u16, String> {
    u16::try_from(number).ok().filter(|port| *port != 0).ok_or_else(|| format!("{number} is not a port between 1 and 65535"))
}

/// One or two subnets, comma separated; two are of different families (dual stack).
pub fn subnets(text: &str) -> Result<Vec<IpNet>, String> {
    let read = |part: &str| part.trim().parse::<IpNet>().map_err(|_| format!("`{part}` is not a subnet such as 10.244.0.0/16"));
    let subnets = text.split(',').map(read).collect::<Result<Vec<_>, _>>()?;
    let is_v4 = |subnet: &IpNet| matches!(subnet, IpNet::V4(_));
    match subnets.as_slice() {
        [_] => Ok(subnets),
        [first, second] if is_v4(first) != is_v4(second) => Ok(subnets),
        _ => Err(format!("`{text}` is neither one subnet nor one of each family (dual stack)")),
    }
}

/// Go's duration: `24h0m0s`, `1.5h`, `300ms`, `0`.
pub fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is not a duration such as 24h0m0s or 1m30s");
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    if text.starts_with('-') {
        return Err(format!("`{text}` is negative"));
    }
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    let mut total = Duration::ZERO;
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
        let (number, tail) = rest.split_at(digits);
        let unit_length = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_length);
        let nanoseconds = match unit {
            "ns" => 1.0,
            "us" | "µs" | "μs" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 60e9,
            "h" => 3600e9,
            _ => return Err(wrong()),
        };
        let number: f64 = number.parse().map_err(|_| wrong())?;
        let part = Duration::try_from_secs_f64(number * nanoseconds / 1e9).map_err(|_| wrong())?;
        total = total.checked_add(part).ok_or_else(wrong)?;
        rest = tail;
    }
    Ok(total)
}

fn is_label(text: &str) -> bool {
    let edge = |byte: Option<&u8>| byte.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let bytes = text.as_bytes();
    bytes.len() <= 63
        && edge(bytes.first())
        && edge(bytes.last())
        && bytes.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-')
}

fn is_subdomain(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(is_label_part)
}

/// A part of an RFC 1123 subdomain; unlike a label its length is not limited by Kubernetes.
fn is_label_part(text: &str) -> bool {
    let edge = |byte: Option<&u8>| byte.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let bytes = text.as_bytes();
    edge(bytes.first()) && edge(bytes.last()) && bytes.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-')
}

/// An RFC 1123 label.
pub fn label(text: &str) -> Result<String, String> {
    let wrong =
        || format!("`{text}` is not a name of at most 63 lower case letters, digits and `-`, with a letter or digit at both ends");
    is_label(text).then(|| text.to_owned()).ok_or_else(wrong)
}

/// An RFC 1123 subdomain.
pub fn subdomain(text: &str) -> Result<String, String> {
    let wrong = || format!("`{text}` is not a DNS name of lower case letters, digits, `-` and `.` (RFC 1123)");
    is_subdomain(text).then(|| text.to_owned()).ok_or_else(wrong)
}

/// A node's name: trimmed and in lower case, as kubeadm makes it. `localhost` would be every machine's.
pub fn node_name(text: &str) -> Result<String, String> {
    let name = subdomain(&text.trim().to_lowercase())?;
    if name == "localhost" || name.starts_with("localhost.") {
        return Err(format!("`{name}` is what every machine calls itself; a node needs a name of its own"));
    }
    Ok(name)
}

/// The longest name that Linux has for a machine (`HOST_NAME_MAX`).
const HOST_NAME_MAX: usize = 64;

/// A machine's name as it is written; a node's name can be made from it.
pub fn host_name(text: &str) -> Result<String, String> {
    let name = text.trim();
    node_name(name)?;
    if name.len() > HOST_NAME_MAX {
        return Err(format!("`{name}` is longer than the {HOST_NAME_MAX} letters that Linux has for a machine's name"));
    }
    Ok(name.to_owned())
}

/// A name or address in a certificate; a wildcard may stand for the first part of a name.
pub fn certificate_name(text: &str) -> Result<String, String> {
    let lower = text.to_lowercase();
    let is_name = is_subdomain(&lower) || lower.strip_prefix("*.").is_some_and(is_subdomain);
    (is_name || lower.parse::<IpAddr>().is_ok())
        .then_some(lower)
        .ok_or_else(|| format!("`{text}` is neither an address nor a DNS name (a wildcard may be its first part)"))
}

/// `host[:port]`: a name or an address, and the port where there is one.
pub fn host_port(text: &str) -> Result<(String, Option<u16>), String> {
    let wrong = || format!("`{text}` is not an endpoint such as 10.0.0.1:6443, [fd00::1]:6443 or k8s.example.com");
    let (host, port_text) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, tail) = rest.split_once(']').ok_or_else(wrong)?;
            (host, if tail.is_empty() { None } else { Some(tail.strip_prefix(':').ok_or_else(wrong)?) })
        }
        None if text.parse::<IpAddr>().is_ok() => (text, None),
        None => text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
    };
    let number = |text: &str| text.parse::<i64>().map_err(|_| wrong()).and_then(port);
    let port = port_text.filter(|text| !text.is_empty()).map(number).transpose()?;
    let is_host = host.parse::<IpAddr>().is_ok() || is_subdomain(host);
    is_host.then(|| (host.to_owned(), port)).ok_or_else(wrong)
}

/// The endpoint of an API server; without a port, 6443 is meant.
pub fn endpoint(text: &str) -> Result<Endpoint, String> {
    host_port(text).map(|(host, port)| Endpoint { host, port: port.unwrap_or(names::API_SERVER_PORT) })
}

/// The same as kubeadm reads it: with a port.
pub fn endpoint_with_port(text: &str) -> Result<Endpoint, String> {
    match host_port(text)? {
        (host, Some(port)) => Ok(Endpoint { host, port }),
        (host, None) => Err(format!("`{text}` has no port (did you mean `{}`?)", Endpoint { host, port: names::API_SERVER_PORT })),
    }
}

/// The hash of a CA's public key (kubeadm's `pubkeypin`).
pub fn public_key_hash(text: &str) -> Result<PublicKeyHash, String> {
    let lower = text.to_ascii_lowercase();
    PublicKeyHash::parse(&lower).ok_or_else(|| match lower.split_once(':') {
        Some(("sha256", _)) => format!("`{text}` is not `sha256:` and 64 hexadecimal digits"),
        _ => format!("`{text}` is not a hash such as sha256:1234…cdef, of 64 hexadecimal digits"),
    })
}

/// A kubeconfig that tells of a cluster: an absolute path (kubeadm's `file://` too) or an https URL.
pub fn discovery_file(text: &str) -> Result<Discovery, String> {
    let path = text.strip_prefix("file://").unwrap_or(text);
    match path.split_once("://") {
        Some(("https", rest)) if !rest.is_empty() && !rest.contains(char::is_whitespace) => Ok(Discovery::Url(text.to_owned())),
        Some(("https", _)) => Err(format!("`{text}` is not a URL such as https://example.com/cluster.conf")),
        Some(_) => Err(format!("`{text}` is not an https URL")),
        None => absolute_path(path).map(Discovery::File),
    }
}

/// The path of the cluster's CA certificate (kubeadm's `ValidateJoinConfiguration`).
pub fn ca_cert_path(text: &str) -> Result<Utf8PathBuf, String> {
    absolute_path(text)
        .ok()
        .filter(|path| path.extension() == Some("crt"))
        .ok_or_else(|| format!("`{text}` is not the absolute path of a .crt file"))
}

/// An absolute path.
pub fn absolute_path(text: &str) -> Result<Utf8PathBuf, String> {
    if text.starts_with('/') { Ok(text.into()) } else { Err(format!("`{text}` is not an absolute path")) }
}

/// A CRI socket: a `unix` URL; a bare path is taken for one, as kubeadm does.
pub fn cri_socket(text: &str) -> Result<String, String> {
    let url = if text.starts_with('/') { format!("unix://{text}") } else { text.to_owned() };
    match url.strip_prefix("unix://") {
        Some(path) if path.starts_with('/') => Ok(url),
        _ => Err(format!("`{text}` is not a socket such as unix:///run/containerd/containerd.sock")),
    }
}

/// A URL of etcd.
pub fn url(text: &str) -> Result<String, String> {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    match rest {
        Some(host) if !host.is_empty() && !host.contains(char::is_whitespace) => Ok(text.to_owned()),
        _ => Err(format!("`{text}` is not a URL such as https://10.0.0.1:2379")),
    }
}

/// An image repository: what may stand before `/name:tag`.
pub fn image_repository(text: &str) -> Result<String, String> {
    let wrong = || format!("`{text}` is not an image repository such as registry.k8s.io");
    let mut parts = text.split('/');
    let host = parts.next().unwrap_or_default();
    let (name, port) = host.split_once(':').map_or((host, None), |(name, port)| (name, Some(port)));
    let component = |part: &str| {
        let edge = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
        edge(part.as_bytes().first())
            && edge(part.as_bytes().last())
            && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b))
    };
    let is_port = port.is_none_or(|port| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()));
    let is_host = is_port && component(&name.to_lowercase());
    (is_host && parts.all(component)).then(|| text.to_owned()).ok_or_else(wrong)
}

/// An image tag.
pub fn image_tag(text: &str) -> Result<String, String> {
    let first = text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric() || b == b'_');
    (first && text.len() <= 128 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b)))
        .then(|| text.to_owned())
        .ok_or_else(|| format!("`{text}` is not an image tag"))
}

/// kubeadm's `encryptionAlgorithm`.
pub fn key_algorithm(text: &str) -> Result<KeyAlgorithm, String> {
    use KeyAlgorithm::{EcdsaP256, EcdsaP384, Rsa2048, Rsa3072, Rsa4096};
    let known = [EcdsaP256, EcdsaP384, Rsa2048, Rsa3072, Rsa4096];
    known.into_iter().find(|algorithm| algorithm.as_str() == text).ok_or_else(|| {
        let names: Vec<_> = known.iter().map(|algorithm| algorithm.as_str()).collect();
        format!("`{text}` is none of {}", names.join(", "))
    })
}

/// A bootstrap token. What was written is not repeated.
pub fn token(text: &str) -> Result<Token, String> {
    Token::parse(text)
        .ok_or_else(|| "this is not a token of the form abcdef.0123456789abcdef (lower case letters and digits)".to_owned())
}

/// A certificate key. What was written is not repeated.
pub fn certificate_key(text: &str) -> Result<CertificateKey, String> {
    CertificateKey::parse(text).ok_or_else(|| "this is not a key of 32 bytes as 64 hexadecimal digits".to_owned())
}

/// One of a few words.
pub fn one_of<T: Copy>(known: &[(&str, T)]) -> impl Fn(&str) -> Result<T, String> {
    move |text| {
        known.iter().find(|(word, _)| *word == text).map(|(_, value)| *value).ok_or_else(|| {
            let words: Vec<_> = known.iter().map(|(word, _)| format!("`{word}`")).collect();
            let meant = super::findings::did_you_mean(text, known.iter().map(|(word, _)| *word));
            let meant = meant.map_or_else(String::new, |word| format!(" (did you mean `{word}`?)"));
            format!("`{text}` is none of {}{meant}", words.join(", "))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_go_durations() {
        for (text, seconds) in [("24h0m0s", 86_400.0), ("1m30s", 90.0), ("1.5h", 5400.0), ("300ms", 0.3), ("0", 0.0), ("0s", 0.0)] {
            assert!((duration(text).expect(text).as_secs_f64() - seconds).abs() < 1e-9, "{text}");
        }
        for wrong in ["", "5", "1d", "h", "1h5", "-1s", "1..5s", "five minutes", "99999999999999999999h"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn subnets_are_one_or_one_of_each_family() {
        for right in ["10.244.0.0/16", "fd00::/56", "10.244.0.0/16,fd00::/56", "fd00::/56, 10.244.0.0/16"] {
            assert!(subnets(right).is_ok(), "{right}");
        }
        for wrong in ["", "10.244.0.0", "10.244.0.0/33", "10.0.0.0/8,10.1.0.0/16", "10.0.0.0/8,fd00::/56,fd01::/56"] {
            assert!(subnets(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn endpoints_have_a_host_and_perhaps_a_port() {
        for (text, host, port) in [
            ("10.0.0.1:6443", "10.0.0.1", Some(6443)),
            ("[fd00::1]:6443", "fd00::1", Some(6443)),
            ("fd00::1", "fd00::1", None),
            ("[fd00::1]", "fd00::1", None),
            ("k8s.example.com", "k8s.example.com", None),
            ("k8s.example.com:443", "k8s.example.com", Some(443)),
        ] {
            assert_eq!(host_port(text), Ok((host.to_owned(), port)), "{text}");
        }
        for wrong in ["", ":6443", "a_b:1", "host:0", "host:70000", "host:x", "[fd00::1", "https://host:6443"] {
            assert!(host_port(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn names_follow_rfc_1123() {
        assert_eq!(node_name(" Edge-1.Example.com "), Ok("edge-1.example.com".to_owned()));
        assert_eq!(host_name(" Edge-1.Example.com "), Ok("Edge-1.Example.com".to_owned()));
        for wrong in ["localhost", "a_b", "", &"a".repeat(65)] {
            assert!(host_name(wrong).is_err(), "{wrong}");
        }
        for wrong in ["", "a_b", "-a", "a-", "a..b", "localhost", "localhost.localdomain"] {
            assert!(node_name(wrong).is_err(), "{wrong}");
        }
        assert_eq!(certificate_name("*.Example.com"), Ok("*.example.com".to_owned()));
        assert!(certificate_name("a.*.example.com").is_err());
    }

    #[test]
    fn repositories_and_sockets_are_recognised() {
        for right in ["registry.k8s.io", "localhost:5000/k8s", "10.0.0.1:5000", "example.com/a/b-c"] {
            assert!(image_repository(right).is_ok(), "{right}");
        }
        for wrong in ["", "https://example.com", "example.com/", "example.com/A", "example.com:x"] {
            assert!(image_repository(wrong).is_err(), "{wrong}");
        }
        assert_eq!(cri_socket("/run/x.sock"), Ok("unix:///run/x.sock".to_owned()));
        assert!(cri_socket("tcp://1.2.3.4:5").is_err());
    }
}
