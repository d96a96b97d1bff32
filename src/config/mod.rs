//! From what users write to the wish, in one page: [`gather`] asks every source, [`Layer`]s are laid over each other low to high, the
//! documents are read, and `check` makes a [`Node`] or tells every finding at once. Only `sources` looks at the machine.

pub mod check;
pub mod document;
pub mod fetched;
pub mod fields;
pub mod findings;
pub mod forms;
pub mod kubeadm;
pub mod layer;
pub mod migrate;
pub mod node;
pub mod placeholders;
#[cfg(test)]
pub mod sample;
pub mod schema;
pub mod shown;
pub mod sources;
pub mod tree;
pub mod values;

use std::collections::BTreeMap;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::host::Root;

use document::NodeDocument;
use findings::{Finding, Findings, Level, Place, SourceId, SourceText};
use kubeadm::{ClusterDocument, InitDocument, JoinDocument};
use layer::{Kind, Layer};
use node::Node;
use placeholders::{Hidden, Which};
use secrecy::ExposeSecret as _;
use shown::Shown;
use sources::{Answer, Found, Gathered, Refusal, Sort};

/// Shorter values of credentials are no secrets; to take them out of a finding would take the finding apart.
const LEAST_SECRET: usize = 4;

/// What the sources wish.
#[derive(Debug)]
pub struct Outcome {
    /// The wish.
    pub wish: Wish,
    /// What is doubtful.
    pub warnings: Vec<Finding>,
    /// Sources of which it could not be told whether they hold something: no CA is made while there are any.
    pub failed_sources: Vec<FailedSource>,
}

/// A source that could not answer.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct FailedSource {
    /// The path.
    pub origin: String,
    /// Why.
    pub why: String,
}

/// What this machine shall be, if anything.
#[derive(Debug)]
pub enum Wish {
    /// Nobody said a role.
    Nothing {
        /// The places that were looked at.
        looked_for: Vec<String>,
        /// How long one is waited for before the boot has failed, where an image says `onMissing: {action: fail}`.
        fail_after: Option<Duration>,
    },
    /// It is to be a node.
    Node {
        /// The whole wish.
        node: Box<Node>,
        /// `dryRun` of InitConfiguration or JoinConfiguration.
        dry_run: bool,
        /// For each field that was said, where: `file:line:column`.
        origins: BTreeMap<String, String>,
    },
}

/// The wish of this machine, from all its sources. `told` is what a command was told: it takes the place of what an earlier command
/// recorded. Findings that are errors become one [`Error`] which tells them all.
pub fn load(root: &Root, told: &[Gathered]) -> Result<Outcome> {
    weigh(root, gather(root, told))
}

/// What is to be recorded of what a command was told; to be asked after [`load`] was content with it.
pub fn record(root: &Root, told: &[Gathered]) -> Result<sources::recorded::Recording> {
    let findings = Findings::default();
    let mut stream = Stream::of(told.to_vec(), &findings);
    let ask = |name: placeholders::Name<'_>| sources::facts::tell(root, name);
    let hidden = placeholders::fill_layer(&mut stream.layer, Which::Secrets, &ask, &findings);
    sources::secrets::resolve(root, &mut stream.layer, &stream.texts, &hidden, &findings)?;
    Ok(sources::recorded::record(&stream.layer))
}

/// Whether a source says, in kubeadm's words, that the machine joins as a control plane.
pub fn says_control_plane(gathered: &Gathered) -> bool {
    let stream = Stream::of(vec![gathered.clone()], &Findings::default());
    stream.layer.get(Kind::Join).is_some_and(|join| join.at(&["controlPlane"]).is_some())
}

/// Asks every source.
pub fn gather(root: &Root, told: &[Gathered]) -> Vec<Gathered> {
    let counts = |answer: &Answer| told.is_empty() || answer.source.name != sources::recorded::SOURCE.name;
    let answers = sources::survey(root).into_iter().filter(counts);
    let mut gathered: Vec<Gathered> = answers.flat_map(|answer| answer.gathered).collect();
    gathered.extend(told.iter().cloned());
    gathered
}

/// From what was gathered to the wish.
pub fn weigh(root: &Root, gathered: Vec<Gathered>) -> Result<Outcome> {
    let judged = judge(root, gathered)?;
    let errors = judged.findings.iter().filter(|finding| finding.level == Level::Error).count();
    if errors > 0 {
        return Err(failure(&judged.findings, errors));
    }
    let wish = judged.wish.ok_or_else(|| Error::internal("checking the configuration").because("neither a wish nor an error"))?;
    Ok(Outcome { wish, warnings: judged.findings, failed_sources: judged.failed_sources })
}

/// Everything that can be said about a configuration, good or bad.
#[derive(Debug)]
pub struct Judged {
    /// Errors and warnings.
    pub findings: Vec<Finding>,
    /// The wish, when there is no error.
    pub wish: Option<Wish>,
    /// Sources that could not answer.
    pub failed_sources: Vec<FailedSource>,
}

/// Reads and checks what was gathered. The error is that a credential is gone, or that the disk cannot be read.
pub fn judge(root: &Root, gathered: Vec<Gathered>) -> Result<Judged> {
    Understood::of(root, gathered).judge(root)
}

/// What was gathered, for people: every document as it was said, without its secrets, and what can be said about it.
pub fn show(root: &Root, gathered: Vec<Gathered>) -> Result<(Shown, Judged)> {
    let understood = Understood::of(root, gathered);
    let shown = Shown::of(&understood.stream.layer, &understood.stream.texts, &understood.hidden);
    Ok((shown, understood.judge(root)?))
}

/// What was gathered, laid over each other and completed from the machine.
struct Understood {
    looked_for: Vec<String>,
    stream: Stream,
    hidden: Hidden,
    findings: Findings,
}

impl Understood {
    fn of(root: &Root, gathered: Vec<Gathered>) -> Understood {
        let findings = Findings::default();
        let looked_for = looked_for(&gathered);
        let mut stream = Stream::of(gathered, &findings);
        let ask = |name: placeholders::Name<'_>| sources::facts::tell(root, name);
        let hidden = placeholders::fill_layer(&mut stream.layer, Which::All, &ask, &findings);
        Understood { looked_for, stream, hidden, findings }
    }

    fn judge(self, root: &Root) -> Result<Judged> {
        let Understood { looked_for, stream: Stream { texts, mut layer, failed_sources }, hidden, findings } = self;
        let secrets = sources::secrets::resolve(root, &mut layer, &texts, &hidden, &findings);
        // As in kubeadm, a machine that joins does not even look into what is for the one that founds.
        let founder = |kind| layer.get(kind).filter(|_| !layer.joins());
        let documents = check::Documents {
            node: NodeDocument::read(layer.get(Kind::Node), &findings),
            init: InitDocument::read(founder(Kind::Init), &findings),
            cluster: ClusterDocument::read(founder(Kind::Cluster), &findings),
            join: JoinDocument::read(layer.get(Kind::Join), &findings),
            layer: &layer,
        };
        let node = check::check(&documents, &findings);
        let dry_run = documents.machine().dry_run.as_ref().is_some_and(|at| at.value);
        let mut findings = findings.told(&texts);
        for value in &hidden.values {
            let value = value.expose_secret();
            findings.iter_mut().filter(|_| value.len() >= LEAST_SECRET).for_each(|finding| finding.hide(value));
        }
        if findings.iter().all(|finding| finding.level != Level::Error) {
            secrets?;
        }
        let wish = match node {
            check::Checked::Node(node) => Some(Wish::Node { node, dry_run, origins: shown::origins(&layer, &texts) }),
            check::Checked::Nothing => Some(Wish::Nothing { looked_for, fail_after: documents.node.fail_after() }),
            check::Checked::Wrong => None,
        };
        Ok(Judged { findings, wish, failed_sources })
    }
}

/// All sources laid over each other.
#[derive(Debug)]
struct Stream {
    texts: Vec<SourceText>,
    layer: Layer,
    failed_sources: Vec<FailedSource>,
}

impl Stream {
    fn of(gathered: Vec<Gathered>, findings: &Findings) -> Stream {
        let mut stream = Stream { texts: Vec::new(), layer: Layer::default(), failed_sources: Vec::new() };
        for Gathered { origin, found } in gathered {
            let source = SourceId(stream.texts.len());
            let limits_too_late = matches!(found, Found::Bytes { sort: Sort::Credential | Sort::CommandLine, .. });
            let documents = match found {
                Found::Absent | Found::Skipped(_) => continue,
                Found::Refused { text, refusals } => {
                    for Refusal { place, message, help } in refusals {
                        findings.error_with_help(Place { source, ..place }, message, help);
                    }
                    stream.texts.push(SourceText::of(origin, text));
                    continue;
                }
                Found::Failed(why) => {
                    stream.failed_sources.push(FailedSource { origin, why });
                    continue;
                }
                Found::Documents { text, documents } => {
                    stream.texts.push(SourceText::of(origin, text));
                    documents.into_iter().map(|tree| tree.moved_to(source)).collect()
                }
                Found::Bytes { bytes, mode, sort } => {
                    let text = String::from_utf8_lossy(&bytes).into_owned();
                    let documents = parse(source, &bytes, &text, sort, findings);
                    let when_readable = if sort == Sort::ByHand { Level::Warning } else { Level::Error };
                    let is_public = sort == Sort::CommandLine;
                    stream.texts.push(SourceText {
                        mode,
                        numbered: true,
                        is_public,
                        when_readable,
                        ..SourceText::of(origin, text)
                    });
                    documents
                }
            };
            let layer = Layer::of(documents, findings);
            if limits_too_late {
                refuse_limits(&layer, findings);
            }
            stream.layer.lay(layer);
        }
        stream
    }
}

/// Which sources are asked cannot be said by one of those that are asked.
fn refuse_limits(layer: &Layer, findings: &Findings) {
    if let Some(said) = layer.get(Kind::Node).and_then(|node| node.at(&["sources"])) {
        let help = "say it on disk, or by `edgeboot.source=` on the kernel command line";
        findings.error_with_help(said.place, "`sources` limits which sources are asked, and this one was asked already", help);
    }
}

fn parse(source: SourceId, bytes: &[u8], text: &str, sort: Sort, findings: &Findings) -> Vec<tree::Tree> {
    if bytes.len() > tree::MAX_BYTES {
        findings.error(
            Place::whole(source),
            format!("{} bytes are no configuration; at most {} are read", bytes.len(), tree::MAX_BYTES),
        );
        return Vec::new();
    }
    if std::str::from_utf8(bytes).is_err() || bytes.contains(&0) {
        findings.error(Place::whole(source), "this is not text");
        return Vec::new();
    }
    if text.trim().is_empty() && sort != Sort::DropIn {
        findings.error_with_help(Place::whole(source), "this is empty", "a whole configuration is `role: controlPlane`");
        return Vec::new();
    }
    tree::parse(source, text, findings)
}

/// The places of those sources that were asked.
fn looked_for(gathered: &[Gathered]) -> Vec<String> {
    let is_skipped = |name: &str| gathered.iter().any(|each| each.origin == name && matches!(each.found, Found::Skipped(_)));
    let asked = sources::TABLE.iter().filter(|source| !is_skipped(source.name));
    asked.flat_map(|source| source.looks_for).map(|place| (*place).to_owned()).collect()
}

/// One error that tells all findings.
pub fn failure(findings: &[Finding], errors: usize) -> Error {
    let told: Vec<String> = findings.iter().map(Finding::render).collect();
    let count = if errors == 1 { "1 error".to_owned() } else { format!("{errors} errors") };
    Error::config(format!("checking the configuration: {count}\n{}", told.join("\n")))
        .hint("correct the configuration; `edgeboot config check` looks at it without changing anything")
}
