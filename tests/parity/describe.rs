//! What a file means, as data: YAML as it is, kubeconfigs and certificates by what they say, keys by their kind. Two files that
//! mean the same are described alike, whatever their keys, serial numbers and seconds are.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::pem::Pem;
use x509_parser::prelude::FromDer as _;

/// What the file at `path` means.
pub fn describe(path: &str, bytes: &[u8]) -> Value {
    let text = String::from_utf8_lossy(bytes);
    match path.rsplit_once('.').map(|(_, extension)| extension) {
        Some("yaml") => yaml(path, &text),
        Some("conf") => kubeconfig(yaml(path, &text)),
        Some("crt" | "key" | "pem" | "pub") => pem(bytes),
        Some("env") => json!(text.lines().map(words).collect::<Vec<_>>()),
        _ => json!(text),
    }
}

fn yaml(path: &str, text: &str) -> Value {
    serde_saphyr::from_str(text).unwrap_or_else(|why| panic!("{path} is no YAML: {why}\n{text}"))
}

/// `NAME="--a=b --c=d"` word by word: their order is compared, too.
fn words(line: &str) -> Value {
    let (name, value) = line.split_once('=').unwrap_or((line, ""));
    json!({ name: value.trim_matches('"').split_whitespace().collect::<Vec<_>>() })
}

fn kubeconfig(mut config: Value) -> Value {
    for list in ["clusters", "users"] {
        for entry in config.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            for part in entry.as_object_mut().into_iter().flat_map(Map::values_mut).filter_map(Value::as_object_mut) {
                part.iter_mut().filter(|(key, _)| key.ends_with("-data")).for_each(|(_, value)| {
                    let encoded = value.as_str().unwrap_or_default();
                    *value = STANDARD.decode(encoded).map_or_else(|why| json!(why.to_string()), |bytes| pem(&bytes));
                });
            }
        }
    }
    config
}

fn pem(bytes: &[u8]) -> Value {
    let blocks = Pem::iter_from_buffer(bytes).map(|block| match block {
        Ok(block) if block.label == "CERTIFICATE" => certificate(&block.contents),
        // The length of a DER document tells a P-256 key from a P-384 or an RSA-2048 one; it varies by a few bytes.
        Ok(block) => json!({ "pem": block.label, "size": (block.contents.len() + 32) / 64 }),
        Err(why) => json!(why.to_string()),
    });
    Value::Array(blocks.collect())
}

fn certificate(der: &[u8]) -> Value {
    let (_, certificate) = X509Certificate::from_der(der).expect("a certificate");
    let extensions: Vec<Value> = certificate
        .extensions()
        .iter()
        .map(|extension| json!({ "oid": extension.oid.to_id_string(), "critical": extension.critical, "says": says(extension.parsed_extension()) }))
        .collect();
    let mut extensions = extensions;
    extensions.sort_by_key(|extension| extension["oid"].to_string());
    json!({
        "version": certificate.version.0 + 1,
        "subject": certificate.subject().to_string(),
        "issuer": certificate.issuer().to_string(),
        "signature": certificate.signature_algorithm.algorithm.to_id_string(),
        "key": certificate.public_key().algorithm.algorithm.to_id_string(),
        "keySize": certificate.public_key().parsed().map_or(0, |key| key.key_size()),
        "validFrom": from_now(certificate.validity().not_before.timestamp()),
        "validUntil": from_now(certificate.validity().not_after.timestamp()),
        "extensions": extensions,
    })
}

/// From now, to five minutes: what was made seconds apart is described alike, and kubeadm's five minutes back are told from none.
#[expect(clippy::disallowed_methods, reason = "a test compares certificates that were just made")]
fn from_now(timestamp: i64) -> Value {
    let seconds = timestamp - jiff::Timestamp::now().as_second();
    json!(format!("{} min", (seconds + 150).div_euclid(300) * 5))
}

fn says(extension: &ParsedExtension<'_>) -> Value {
    match extension {
        ParsedExtension::SubjectAlternativeName(names) => {
            let mut names: Vec<String> = names.general_names.iter().map(general_name).collect();
            names.sort();
            json!(names)
        }
        ParsedExtension::BasicConstraints(constraints) => json!({ "ca": constraints.ca, "path": constraints.path_len_constraint }),
        ParsedExtension::KeyUsage(usage) => json!(usage.to_string()),
        ParsedExtension::ExtendedKeyUsage(usage) => json!({
            "server": usage.server_auth, "client": usage.client_auth, "any": usage.any, "others": usage.other.len(),
        }),
        // Identifiers of keys are as different as the keys.
        ParsedExtension::AuthorityKeyIdentifier(identifier) => json!(identifier.key_identifier.is_some()),
        ParsedExtension::SubjectKeyIdentifier(identifier) => json!(identifier.0.len()),
        other => json!(format!("{other:?}")),
    }
}

fn general_name(name: &GeneralName<'_>) -> String {
    match name {
        GeneralName::DNSName(name) => format!("DNS:{name}"),
        GeneralName::IPAddress(bytes) => match <[u8; 4]>::try_from(*bytes) {
            Ok(v4) => format!("IP:{}", std::net::Ipv4Addr::from(v4)),
            Err(_) => <[u8; 16]>::try_from(*bytes)
                .map_or_else(|_| format!("{bytes:?}"), |v6| format!("IP:{}", std::net::Ipv6Addr::from(v6))),
        },
        other => format!("{other:?}"),
    }
}
