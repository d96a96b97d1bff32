//! Serving certificates of kubelets from the cluster: the timer approves what is the node's own, and leaves the rest to a person; and
//! what a node's credentials cannot do to another node.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::machine::{LIMIT, Machine};

/// A worker asks for a certificate with the founder's address in it, with its own credentials.
const THEFT: &str = "set -e; cd /tmp; export KUBECONFIG=/etc/kubernetes/kubelet.conf
openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout stolen.key -out stolen.csr -subj /O=system:nodes/CN=system:node:jworker \
 -addext subjectAltName=DNS:jworker,IP:10.77.0.11 2>/dev/null
kubectl create -f - <<CSR
apiVersion: certificates.k8s.io/v1
kind: CertificateSigningRequest
metadata: {name: theft}
spec: {signerName: kubernetes.io/kubelet-serving, usages: [digital signature, server auth], request: $(base64 -w0 stolen.csr)}
CSR";

/// What a worker's credentials must not do to the founder.
const TRESPASSES: [&str; 4] = [
    "label node jfounder stolen=yes",
    "delete node jfounder",
    "-n kube-system get secret bootstrap-token-q7w2e9",
    "label node jworker node-role.kubernetes.io/control-plane=",
];

/// Both kubelets serve with certificates of the cluster, and a request for more than the own names is left and reported.
pub fn certificates_are_the_nodes_own(founder: &Machine, worker: &Machine) -> Result<()> {
    for address in ["10.77.0.11", "10.77.0.12"] {
        let verify = format!(
            "openssl s_client -connect {address}:10250 -CAfile /etc/kubernetes/pki/ca.crt -verify_ip {address} -verify_return_error </dev/null"
        );
        eventually(founder, &verify)?;
    }
    worker.run(THEFT)?;
    eventually(
        founder,
        "edgeboot status | grep 'left to you: theft of jworker: 10.77.0.11 is no name or address of the Node jworker'",
    )?;
    let said = founder.run("journalctl -u edgeboot-approve.service --no-pager | grep -c 'theft of jworker: left'")?;
    ensure!(said.trim() == "1", "the journal says it {said} times");
    let conditions = founder.kubectl("get csr theft -o jsonpath={.status}")?;
    ensure!(conditions == "{}" || conditions.is_empty(), "the theft was decided: {conditions}");
    let exposure = founder.run("systemd-analyze security --no-pager edgeboot-approve.service | tail -n 1")?;
    ensure!(exposure.contains(" OK ") || exposure.contains("SAFE"), "{exposure}");
    for trespass in TRESPASSES {
        let output = worker.attempt(&format!("kubectl --kubeconfig /etc/kubernetes/kubelet.conf {trespass}"))?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(!output.status.success() && said.contains("orbidden"), "a node may `{trespass}`: {said}");
    }
    Ok(())
}

/// Repeats a command that must succeed in the end.
fn eventually(machine: &Machine, command: &str) -> Result<()> {
    let started = Instant::now();
    loop {
        let output = machine.attempt(command)?;
        if output.status.success() {
            return Ok(());
        }
        let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        ensure!(started.elapsed() < LIMIT, "`{command}` did not succeed: {said}\n{}", machine.kubectl("get csr")?);
        std::thread::sleep(Duration::from_millis(500));
    }
}
