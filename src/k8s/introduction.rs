//! The kubeconfigs with which a machine that joins talks to its cluster before it has a certificate of its own: as nobody, with a
//! bootstrap token, or as somebody whom the discovery's kubeconfig introduces. They are kept in memory only.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::config::node::Token;
use crate::k8s::yaml;

/// What everything in such a kubeconfig is called; nobody sees it.
const NAME: &str = "joining";

fn kubeconfig(server: &str, cluster: &Value, user: &Value) -> Zeroizing<String> {
    let mut cluster = cluster.clone();
    cluster["server"] = json!(server);
    Zeroizing::new(yaml::text(&json!({
        "apiVersion": "v1", "kind": "Config", "current-context": NAME,
        "clusters": [{"name": NAME, "cluster": cluster}],
        "contexts": [{"name": NAME, "context": {"cluster": NAME, "user": NAME}}],
        "users": [{"name": NAME, "user": user}],
    })))
}

/// Nobody, who does not ask who answers: only for what is verified in another way.
pub fn unverified(server: &str) -> Zeroizing<String> {
    kubeconfig(server, &json!({"insecure-skip-tls-verify": true}), &json!({}))
}

/// Nobody, who verifies the server with this CA, or with those of the machine where there is none.
pub fn anonymous(server: &str, authority: Option<&[u8]>) -> Zeroizing<String> {
    let cluster = authority.map_or_else(|| json!({}), |pem| json!({"certificate-authority-data": STANDARD.encode(pem)}));
    kubeconfig(server, &cluster, &json!({}))
}

/// The bearer of a bootstrap token.
pub fn with_token(server: &str, authority: &[u8], token: &Token) -> Zeroizing<String> {
    let cluster = json!({"certificate-authority-data": STANDARD.encode(authority)});
    kubeconfig(server, &cluster, &json!({"token": token.expose()}))
}

/// Whoever a kubeconfig introduces, at the same cluster, whose server is verified with `authority`. The error says in words why it
/// introduces nobody, and never holds content.
pub fn of_kubeconfig(bytes: &[u8], server: &str, authority: &[u8]) -> Result<Zeroizing<String>, String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "it is no text".to_owned())?;
    let config: Value = serde_saphyr::from_str(text).map_err(|_| "it is no YAML".to_owned())?;
    let entry = |list: &str, name: Option<&str>, field: &str| -> Option<Value> {
        config[list].as_array()?.iter().find(|entry| entry["name"].as_str() == name)?.get(field).cloned()
    };
    let context = entry("contexts", config["current-context"].as_str(), "context").ok_or("it has no current context")?;
    let user = entry("users", context["user"].as_str(), "user").ok_or("its current context has no user")?;
    let fields = user.as_object().filter(|fields| !fields.is_empty()).ok_or("its user has no credentials")?;
    if let Some(program) = ["exec", "auth-provider"].into_iter().find(|field| fields.contains_key(*field)) {
        return Err(format!("its user has `{program}`, and edgeboot runs no program to join"));
    }
    Ok(kubeconfig(server, &json!({"certificate-authority-data": STANDARD.encode(authority)}), &user))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::k8s::kubeconfig::{Authority, Credentials, Kubeconfig, cluster_of};

    #[test]
    fn they_name_their_cluster_and_their_bearer() {
        let token = Token::parse("abcdef.0123456789abcdef").expect("a token");
        let text = with_token("https://a:6443", b"ca", &token);
        assert!(text.contains("token: abcdef.0123456789abcdef"));
        assert_eq!(cluster_of(text.as_bytes()), Ok(("https://a:6443".to_owned(), Authority::Embedded(b"ca".to_vec()))));
        let credentials = Kubeconfig::parse(text.as_bytes()).map(|config| config.credentials);
        assert!(matches!(credentials, Ok(Credentials::Token(_))), "{credentials:?}");
        assert!(unverified("https://a:6443").contains("insecure-skip-tls-verify: true"));
        assert_eq!(cluster_of(anonymous("https://a:6443", None).as_bytes()), Ok(("https://a:6443".to_owned(), Authority::None)));
    }

    #[test]
    fn somebody_is_introduced_by_a_kubeconfig_or_it_says_why_not() {
        let token = Token::parse("abcdef.0123456789abcdef").expect("a token");
        let whole = with_token("https://a:6443", b"ca", &token);
        let text = of_kubeconfig(whole.as_bytes(), "https://b:6443", b"other").expect("introduced");
        assert_eq!(cluster_of(text.as_bytes()), Ok(("https://b:6443".to_owned(), Authority::Embedded(b"other".to_vec()))));
        assert!(text.contains("token: abcdef"));
        let program = whole.replace("token: abcdef.0123456789abcdef", "exec: {command: x}");
        for (text, why) in [
            (anonymous("https://a:6443", None).as_str(), "its user has no credentials"),
            ("a: [", "it is no YAML"),
            ("kind: Config", "it has no current context"),
            (&program, "its user has `exec`, and edgeboot runs no program to join"),
        ] {
            assert_eq!(of_kubeconfig(text.as_bytes(), "https://b", b"").expect_err(text), why);
        }
    }
}
