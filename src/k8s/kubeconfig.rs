//! Kubeconfigs as kubeadm and client-go write and read them (`util/kubeconfig`, `phases/kubeconfig`): one cluster, one user, one
//! context. Pure. A kubeconfig holds a private key: `Debug` shows none.

use std::fmt;
use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use crate::config::node::Endpoint;
use crate::k8s::pki::judge::{self, LeafState};
use crate::k8s::pki::{Certificate, spoken};
use crate::k8s::yaml;

/// What a kubeconfig's current context says.
#[derive(Clone, PartialEq, Eq)]
pub struct Kubeconfig {
    /// The cluster's name, `kubernetes` by default.
    pub cluster: String,
    /// The user's name; the context is `user@cluster`.
    pub user: String,
    /// The API server's URL.
    pub server: String,
    /// The CA that the server is verified with.
    pub authority: Authority,
    /// How the user proves itself.
    pub credentials: Credentials,
}

/// Where the CA's certificate is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Authority {
    /// Inside, as PEM.
    Embedded(Vec<u8>),
    /// In a file.
    File(String),
    /// Nowhere.
    None,
}

/// How the user proves itself.
#[derive(Clone, PartialEq, Eq)]
pub enum Credentials {
    /// By a client certificate inside, certificate and key as PEM.
    Embedded {
        /// The certificate.
        certificate: Vec<u8>,
        /// The key.
        key: Zeroizing<Vec<u8>>,
    },
    /// By a client certificate in files.
    Files {
        /// The certificate.
        certificate: String,
        /// The key.
        key: String,
    },
    /// By a bearer token.
    Token(Zeroizing<String>),
    /// In a way edgeboot does not judge: a program, a file with a token.
    Other,
}

impl fmt::Debug for Kubeconfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Kubeconfig({}@{} at {}, credentials elided)", self.user, self.cluster, self.server)
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Credentials::Embedded { .. } => "Embedded(elided)",
            Credentials::Files { .. } => "Files",
            Credentials::Token(_) => "Token(elided)",
            Credentials::Other => "Other",
        })
    }
}

impl Kubeconfig {
    /// As client-go writes it (`clientcmd.Write`): keys sorted, context named `user@cluster`. Credentials of another kind are left out.
    pub fn render(&self) -> Zeroizing<String> {
        let context = format!("{}@{}", self.user, self.cluster);
        let mut cluster = Map::new();
        match &self.authority {
            Authority::Embedded(pem) => cluster.insert("certificate-authority-data".to_owned(), STANDARD.encode(pem).into()),
            Authority::File(path) => cluster.insert("certificate-authority".to_owned(), path.as_str().into()),
            Authority::None => None,
        };
        cluster.insert("server".to_owned(), self.server.as_str().into());
        let user = match &self.credentials {
            Credentials::Embedded { certificate, key } => {
                json!({ "client-certificate-data": STANDARD.encode(certificate), "client-key-data": STANDARD.encode(key) })
            }
            Credentials::Files { certificate, key } => json!({ "client-certificate": certificate, "client-key": key }),
            Credentials::Token(token) => json!({ "token": token.as_str() }),
            Credentials::Other => json!({}),
        };
        let config = json!({
            "apiVersion": "v1",
            "clusters": [{ "cluster": cluster, "name": self.cluster }],
            "contexts": [{ "context": { "cluster": self.cluster, "user": self.user }, "name": context }],
            "current-context": context,
            "kind": "Config",
            "users": [{ "name": self.user, "user": user }],
        });
        Zeroizing::new(yaml::text(&config))
    }

    /// What the current context of a kubeconfig says; the error says in words why it says nothing, and never holds content.
    pub fn parse(bytes: &[u8]) -> Result<Kubeconfig, String> {
        if bytes.iter().all(|byte| *byte == 0 || byte.is_ascii_whitespace()) {
            return Err("it is empty".to_owned());
        }
        let text = std::str::from_utf8(bytes).map_err(|_| "it is no text".to_owned())?;
        let config: Value = serde_saphyr::from_str(text).map_err(|_| "it is no YAML".to_owned())?;
        let context = config["current-context"].as_str().filter(|name| !name.is_empty()).ok_or("it has no current-context")?;
        let context = named(&config["contexts"], context, "context").ok_or("its current-context does not exist")?;
        let cluster = text_of(context, "cluster").ok_or("its context names no cluster")?;
        let user = text_of(context, "user").ok_or("its context names no user")?;
        let cluster_entry = named(&config["clusters"], cluster, "cluster").ok_or("its context's cluster does not exist")?;
        let user_entry = named(&config["users"], user, "user").ok_or("its context's user does not exist")?;
        Ok(Kubeconfig {
            server: text_of(cluster_entry, "server").ok_or("its cluster has no server")?.to_owned(),
            authority: authority(cluster_entry)?,
            credentials: credentials(user_entry)?,
            cluster: cluster.to_owned(),
            user: user.to_owned(),
        })
    }
}

/// Which cluster a kubeconfig is for, with or without somebody in it: the one of its current context, or the only one it has
/// (kubeadm's `GetClusterFromKubeConfig`). The server and its CA; the error says in words why there is none.
pub fn cluster_of(bytes: &[u8]) -> Result<(String, Authority), String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "it is no text".to_owned())?;
    let config: Value = serde_saphyr::from_str(text).map_err(|_| "it is no YAML".to_owned())?;
    let clusters = config["clusters"].as_array().map(Vec::as_slice).unwrap_or_default();
    let context = config["current-context"].as_str().and_then(|name| named(&config["contexts"], name, "context"));
    let chosen = context.and_then(|context| context["cluster"].as_str());
    let cluster = match (chosen, clusters) {
        (Some(name), _) => named(&config["clusters"], name, "cluster").ok_or("its context's cluster does not exist")?,
        (None, [only]) => only.get("cluster").ok_or("its cluster says nothing")?,
        (None, _) => return Err("it does not say which cluster it is for".to_owned()),
    };
    Ok((text_of(cluster, "server").ok_or("its cluster has no server")?.to_owned(), authority(cluster)?))
}

/// The kubelet's kubeconfig as the kubelet writes it when it has bootstrapped itself (`certificate/bootstrap/bootstrap.go`): its
/// client certificate and key lie in `client`.
pub fn of_kubelet(server: &str, authority: &[u8], client: &str) -> String {
    yaml::text(&json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "default-context",
        "clusters": [{
            "name": "default-cluster",
            "cluster": {"certificate-authority-data": STANDARD.encode(authority), "server": server},
        }],
        "contexts": [{
            "name": "default-context",
            "context": {"cluster": "default-cluster", "namespace": "default", "user": "default-auth"},
        }],
        "users": [{"name": "default-auth", "user": {"client-certificate": client, "client-key": client}}],
    }))
}

fn named<'a>(list: &'a Value, name: &str, field: &str) -> Option<&'a Value> {
    list.as_array()?.iter().find(|entry| entry["name"] == name)?.get(field)
}

fn text_of<'a>(entry: &'a Value, field: &str) -> Option<&'a str> {
    entry.get(field)?.as_str().filter(|text| !text.is_empty())
}

fn data_of(entry: &Value, field: &str) -> Result<Option<Vec<u8>>, String> {
    let data = text_of(entry, field).map(|text| STANDARD.decode(text));
    data.transpose().map_err(|_| format!("its {field} is no base64"))
}

fn authority(cluster: &Value) -> Result<Authority, String> {
    Ok(match (data_of(cluster, "certificate-authority-data")?, text_of(cluster, "certificate-authority")) {
        (Some(pem), _) => Authority::Embedded(pem),
        (None, Some(path)) => Authority::File(path.to_owned()),
        (None, None) => Authority::None,
    })
}

/// Data before files, as client-go has it.
fn credentials(user: &Value) -> Result<Credentials, String> {
    let data = (data_of(user, "client-certificate-data")?, data_of(user, "client-key-data")?);
    let files = (text_of(user, "client-certificate"), text_of(user, "client-key"));
    let token = text_of(user, "token");
    match (data, files) {
        ((None, None), (None, None)) if token.is_some() => {
            Ok(Credentials::Token(Zeroizing::new(token.unwrap_or_default().to_owned())))
        }
        ((Some(certificate), Some(key)), _) => Ok(Credentials::Embedded { certificate, key: Zeroizing::new(key) }),
        (_, (Some(certificate), Some(key))) => Ok(Credentials::Files { certificate: certificate.to_owned(), key: key.to_owned() }),
        ((None, None), (None, None)) if user.as_object().is_some_and(|fields| !fields.is_empty()) => Ok(Credentials::Other),
        _ => Err("its user has no whole credentials".to_owned()),
    }
}

/// The same kubeconfig with its user's client certificate in `path` instead of inside, all else kept (kubeadm's
/// `kubelet-finalize/enable-client-cert-rotation`).
pub fn with_client_file(bytes: &[u8], path: &str) -> Result<Zeroizing<String>, String> {
    let user = Kubeconfig::parse(bytes)?.user;
    let mut config: Value = serde_saphyr::from_slice(bytes).map_err(|_| "it is no YAML".to_owned())?;
    let users = config["users"].as_array_mut().into_iter().flatten();
    for entry in users.filter(|entry| entry["name"] == user.as_str()) {
        if let Some(fields) = entry["user"].as_object_mut() {
            fields.retain(|name, _| !name.ends_with("-data"));
            fields.insert("client-certificate".to_owned(), path.into());
            fields.insert("client-key".to_owned(), path.into());
        }
    }
    Ok(Zeroizing::new(yaml::text(&config)))
}

/// The same kubeconfig with its cluster at another URL, all else kept.
pub fn with_server(bytes: &[u8], server: &str) -> Result<Zeroizing<String>, String> {
    let cluster = Kubeconfig::parse(bytes)?.cluster;
    let mut config: Value = serde_saphyr::from_slice(bytes).map_err(|_| "it is no YAML".to_owned())?;
    for entry in config["clusters"].as_array_mut().into_iter().flatten().filter(|entry| entry["name"] == cluster.as_str()) {
        entry["cluster"]["server"] = server.into();
    }
    Ok(Zeroizing::new(yaml::text(&config)))
}

/// The same kubeconfig with this client certificate and CA inside, all else kept (kubeadm's `kubeConfigReadWriter.Write`).
pub fn with_client(bytes: &[u8], certificate: &str, key: &str, authority: &str) -> Result<Zeroizing<String>, String> {
    let Kubeconfig { user, cluster, .. } = Kubeconfig::parse(bytes)?;
    let mut config: Value = serde_saphyr::from_slice(bytes).map_err(|_| "it is no YAML".to_owned())?;
    let mut put = |list: &str, kind: &str, name: &str, data: &[(&str, &str)]| {
        let entries = config[list].as_array_mut().into_iter().flatten().filter(|entry| entry["name"] == name);
        for fields in entries.filter_map(|entry| entry[kind].as_object_mut()) {
            fields.extend(data.iter().map(|(field, pem)| ((*field).to_owned(), STANDARD.encode(pem).into())));
        }
    };
    put("users", "user", &user, &[("client-certificate-data", certificate), ("client-key-data", key)]);
    put("clusters", "cluster", &cluster, &[("certificate-authority-data", authority)]);
    Ok(Zeroizing::new(yaml::text(&config)))
}

/// What a kubeconfig shall say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wish {
    /// The cluster's name.
    pub cluster: String,
    /// The user: the client certificate's common name.
    pub user: String,
    /// The client certificate's organization.
    pub organization: Option<&'static str>,
    /// The API server's URL.
    pub server: String,
}

/// What a kubeconfig is worth.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// It is not there.
    Absent,
    /// Nobody can use it: empty, torn, or its client certificate is torn or expired. It is made again, whoever made it.
    Broken(String),
    /// It trusts another CA, or another CA signed its client certificate.
    OtherAuthority,
    /// It can be used, but says something else.
    Differs(String),
    /// It can be used; its client certificate where that is inside.
    Fine(Option<Box<Certificate>>),
}

/// Judges a kubeconfig by its meaning.
pub fn judge(bytes: Option<&[u8]>, wish: &Wish, authority: &Certificate, now: Timestamp) -> Standing {
    let Some(bytes) = bytes else { return Standing::Absent };
    let config = match Kubeconfig::parse(bytes) {
        Ok(config) => config,
        Err(why) => return Standing::Broken(why),
    };
    if let Authority::Embedded(pem) = &config.authority {
        match Certificate::chain_from_pem(pem) {
            Err(why) => return Standing::Broken(format!("the CA inside: {why}")),
            Ok(trusted) if !trusted.contains(authority) => return Standing::OtherAuthority,
            Ok(_) => {}
        }
    }
    let client = match &config.credentials {
        Credentials::Embedded { certificate, key } => match judge::leaf(Some(certificate), Some(key), authority, &[], now) {
            LeafState::Fine(client) => Some(client),
            LeafState::WrongIssuer => return Standing::OtherAuthority,
            state => return Standing::Broken(format!("the client certificate inside: {}", state.fault())),
        },
        Credentials::Files { .. } | Credentials::Token(_) | Credentials::Other => None,
    };
    match difference(&config, wish, client.as_deref()) {
        Some(difference) => Standing::Differs(difference),
        None => Standing::Fine(client),
    }
}

fn difference(config: &Kubeconfig, wish: &Wish, client: Option<&Certificate>) -> Option<String> {
    let wrong = |what: &str, have: &str, wish: &str| (have != wish).then(|| format!("its {what} is {have}, not {wish}"));
    let organization = |client: &Certificate| client.organizations.join(", ");
    wrong("server", &config.server, &wish.server)
        .or_else(|| wrong("cluster", &config.cluster, &wish.cluster))
        .or_else(|| wrong("user", &config.user, &wish.user))
        .or_else(|| wrong("client certificate's name", &client?.common_name, &wish.user))
        .or_else(|| wrong("client certificate's group", &organization(client?), wish.organization.unwrap_or_default()))
}

/// How a client certificate that somebody else renewed is reported.
pub fn renewed(client: Option<&Certificate>) -> String {
    let until = client.map(|client| format!(", valid until {}", spoken(client.not_after)));
    format!("renewed by somebody else{}", until.unwrap_or_default())
}

/// The URL of this machine's API server.
pub fn local_server(advertise_address: IpAddr, bind_port: u16) -> String {
    format!("https://{}", Endpoint { host: advertise_address.to_string(), port: bind_port })
}

/// The URL that everybody uses: the shared endpoint where there is one, otherwise this machine's.
pub fn shared_server(endpoint: Option<&Endpoint>, advertise_address: IpAddr, bind_port: u16) -> String {
    endpoint.map_or_else(|| local_server(advertise_address, bind_port), |endpoint| format!("https://{endpoint}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Kubeconfig {
        Kubeconfig {
            cluster: "kubernetes".to_owned(),
            user: "system:kube-scheduler".to_owned(),
            server: "https://10.77.0.21:6443".to_owned(),
            authority: Authority::Embedded(b"a certificate ".repeat(80)),
            credentials: Credentials::Embedded { certificate: b"another".repeat(80), key: Zeroizing::new(b"a key".repeat(50)) },
        }
    }

    /// The text is what `kubeadm init` v1.36.3 writes, but for the data.
    #[test]
    fn it_is_written_as_client_go_writes_it() {
        let data = |bytes: &[u8], times| STANDARD.encode(bytes.repeat(times));
        let wished = format!(
            "apiVersion: v1\nclusters:\n- cluster:\n    certificate-authority-data: {}\n    server: https://10.77.0.21:6443\n  name: kubernetes\n\
             contexts:\n- context:\n    cluster: kubernetes\n    user: system:kube-scheduler\n  name: system:kube-scheduler@kubernetes\n\
             current-context: system:kube-scheduler@kubernetes\nkind: Config\nusers:\n- name: system:kube-scheduler\n  user:\n    \
             client-certificate-data: {}\n    client-key-data: {}\n",
            data(b"a certificate ", 80),
            data(b"another", 80),
            data(b"a key", 50)
        );
        assert_eq!(*sample().render(), wished);
    }

    #[test]
    fn it_is_read_back_as_it_was_written() {
        let files = Credentials::Files { certificate: "/a.pem".to_owned(), key: "/b.pem".to_owned() };
        let token = Credentials::Token(Zeroizing::new("abcdef.0123456789abcdef".to_owned()));
        for wish in [
            sample(),
            Kubeconfig { credentials: token, ..sample() },
            Kubeconfig { credentials: files, authority: Authority::File("/ca.crt".to_owned()), ..sample() },
        ] {
            assert_eq!(Kubeconfig::parse(wish.render().as_bytes()), Ok(wish));
        }
    }

    #[test]
    fn a_renewed_client_is_all_that_changes() {
        let theirs = sample().render().replace("    server:", "    tls-server-name: api\n    server:");
        let renewed = with_client(theirs.as_bytes(), "new", "newer", "newest").expect("text");
        let wish = Kubeconfig {
            authority: Authority::Embedded(b"newest".to_vec()),
            credentials: Credentials::Embedded { certificate: b"new".to_vec(), key: Zeroizing::new(b"newer".to_vec()) },
            ..sample()
        };
        assert!(renewed.contains("tls-server-name: api"));
        assert_eq!(Kubeconfig::parse(renewed.as_bytes()), Ok(wish));
    }

    #[test]
    fn the_cluster_is_found_with_or_without_somebody_in_it() {
        let embedded = Authority::Embedded(b"a certificate ".repeat(80));
        let alone = crate::k8s::cluster_info::kubeconfig("https://a:1", b"ca");
        let kubelet = of_kubelet("https://b:2", b"ca", "/c.pem");
        assert_eq!(cluster_of(sample().render().as_bytes()), Ok(("https://10.77.0.21:6443".to_owned(), embedded)));
        assert_eq!(cluster_of(alone.as_bytes()), Ok(("https://a:1".to_owned(), Authority::Embedded(b"ca".to_vec()))));
        assert_eq!(cluster_of(kubelet.as_bytes()), Ok(("https://b:2".to_owned(), Authority::Embedded(b"ca".to_vec()))));
        let two = "clusters: [{name: a, cluster: {server: b}}, {name: c, cluster: {server: d}}]\n";
        assert_eq!(cluster_of(two.as_bytes()), Err("it does not say which cluster it is for".to_owned()));
        assert_eq!(cluster_of(b""), Err("it does not say which cluster it is for".to_owned()));
        let files = Credentials::Files { certificate: "/c.pem".to_owned(), key: "/c.pem".to_owned() };
        assert_eq!(Kubeconfig::parse(kubelet.as_bytes()).map(|config| config.credentials), Ok(files));
    }

    #[test]
    fn a_torn_one_says_why() {
        let whole = sample().render();
        for (text, why) in [
            ("", "it is empty"),
            ("\0\0\0\0", "it is empty"),
            ("a: [", "it is no YAML"),
            ("just words", "it has no current-context"),
            (&whole[..whole.find("current-context").expect("it is there")], "it has no current-context"),
            (&whole[..whole.find("users:").expect("it is there")], "its context's user does not exist"),
            (&whole[..whole.find("client-key-data").expect("it is there")], "its user has no whole credentials"),
            (&whole.replace("client-key-data: ", "client-key-data: -"), "its client-key-data is no base64"),
        ] {
            assert_eq!(Kubeconfig::parse(text.as_bytes()).expect_err(text), why);
        }
        assert!(!format!("{:?}", sample()).contains(&STANDARD.encode(b"a key")));
    }

    #[test]
    fn a_kubeconfig_is_judged_by_its_meaning() {
        use crate::config::node::KeyAlgorithm;
        use crate::k8s::pki::{Pair, Profile, Validity};
        use std::time::Duration;
        let now: Timestamp = "2026-11-21T08:46:57Z".parse().expect("a time");
        let year = Duration::from_secs(8760 * 3600);
        let ca = || Pair::new_authority("kubernetes", KeyAlgorithm::EcdsaP256, Validity::from_now(now, year * 10).expect("dates"));
        let (ca, other) = (ca().expect("a CA"), ca().expect("a CA"));
        let wish = Wish {
            cluster: "kubernetes".to_owned(),
            user: "kubernetes-admin".to_owned(),
            organization: Some("kubeadm:cluster-admins"),
            server: "https://10.0.0.1:6443".to_owned(),
        };
        let write = |trusted: &Pair, signer: &Pair, name: &str, server: &str| {
            let validity = Validity::since(&signer.certificate, now, year).expect("dates");
            let pair = signer.issue(&Profile::client(name, wish.organization), KeyAlgorithm::EcdsaP256, validity).expect("a leaf");
            let credentials = Credentials::Embedded {
                certificate: pair.certificate.to_pem().into_bytes(),
                key: Zeroizing::new(pair.key.to_pem().expect("text").as_bytes().to_vec()),
            };
            let authority = Authority::Embedded(trusted.certificate.to_pem().into_bytes());
            let (cluster, user) = (wish.cluster.clone(), wish.user.clone());
            Kubeconfig { cluster, user, server: server.to_owned(), authority, credentials }.render()
        };
        let at = |text: &str, when| judge(Some(text.as_bytes()), &wish, &ca.certificate, when);
        let good = write(&ca, &ca, "kubernetes-admin", &wish.server);
        assert!(matches!(at(&good, now), Standing::Fine(Some(client)) if client.not_before == ca.certificate.not_before));
        assert_eq!(judge(None, &wish, &ca.certificate, now), Standing::Absent);
        assert_eq!(at("", now), Standing::Broken("it is empty".to_owned()));
        let late = now.checked_add(year * 2).expect("a time");
        assert_eq!(at(&good, late), Standing::Broken("the client certificate inside: expired 2027-11-21T08:46:57Z".to_owned()));
        assert_eq!(at(&write(&other, &other, "kubernetes-admin", &wish.server), now), Standing::OtherAuthority);
        assert_eq!(at(&write(&ca, &other, "kubernetes-admin", &wish.server), now), Standing::OtherAuthority);
        assert_eq!(
            at(&write(&ca, &ca, "kubernetes-admin", "https://10.0.0.2:6443"), now),
            Standing::Differs("its server is https://10.0.0.2:6443, not https://10.0.0.1:6443".to_owned())
        );
        assert_eq!(
            at(&write(&ca, &ca, "somebody", &wish.server), now),
            Standing::Differs("its client certificate's name is somebody, not kubernetes-admin".to_owned())
        );
        let rotating = with_client_file(good.replace("server:", "tls-server-name: api\n    server:").as_bytes(), "/current.pem")
            .expect("text");
        assert!(rotating.contains("tls-server-name: api") && !rotating.contains("client-key-data"));
        assert!(rotating.contains("client-certificate: /current.pem\n    client-key: /current.pem\n"));
        assert_eq!(at(&rotating, now), Standing::Fine(None));
    }

    #[test]
    fn servers_are_urls() {
        let endpoint = Endpoint { host: "api.example.com".to_owned(), port: 8443 };
        assert_eq!(local_server("2001:db8::1".parse().expect("an address"), 6443), "https://[2001:db8::1]:6443");
        assert_eq!(shared_server(Some(&endpoint), [10, 0, 0, 1].into(), 6443), "https://api.example.com:8443");
        assert_eq!(shared_server(None, [10, 0, 0, 1].into(), 6443), "https://10.0.0.1:6443");
    }
}
