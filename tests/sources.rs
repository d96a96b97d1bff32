//! Where a machine learns what it shall be: credentials, the kernel command line, disk and what `init` recorded; who of them wins, and
//! which of them are asked.

use base64::Engine as _;
use edgeboot::config::node::{Auto, Swap};
use edgeboot::config::sources::{Found, Gathered, Sort};
use edgeboot::config::{Outcome, Wish, gather, judge, load, record};
use edgeboot::error::{Kind, Result};
use edgeboot::host::Root;
use tempfile::TempDir;

const TOKEN: &str = "abcdef.0123456789abcdef";
const CREDENTIALS: &str = "/run/credentials/edgeboot.service";

/// Paths and texts.
type Files<'a> = Vec<(&'a str, &'a str)>;

struct Tree {
    _folder: TempDir,
    root: Root,
}

fn tree(files: &[(&str, &str)]) -> Tree {
    let folder = TempDir::new().expect("a temporary folder");
    let root = Root::at(folder.path().to_str().expect("a plain path")).expect("a tree");
    for (path, text) in files {
        let _ = root.put(path, 0o600, text.as_bytes()).expect(path);
    }
    Tree { _folder: folder, root }
}

fn outcome(files: &[(&str, &str)]) -> Result<Outcome> {
    load(&tree(files).root, &[])
}

fn refused(files: &[(&str, &str)]) -> String {
    let error = outcome(files).expect_err("it is refused");
    assert_eq!(error.kind(), Kind::Config, "{error}");
    error.to_string()
}

fn data(text: &str) -> String {
    format!("edgeboot.config=data:;base64,{}", base64::engine::general_purpose::STANDARD.encode(text))
}

/// Which node a configuration makes: its package is where it says.
fn package_of(outcome: &Outcome) -> (String, String) {
    match &outcome.wish {
        Wish::Node { node, origins, .. } => (node.package.to_string(), origins["NodeConfig.package"].clone()),
        Wish::Nothing { .. } => panic!("no role"),
    }
}

/// A source: its name, how a text gets into it, and what the origin of line 2 is.
type Place = (&'static str, fn(&str) -> (String, String), &'static str);

/// All places, low to high.
const PLACES: [Place; 10] = [
    ("config.yaml", |text| ("/etc/edgeboot/config.yaml".into(), text.into()), "/etc/edgeboot/config.yaml"),
    (
        "a drop-in of the vendor",
        |text| ("/usr/lib/edgeboot/config.d/10-a.yaml".into(), text.into()),
        "/usr/lib/edgeboot/config.d/10-a.yaml",
    ),
    ("a drop-in of /run", |text| ("/run/edgeboot/config.d/20-a.yaml".into(), text.into()), "/run/edgeboot/config.d/20-a.yaml"),
    ("a drop-in of /etc", |text| ("/etc/edgeboot/config.d/30-a.yaml".into(), text.into()), "/etc/edgeboot/config.d/30-a.yaml"),
    (
        "a later drop-in",
        |text| ("/usr/lib/edgeboot/config.d/40-a.yaml".into(), text.into()),
        "/usr/lib/edgeboot/config.d/40-a.yaml",
    ),
    (
        "the credential",
        |text| ("/run/credentials/edgeboot.service/edgeboot.config".into(), text.into()),
        "/run/credentials/edgeboot.service/edgeboot.config",
    ),
    (
        "a drop-in credential of the system",
        |text| ("/run/credentials/@system/edgeboot.config.a".into(), text.into()),
        "/run/credentials/@system/edgeboot.config.a",
    ),
    ("a drop-in credential", |text| ("/etc/credstore/edgeboot.config.b".into(), text.into()), "/etc/credstore/edgeboot.config.b"),
    ("the kernel command line", |text| ("/proc/cmdline".into(), data(text)), "kernel command line"),
    ("the record", |text| ("/var/lib/edgeboot/recorded/wish.yaml".into(), text.into()), "/var/lib/edgeboot/recorded/wish.yaml"),
];

#[test]
fn of_each_pair_of_sources_the_higher_one_wins_and_is_the_origin() {
    for (low, (lower, put_lower, lower_origin)) in PLACES.iter().enumerate() {
        for (higher, put_higher, higher_origin) in &PLACES[low + 1..] {
            let (low_path, low_text) = put_lower("role: controlPlane\npackage: /low\nhost: {modules: [a]}\n");
            let (high_path, high_text) = put_higher("# higher\npackage: /high\nhost: {modules+: [b]}\n");
            let files = [(low_path.as_str(), low_text.as_str()), (high_path.as_str(), high_text.as_str())];
            let outcome = outcome(&files).unwrap_or_else(|error| panic!("{lower}, {higher}: {}", error.render()));
            assert_eq!(package_of(&outcome), ("/high".to_owned(), format!("{higher_origin}:2:10")), "{lower}, {higher}");
            let Wish::Node { node, origins, .. } = &outcome.wish else { panic!("no role") };
            assert_eq!(node.host.modules, ["a", "b"], "{lower}, {higher}");
            assert_eq!(origins["NodeConfig.role"], format!("{lower_origin}:1:7"), "{lower}, {higher}");
        }
    }
}

#[test]
fn of_equal_names_only_the_credential_of_the_higher_folder_counts() {
    let unit = format!("{CREDENTIALS}/edgeboot.config");
    let files = [
        (unit.as_str(), "role: controlPlane\npackage: /unit\n"),
        ("/run/credentials/@system/edgeboot.config", "package: /system\nreadyWhen: node-registered\n"),
        ("/etc/credstore/edgeboot.configuration", "rubbish"),
    ];
    let outcome = outcome(&files).expect("good");
    assert_eq!(package_of(&outcome).0, "/unit");
}

#[test]
fn on_the_kernel_command_line_several_configurations_lie_over_each_other() {
    let line = format!("quiet {} ro \"{}\"", data("role: controlPlane\npackage: /one\n"), data("# two\npackage: /two\n"));
    let outcome = outcome(&[("/proc/cmdline", &line)]).expect("good");
    assert_eq!(package_of(&outcome), ("/two".to_owned(), "kernel command line (edgeboot.config 2):2:10".to_owned()));
}

#[test]
fn what_is_wrong_on_the_kernel_command_line_is_named_with_its_word() {
    for (line, said) in [
        ("edgeboot.config=role", "error: `edgeboot.config` takes a URL of the form data:;base64,…\n  --> kernel command line\n"),
        ("edgeboot.config=https://a/b?c", "`edgeboot.config`: fetching from a URL is not part of this version of edgeboot"),
        (
            "edgeboot.source=disc",
            "`edgeboot.source`: `disc` is none of `disk`, `credentials`, `kernel-command-line` (did you mean `disk`?)",
        ),
        ("edgeboot.source", "`edgeboot.source`: it takes names of disk, credentials, kernel-command-line"),
        ("edgeboot.disable=perhaps", "`edgeboot.disable` takes nothing, yes or no"),
        ("edgeboot.disabled", "help: did you mean `edgeboot.disable`?"),
        ("edgeboot.platform=ec2", "unknown word `edgeboot.platform` on the kernel command line"),
    ] {
        let error = refused(&[("/etc/edgeboot/config.yaml", "role: controlPlane"), ("/proc/cmdline", line)]);
        assert!(error.contains(said), "{line}\n{error}");
    }
    let good = "BOOT_IMAGE=/vmlinuz root=/dev/vda1 edgeboot.disable=0 edgeboot.source=disk quiet systemd.set_credential=other.x:y";
    assert!(outcome(&[("/etc/edgeboot/config.yaml", "role: controlPlane"), ("/proc/cmdline", good)]).is_ok());
}

#[test]
fn a_secret_on_the_kernel_command_line_is_refused_unless_it_is_allowed_in_so_many_words() {
    let init = format!(
        "role: controlPlane\n---\napiVersion: kubeadm.k8s.io/v1beta4\nkind: InitConfiguration\nbootstrapTokens: [{{token: {TOKEN}}}]\n"
    );
    let by_name = "role: controlPlane\n---\napiVersion: kubeadm.k8s.io/v1beta4\nkind: InitConfiguration\n\
                   bootstrapTokens: [{tokenFrom: credential:edgeboot.token}]\n";
    let system = "/run/credentials/@system";
    let (config, token) = (format!("{system}/edgeboot.config"), format!("{system}/edgeboot.token"));
    let on_disk = "/etc/edgeboot/config.yaml";
    let cases: [(String, Files<'_>, &str); 3] = [
        (data(&init), vec![], "the kernel command line holds a secret (`token`), and every process can read it"),
        (
            "systemd.set_credential_binary=edgeboot.config:eA==".to_owned(),
            vec![(&config, &init)],
            "the kernel command line holds a secret (`token`), and every process can read it",
        ),
        (
            format!("systemd.set-credential=edgeboot.token:{TOKEN}"),
            vec![(&token, TOKEN), (on_disk, by_name)],
            "the credential edgeboot.token stands on the kernel command line, and every process can read it",
        ),
    ];
    for (line, mut files, said) in cases {
        files.push(("/proc/cmdline", &line));
        let error = refused(&files);
        assert!(error.contains(said) && error.contains("edgeboot.allow-readable-secrets"), "{line}\n{error}");
        assert!(!error.contains("0123456789abcdef"), "{error}");
        let allowed = format!("{line} edgeboot.allow-readable-secrets");
        *files.last_mut().expect("the command line") = ("/proc/cmdline", &allowed);
        let outcome = outcome(&files).unwrap_or_else(|error| panic!("{line}\n{}", error.render()));
        let Wish::Node { node, .. } = outcome.wish else { panic!("no role") };
        assert_eq!(node.bootstrap_tokens[0].token.expose(), TOKEN);
    }
    let elsewhere = data(by_name);
    assert!(outcome(&[("/proc/cmdline", &elsewhere), (&token, TOKEN)]).is_ok(), "a reference is no secret");
}

#[test]
fn in_a_container_the_kernel_command_line_is_nobodys_word() {
    let files = [("/run/systemd/container", "systemd-nspawn"), ("/proc/cmdline", "edgeboot.disable edgeboot.config=rubbish")];
    let outcome = outcome(&files).expect("good");
    match outcome.wish {
        Wish::Nothing { looked_for, .. } => assert!(!looked_for.iter().any(|place| place.contains("kernel")), "{looked_for:?}"),
        Wish::Node { .. } => panic!("a role from nowhere"),
    }
}

#[test]
fn only_the_sources_that_are_named_are_asked() {
    let credential = format!("{CREDENTIALS}/edgeboot.config");
    let by_line = data("package: /line\n");
    let record = "/var/lib/edgeboot/recorded/wish.yaml";
    let on_disk = "/etc/edgeboot/config.yaml";
    for (sources, words, record_says, package) in [
        ("", "", "", "/line"),
        ("sources: [credentials]\n", "", "", "/credential"),
        ("sources: []\n", "", "", "/disk"),
        ("sources: [kernel-command-line]\n", "", "", "/line"),
        ("sources: [disk]\n", "edgeboot.source=disk,credentials", "", "/credential"),
        ("sources: [disk]\n", "", "package: /record\n", "/record"),
    ] {
        let disk = format!("role: controlPlane\npackage: /disk\n{sources}");
        let line = format!("{by_line} {words}");
        let mut files =
            vec![(on_disk, disk.as_str()), (credential.as_str(), "package: /credential\n"), ("/proc/cmdline", line.as_str())];
        if !record_says.is_empty() {
            files.push((record, record_says));
        }
        let outcome = outcome(&files).unwrap_or_else(|error| panic!("{sources}{words}\n{}", error.render()));
        assert_eq!(package_of(&outcome).0, package, "{sources}{words}");
    }
    let tree = tree(&[(on_disk, "sources: [disk]\n"), ("/proc/cmdline", "edgeboot.source=credentials")]);
    let judged = judge(&tree.root, gather(&tree.root, &[])).expect("judged");
    let Some(Wish::Nothing { looked_for, .. }) = judged.wish else { panic!("{judged:?}") };
    assert_eq!(looked_for, ["the credentials edgeboot.config and edgeboot.config.*", "/var/lib/edgeboot/recorded/wish.yaml"]);
    assert!(refused(&[(on_disk, "sources: [dsik]\n")]).contains("`sources`: `dsik` is none of"));
    let error = refused(&[(&credential, "role: controlPlane\nsources: [disk]\n")]);
    assert!(error.contains("`sources` limits which sources are asked, and this one was asked already"), "{error}");
}

/// What a machine tells of itself.
const MACHINE: [(&str, &str); 5] = [
    ("/etc/machine-id", "0123456789abcdef0123456789abcdef\n"),
    ("/sys/class/dmi/id/product_serial", "SN-4711\n"),
    ("/sys/class/net/eth0/address", "52:54:00:12:34:56\n"),
    ("/proc/sys/kernel/hostname", "box\n"),
    ("/run/credentials/edgeboot.service/edgeboot.site", "north\n"),
];

#[test]
fn a_text_is_completed_from_the_machine_in_our_kind_and_in_kubeadms() {
    let text = "role: controlPlane
package: /srv/${machine.id}
---
apiVersion: kubeadm.k8s.io/v1beta4
kind: InitConfiguration
nodeRegistration:
  name: edge-${dmi.serial}-${instance.id:-0}
  kubeletExtraArgs: [{name: node-labels, value: 'site=${credential:edgeboot.site},mac=${mac:eth0},host=${hostname:-none},x=$${y}'}]
---
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
clusterDomain: ${hostname}
";
    let files = [&MACHINE[..], &[("/etc/edgeboot/config.yaml", text)]].concat();
    let Wish::Node { node, .. } = outcome(&files).expect("good").wish else { panic!("no role") };
    assert_eq!(node.package, "/srv/0123456789abcdef0123456789abcdef");
    assert_eq!(node.registration.name, Auto::Set("edge-sn-4711-0".to_owned()));
    assert_eq!(node.registration.kubelet_extra_args[0].value, "site=north,mac=52:54:00:12:34:56,host=box,x=${y}");
    assert_eq!(node.kubelet_configuration["clusterDomain"], "${hostname}", "what is passed through is not edgeboot's");
}

#[test]
fn what_this_machine_does_not_tell_is_an_error_at_its_place() {
    let text = "role: controlPlane\npackage: /srv/${instance.id}/${mac:eth1}/${dmi.serial}\n";
    let files = [("/etc/edgeboot/config.yaml", text), ("/proc/sys/kernel/hostname", "box\n")];
    let error = refused(&files);
    for said in [
        "error: `${instance.id}` has no value here: no cloud's metadata is asked in this version of edgeboot\n  --> /etc/edgeboot/config.yaml:2:10\n",
        "error: `${mac:eth1}` has no value here: there is no such interface",
        "error: `${dmi.serial}` has no value here: the firmware tells none",
    ] {
        assert!(error.contains(said), "{said}\n{error}");
    }
}

#[test]
fn what_came_from_a_credential_is_no_secret_of_the_file_and_in_no_finding() {
    let hash = format!("sha256:{}", "0a".repeat(32));
    let text = format!(
        "role: worker\njoin: {{endpoints: [a.example], token: '${{credential:edgeboot.token}}', caCertHashes: ['{hash}']}}\n"
    );
    let machine = tree(&[("/run/credentials/edgeboot.service/edgeboot.token", TOKEN)]);
    let _ = machine.root.put("/etc/edgeboot/config.yaml", 0o644, text.as_bytes()).expect("placed");
    assert!(load(&machine.root, &[]).is_ok(), "the file itself may be read by all");
    let wrong = "role: controlPlane\npackage: ${credential:edgeboot.token}\n";
    let _ = machine.root.put("/etc/edgeboot/config.yaml", 0o644, wrong.as_bytes()).expect("placed");
    let error = load(&machine.root, &[]).expect_err("no path").to_string();
    assert!(error.contains("`package`: `<redacted>` is not an absolute path"), "{error}");
    assert!(!error.contains("0123456789abcdef"), "{error}");
}

#[test]
fn the_record_keeps_what_was_written_and_not_what_it_meant_here() {
    let text = "role: controlPlane\nhost: {swap: off}\nuploadCerts: yes\npackage: /srv/${hostname}\n---\napiVersion: kubeadm.k8s.io/v1beta4\nkind: InitConfiguration\n\
         bootstrapTokens: [{token: '${credential:edgeboot.token}'}]\n";
    let machine = tree(&[("/run/credentials/edgeboot.service/edgeboot.token", TOKEN), ("/proc/sys/kernel/hostname", "box\n")]);
    let told = Gathered {
        origin: "told".to_owned(),
        found: Found::Bytes { bytes: text.as_bytes().to_vec(), mode: None, sort: Sort::ByHand },
    };
    let recording = record(&machine.root, std::slice::from_ref(&told)).expect("recorded");
    let _ = machine.root.put_groups(&recording.groups).expect("placed");
    let wish = machine.root.read_text("/var/lib/edgeboot/recorded/wish.yaml").expect("read").expect("there");
    assert!(wish.contains("/srv/${hostname}") && !wish.contains("0123456789abcdef"), "{wish}");
    let Wish::Node { node, .. } = load(&machine.root, &[]).expect("good").wish else { panic!("no role") };
    assert_eq!((node.package.as_str(), node.bootstrap_tokens[0].token.expose().as_str()), ("/srv/box", TOKEN));
    assert_eq!((node.host.swap, node.upload_certs), (Swap::Off, true), "a bare `off` stays a text, a bare `yes` a boolean");
}
