//! Keys and certificates, judged by openssl: what edgeboot makes, openssl verifies and reads as kubeadm's; what openssl makes, edgeboot
//! reads and signs with.
#![expect(clippy::disallowed_methods, reason = "a test runs openssl, which no room of edgeboot may")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use edgeboot::config::node::KeyAlgorithm;
use edgeboot::k8s::pki::certlist::Names;
use edgeboot::k8s::pki::judge::{self, LeafState, Part};
use edgeboot::k8s::pki::{Authority, Certificate, Leaf, Pair, PrivateKey, Profile, Validity, ca_hash};
use jiff::Timestamp;

const YEAR: Duration = Duration::from_secs(8760 * 3600);
const ALGORITHMS: [KeyAlgorithm; 3] = [KeyAlgorithm::EcdsaP256, KeyAlgorithm::EcdsaP384, KeyAlgorithm::Rsa2048];

/// A folder in which openssl is run.
struct Bench(tempfile::TempDir);

impl Bench {
    fn new() -> Bench {
        Bench(tempfile::tempdir().expect("a folder"))
    }
    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
    fn put(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).expect("a file");
    }
    fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).expect("a file")
    }
    fn try_openssl(&self, arguments: &str) -> Output {
        let mut command = Command::new("openssl");
        command.args(arguments.split_whitespace().map(|word| word.replace('~', " "))).current_dir(self.0.path());
        command.output().expect("openssl is installed (image/prerequisites)")
    }
    fn openssl(&self, arguments: &str) -> String {
        let output = self.try_openssl(arguments);
        assert!(output.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text")
    }
    fn put_pair(&self, name: &str, pair: &Pair) {
        self.put(&format!("{name}.crt"), &pair.certificate.to_pem());
        self.put(&format!("{name}.key"), &pair.key.to_pem().expect("a key"));
    }
}

fn now() -> Timestamp {
    Timestamp::now()
}

fn authority(authority: Authority, algorithm: KeyAlgorithm) -> Pair {
    Pair::new_authority(authority.common_name(), algorithm, Validity::from_now(now(), YEAR * 10).expect("dates")).expect("a CA")
}

fn names(subnets: &[ipnet::IpNet]) -> Names<'_> {
    Names {
        node: "node-1",
        advertise_address: [10, 77, 0, 21].into(),
        service_subnets: subnets,
        dns_domain: "cluster.local",
        control_plane_host: Some("api.example.com"),
        api_server_sans: &[],
        etcd_server_sans: &[],
        etcd_peer_sans: &[],
    }
}

/// The lines of `openssl x509 -text` that do not change from one certificate to the next.
fn extensions(text: &str) -> Vec<&str> {
    let lines = text.lines().skip_while(|line| !line.contains("X509v3 extensions")).skip(1);
    let lines = lines.take_while(|line| !line.contains("Signature Algorithm")).map(str::trim);
    lines.filter(|line| line.split(':').count() != 20).collect()
}

#[test]
fn openssl_verifies_every_certificate_of_a_control_plane() {
    let subnets = ["10.96.0.0/12".parse().expect("a subnet")];
    for algorithm in ALGORITHMS {
        let bench = Bench::new();
        for signer in Authority::ALL {
            let ca = authority(signer, algorithm);
            bench.put_pair("ca", &ca);
            bench.openssl("verify -CAfile ca.crt ca.crt");
            for leaf in Leaf::ALL.into_iter().filter(|leaf| leaf.authority() == signer) {
                let profile = leaf.profile(&names(&subnets));
                let pair = ca.issue(&profile, algorithm, Validity::from_now(now(), YEAR).expect("dates")).expect("a leaf");
                bench.put_pair("leaf", &pair);
                for usage in &profile.usages {
                    let purpose = if format!("{usage:?}") == "Server" { "sslserver" } else { "sslclient" };
                    bench.openssl(&format!("verify -CAfile ca.crt -purpose {purpose} leaf.crt"));
                }
                for san in profile.sans.iter().map(ToString::to_string) {
                    let flag = if san.parse::<std::net::IpAddr>().is_ok() { "-verify_ip" } else { "-verify_hostname" };
                    bench.openssl(&format!("verify -CAfile ca.crt {flag} {san} leaf.crt"));
                }
                assert_eq!(bench.openssl("x509 -in leaf.crt -noout -pubkey"), bench.openssl("pkey -in leaf.key -pubout"));
            }
        }
    }
}

/// The text is that of `kubeadm init` v1.36.3.
#[test]
fn certificates_say_what_kubeadms_say() {
    let bench = Bench::new();
    let subnets = ["10.96.0.0/12".parse().expect("a subnet")];
    let ca = authority(Authority::Etcd, KeyAlgorithm::EcdsaP256);
    bench.put_pair("ca", &ca);
    let text = bench.openssl("x509 -in ca.crt -noout -text");
    for line in ["Version: 3 (0x2)", "Issuer: CN = etcd-ca", "Subject: CN = etcd-ca", "Signature Algorithm: ecdsa-with-SHA256"] {
        assert!(text.contains(line), "{line} is not in {text}");
    }
    assert_eq!(
        extensions(&text),
        [
            "X509v3 Key Usage: critical",
            "Digital Signature, Key Encipherment, Certificate Sign",
            "X509v3 Basic Constraints: critical",
            "CA:TRUE",
            "X509v3 Subject Key Identifier:",
            "X509v3 Subject Alternative Name:",
            "DNS:etcd-ca",
        ]
    );
    let profile = Leaf::EtcdServer.profile(&names(&subnets));
    bench.put_pair(
        "leaf",
        &ca.issue(&profile, KeyAlgorithm::EcdsaP256, Validity::from_now(now(), YEAR).expect("dates")).expect("a leaf"),
    );
    let text = bench.openssl("x509 -in leaf.crt -noout -text");
    assert_eq!(
        extensions(&text),
        [
            "X509v3 Key Usage: critical",
            "Digital Signature, Key Encipherment",
            "X509v3 Extended Key Usage:",
            "TLS Web Server Authentication, TLS Web Client Authentication",
            "X509v3 Basic Constraints: critical",
            "CA:FALSE",
            "X509v3 Authority Key Identifier:",
            "X509v3 Subject Alternative Name:",
            "DNS:localhost, DNS:node-1, IP Address:10.77.0.21, IP Address:127.0.0.1, IP Address:0:0:0:0:0:0:0:1",
        ]
    );
    let client = Profile::client("system:node:node-1", Some("system:nodes"));
    let client = ca.issue(&client, KeyAlgorithm::EcdsaP256, Validity::since(&ca.certificate, now(), YEAR).expect("dates"));
    bench.put_pair("client", &client.expect("a leaf"));
    let text = bench.openssl("x509 -in client.crt -noout -subject -startdate");
    assert_eq!(text.lines().next(), Some("subject=O = system:nodes, CN = system:node:node-1"));
    assert_eq!(text.lines().nth(1), bench.openssl("x509 -in ca.crt -noout -startdate").lines().next());
}

#[test]
fn keys_are_written_as_openssl_writes_them_traditionally() {
    let bench = Bench::new();
    for algorithm in ALGORITHMS {
        for _ in 0..3 {
            let key = PrivateKey::generate(algorithm).expect("a key");
            bench.put("key", &key.to_pem().expect("text"));
            bench.openssl("pkey -in key -check -noout");
            assert_eq!(bench.openssl("pkey -in key -traditional"), *key.to_pem().expect("text"));
            assert_eq!(bench.openssl("pkey -in key -pubout"), key.public_pem().expect("text"));
        }
    }
}

#[test]
fn keys_that_openssl_made_are_read_in_every_form() {
    let bench = Bench::new();
    for make in [
        "genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048",
        "ecparam -genkey -name prime256v1",
        "ecparam -genkey -name secp384r1",
        "ecparam -genkey -name secp521r1",
    ] {
        // With `EC PARAMETERS` before the key, where it is one.
        bench.openssl(&format!("{make} -out made"));
        let public = bench.openssl("pkey -in made -pubout");
        bench.openssl("pkey -in made -out pkcs8");
        bench.openssl("pkey -in made -traditional -out traditional");
        for form in ["made", "pkcs8", "traditional"] {
            let key = PrivateKey::from_pem(&bench.read(form)).expect(form);
            assert_eq!(key.public_pem().expect("text"), public, "{make} {form}");
            assert_eq!(key.to_pem().expect("text").as_bytes(), bench.read("traditional"), "{make} {form}");
        }
    }
}

/// A CA need not be kubeadm's: any name, any form of its key, RSA or EC, whatever the leaves' algorithm is.
#[test]
fn a_ca_that_openssl_made_signs() {
    let subject = "/DC=com/DC=example/O=Example~Ltd./OU=one/OU=two/CN=Käsebrot~CA/emailAddress=ca@example.com";
    for (make, form) in [
        ("genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048", ""),
        ("genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:3072", "-traditional"),
        ("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256", ""),
        ("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-384", "-traditional"),
        ("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-521", "-traditional"),
    ] {
        let bench = Bench::new();
        bench.openssl(&format!("{make} -out raw.key"));
        bench.openssl(&format!("pkey -in raw.key {form} -out ca.key"));
        for more in ["", "-addext subjectKeyIdentifier=none"] {
            bench.openssl(&format!("req -x509 -new -key ca.key -out ca.crt -days 30 -utf8 -subj {subject} {more}"));
            let certificate = Certificate::from_pem(&bench.read("ca.crt")).expect("a certificate");
            let key = PrivateKey::from_pem(&bench.read("ca.key")).expect("a key");
            assert!(certificate.is_authority && judge::belong_together(&certificate, &key));
            assert!(certificate.is_signed_by(&certificate), "{make}");
            let ca = Pair { certificate, key };
            for algorithm in ALGORITHMS {
                let validity = Validity::from_now(now(), YEAR).expect("dates");
                let leaf = ca.issue(&Profile::client("me", None), algorithm, validity).expect("a leaf");
                assert!(leaf.certificate.is_signed_by(&ca.certificate), "{make}");
                bench.put_pair("leaf", &leaf);
                bench.openssl("verify -CAfile ca.crt -purpose sslclient leaf.crt");
            }
        }
    }
}

#[test]
fn a_leaf_below_an_intermediate_of_openssl_is_followed_to_its_root() {
    let bench = Bench::new();
    bench.put("ca.ext", "basicConstraints=critical,CA:TRUE\nkeyUsage=keyCertSign\n");
    for (name, signer, extra) in [("root", "", "-signkey root.key"), ("middle", "root", ""), ("leaf", "middle", "")] {
        bench.openssl(&format!("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out {name}.key"));
        bench.openssl(&format!("req -new -key {name}.key -subj /CN={name} -out {name}.csr"));
        let by = if signer.is_empty() { extra.to_owned() } else { format!("-CA {signer}.crt -CAkey {signer}.key -CAcreateserial") };
        let extensions = if name == "leaf" { "" } else { "-extfile ca.ext" };
        bench.openssl(&format!("x509 -req -in {name}.csr {by} {extensions} -days 30 -out {name}.crt"));
    }
    let root = Certificate::from_pem(&bench.read("root.crt")).expect("a certificate");
    let chain = [bench.read("leaf.crt"), bench.read("middle.crt")].concat();
    let key = bench.read("leaf.key");
    assert!(matches!(judge::leaf(Some(&chain), Some(&key), &root, &[], now()), LeafState::Fine(_)));
    assert_eq!(judge::leaf(Some(&bench.read("leaf.crt")), Some(&key), &root, &[], now()), LeafState::WrongIssuer);
}

#[test]
fn the_hash_of_a_ca_is_what_kubeadms_documentation_computes() {
    for algorithm in ALGORITHMS {
        let bench = Bench::new();
        let ca = authority(Authority::Cluster, algorithm);
        bench.put_pair("ca", &ca);
        bench.openssl("x509 -in ca.crt -noout -pubkey -out ca.pub");
        bench.openssl("pkey -pubin -in ca.pub -outform der -out ca.der");
        let digest = bench.openssl("dgst -sha256 -r ca.der");
        assert_eq!(ca_hash(&ca.certificate), format!("sha256:{}", digest.split(' ').next().expect("a digest")));
    }
}

/// The damages of which `kubeadm init phase certs all` calls four fine.
#[test]
fn no_damaged_pair_passes_for_whole() {
    let ca = authority(Authority::Cluster, KeyAlgorithm::EcdsaP256);
    let make = || ca.issue(&Profile::client("me", None), KeyAlgorithm::EcdsaP256, Validity::from_now(now(), YEAR).expect("dates"));
    let (leaf, other) = (make().expect("a leaf"), make().expect("a leaf"));
    let (certificate, key) = (leaf.certificate.to_pem(), leaf.key.to_pem().expect("text"));
    let (certificate, key) = (certificate.as_bytes(), key.as_bytes());
    let foreign = other.key.to_pem().expect("text");
    let judge = |certificate, key| judge::leaf(certificate, key, &ca.certificate, &[], now());
    assert!(matches!(judge(Some(certificate), Some(key)), LeafState::Fine(_)));
    for (damaged, state) in [
        ("apiserver.crt empty", judge(Some(b""), Some(key))),
        ("apiserver.key missing", judge(Some(certificate), None)),
        ("apiserver.key empty", judge(Some(certificate), Some(b""))),
        ("apiserver.key of another certificate", judge(Some(certificate), Some(foreign.as_bytes()))),
    ] {
        assert!(state.is_broken(), "{damaged}: {state:?}");
    }
    assert!(matches!(judge::certificate(Some(b"")), Part::Torn(_)), "ca.crt empty");
    assert!(matches!(judge::private_key(Some(b"")), Part::Torn(_)), "ca.key or sa.key empty");
    assert!(matches!(judge::private_key(None), Part::Absent), "ca.key missing");
    // Every cut through a file is seen.
    for cut in 0..certificate.len() - 1 {
        assert!(judge(Some(&certificate[..cut]), Some(key)).is_broken(), "{cut}");
    }
    for cut in 0..key.len() - 1 {
        assert!(judge(Some(certificate), Some(&key[..cut])).is_broken(), "{cut}");
    }
}

/// What openssl says about a certificate, without what differs from one to the next: numbers, dates, keys and signatures.
fn described(bench: &Bench, name: &str) -> Vec<String> {
    let text = bench.openssl(&format!("x509 -in {name}.crt -noout -text"));
    let is_hex =
        |line: &str| line.trim().split(':').all(|part| part.len() <= 2 && part.bytes().all(|byte| byte.is_ascii_hexdigit()));
    let random = |line: &str| is_hex(line) || line.contains("Serial Number") || line.contains("Not ");
    text.lines().filter(|line| !random(line)).map(ToOwned::to_owned).collect()
}

/// Compared with a real kubeadm's: `kubeadm init phase certs all` made the folder, for node `km` at 10.77.0.21.
#[test]
#[ignore = "needs a PKI of kubeadm's: EDGEBOOT_KUBEADM_PKI=FOLDER"]
fn certificates_equal_kubeadms() {
    let tree = std::env::var_os("EDGEBOOT_KUBEADM_PKI").expect("EDGEBOOT_KUBEADM_PKI names a folder");
    let read = |name: &str, extension: &str| fs::read_to_string(Path::new(&tree).join(format!("{name}.{extension}"))).expect(name);
    let bench = Bench::new();
    let subnets = ["10.96.0.0/12".parse().expect("a subnet")];
    let algorithm = if read("ca", "key").contains("EC PRIVATE") { KeyAlgorithm::EcdsaP256 } else { KeyAlgorithm::Rsa2048 };
    for signer in Authority::ALL {
        let ours = authority(signer, algorithm);
        bench.put("theirs.crt", &read(signer.base_name(), "crt"));
        bench.put_pair("ours", &ours);
        assert_eq!(described(&bench, "ours"), described(&bench, "theirs"), "{signer:?}");
        let ca = Certificate::from_pem(read(signer.base_name(), "crt").as_bytes()).expect("a CA");
        for leaf in Leaf::ALL.into_iter().filter(|leaf| leaf.authority() == signer) {
            let (certificate, key) = (read(leaf.base_name(), "crt"), read(leaf.base_name(), "key"));
            let profile = leaf.profile(&Names { control_plane_host: None, node: "km", ..names(&subnets) });
            let state = judge::leaf(Some(certificate.as_bytes()), Some(key.as_bytes()), &ca, &profile.sans, ca.not_before);
            assert!(matches!(state, LeafState::Fine(_)), "{leaf:?}: {state:?}");
            let pair = ours.issue(&profile, algorithm, Validity::from_now(now(), YEAR).expect("dates")).expect("a leaf");
            bench.put("theirs.crt", &certificate);
            bench.put_pair("ours", &pair);
            assert_eq!(described(&bench, "ours"), described(&bench, "theirs"), "{leaf:?}");
            let read = PrivateKey::from_pem(key.as_bytes()).expect("a key");
            assert_eq!(*read.to_pem().expect("text"), key, "{leaf:?}");
        }
    }
    let service_account = PrivateKey::from_pem(read("sa", "key").as_bytes()).expect("a key");
    assert_eq!(service_account.public_pem().expect("text"), read("sa", "pub"));
}
