//! Feeding an archive to `ctr images import`: one of the two programs that edgeboot starts itself. The archive is a stream that may
//! fail on its way (a damaged blob); then `ctr` is killed before it can see an end, and keeps nothing.

use std::fs::File;
use std::io::{self, Read, Write};
use std::process::Stdio;
use std::time::{Duration, Instant};

use tokio::io::AsyncReadExt;
use tokio::process::{Child, Command};

use crate::error::{Error, Result};

use super::super::{Deadline, Utf8Path};
use super::grpc::NAMESPACE;
use super::{PINNED, PINNED_VALUE, Socket};

/// How much of what `ctr` says is shown.
const TAIL: usize = 2048;

/// Runs the import; it ends, at the latest, with the deadline, and `ctr` with it.
pub async fn import(socket: &Socket, ctr: &Utf8Path, archive: Box<dyn Read + Send>, deadline: &Deadline) -> Result<()> {
    let mut child = start(socket, ctr)?;
    let (stdin, stderr) = (child.stdin.take(), child.stderr.take());
    let (Some(stdin), Some(mut stderr)) = (stdin, stderr) else {
        return Err(Error::internal(format!("starting {ctr}")).because("it has no pipes"));
    };
    let stdin = stdin.into_owned_fd().map(File::from).map_err(|error| Error::host(format!("feeding {ctr}")).because(error))?;
    let work = async {
        let feeding = tokio::task::spawn_blocking(move || feed(archive, stdin));
        let saying = async {
            let mut said = Vec::new();
            // What it says is only for the message; a pipe that breaks loses no more than that.
            let _ = stderr.read_to_end(&mut said).await;
            said
        };
        let (fed, said) = tokio::join!(async { settle(feeding.await, &mut child).await }, saying);
        fed?;
        finish(ctr, &mut child, &said).await
    };
    // On time-out the future is dropped and with it the child, which is killed.
    deadline.bound(work).await?
}

/// With `--local` the layers go through the diff service, which honours `--sync-fs`; containerd's transfer service does not, and took
/// nearly twice as long where both were measured. The image's record appears before its layers are unpacked: a power cut between the
/// two is healed by the CRI plugin, which unpacks on demand.
fn start(socket: &Socket, ctr: &Utf8Path) -> Result<Child> {
    let label = format!("{PINNED}={PINNED_VALUE}");
    Command::new(ctr.as_std_path())
        .args(["--address", socket.0.as_str(), "--namespace", NAMESPACE, "images", "import"])
        .args(["--local", "--sync-fs", "--label", &label, "-"])
        // Nothing of ours is its business, least of all NOTIFY_SOCKET and the credentials' directory.
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| Error::host(format!("starting {ctr}")).because(error))
}

/// How feeding went. The pipe is still open when the archive failed: it must not end before `ctr` is dead.
enum Fed {
    Whole,
    ArchiveFailed(io::Error, File),
    PipeBroke,
}

fn feed(mut archive: Box<dyn Read + Send>, mut pipe: File) -> Fed {
    let mut buffer = vec![0; 256 << 10];
    loop {
        match archive.read(&mut buffer) {
            Ok(0) => return Fed::Whole,
            Ok(count) => {
                if pipe.write_all(&buffer[..count]).is_err() {
                    return Fed::PipeBroke;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Fed::ArchiveFailed(error, pipe),
        }
    }
}

/// Kills `ctr` when the archive failed, before the pipe is closed.
async fn settle(fed: Result<Fed, tokio::task::JoinError>, child: &mut Child) -> Result<()> {
    match fed {
        Ok(Fed::Whole | Fed::PipeBroke) => Ok(()),
        Ok(Fed::ArchiveFailed(error, pipe)) => {
            // It may have ended already: then there is nothing to kill.
            let _ = child.kill().await;
            drop(pipe);
            Err(Error::host("reading the images to import").because(error))
        }
        Err(error) => Err(Error::internal("feeding images to ctr").because(error)),
    }
}

async fn finish(ctr: &Utf8Path, child: &mut Child, said: &[u8]) -> Result<()> {
    let doing = || Error::host(format!("importing images with {ctr}"));
    let status = child.wait().await.map_err(|error| doing().because(error))?;
    if status.success() {
        return Ok(());
    }
    let tail = String::from_utf8_lossy(&said[said.len().saturating_sub(TAIL)..]);
    let said = tail.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ");
    Err(doing().because(if said.is_empty() { status.to_string() } else { format!("{said} ({status})") }))
}

/// A stream that gives at most so many bytes a second: what is not urgent leaves the disk to etcd.
#[derive(Debug)]
pub struct Paced<R> {
    inner: R,
    rate: u64,
    since: Option<Instant>,
    given: u64,
}

impl<R: Read> Paced<R> {
    /// Around this stream, with this many bytes a second.
    pub fn new(inner: R, rate: u64) -> Paced<R> {
        Paced { inner, rate, since: None, given: 0 }
    }
}

impl<R: Read> Read for Paced<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let since = *self.since.get_or_insert_with(Instant::now);
        let due = Duration::from_millis(self.given.saturating_mul(1000) / self.rate.max(1));
        // The thread is one of its own (`spawn_blocking`); it wakes often enough for its reader to go away meanwhile.
        std::thread::sleep(due.saturating_sub(since.elapsed()));
        let count = self.inner.read(buffer)?;
        self.given += count as u64;
        Ok(count)
    }
}
