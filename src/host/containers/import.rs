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
#[expect(clippy::disallowed_methods, reason = "the door, and one of the two programs edgeboot starts")]
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
    #[expect(clippy::disallowed_methods, reason = "the door: a thread of its own that paces a stream")]
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

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a program that stands for ctr is put on the real files")]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::super::super::Utf8PathBuf;
    use super::*;

    /// One at a time: a program cannot be started while another test's fork still has it open for writing.
    static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

    /// A folder with a program in it that stands for `ctr`.
    struct Bench(tempfile::TempDir);

    impl Bench {
        fn with(script: &str) -> Bench {
            let folder = tempfile::tempdir().expect("a folder");
            let text = format!("#!/bin/sh\ncd {}\n{script}\n", folder.path().display());
            std::fs::write(folder.path().join("ctr"), text).expect("written");
            std::fs::set_permissions(folder.path().join("ctr"), std::fs::Permissions::from_mode(0o755)).expect("set");
            Bench(folder)
        }
        fn read(&self, name: &str) -> Option<String> {
            std::fs::read_to_string(self.0.path().join(name)).ok()
        }
        async fn import(&self, archive: impl Read + Send + 'static, limit: Duration) -> Result<()> {
            let ctr = Utf8PathBuf::from_path_buf(self.0.path().join("ctr")).expect("UTF-8");
            let deadline = Deadline::after(limit, "images to be imported");
            import(&Socket("/run/x.sock".into()), &ctr, Box::new(archive), &deadline).await
        }
    }

    /// Gives some bytes, then fails.
    struct Damaged(usize);

    impl Read for Damaged {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.0 = self.0.checked_sub(1).ok_or_else(|| io::Error::other("a blob is damaged"))?;
            buffer.fill(b'x');
            Ok(buffer.len())
        }
    }

    const AMPLE: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn ctr_gets_the_archive_and_nothing_of_our_environment() {
        let _turn = TURN.lock().await;
        let bench = Bench::with("echo \"$@\" >args; env >environment; cat >archive");
        let archive = b"content ".repeat(100_000);
        bench.import(io::Cursor::new(archive.clone()), AMPLE).await.expect("imported");
        assert_eq!(bench.read("archive").expect("read").as_bytes(), archive);
        let expected =
            "--address /run/x.sock --namespace k8s.io images import --local --sync-fs --label io.cri-containerd.pinned=pinned -\n";
        assert_eq!(bench.read("args").expect("read"), expected);
        let environment = bench.read("environment").expect("read");
        assert!(!environment.contains("HOME=") && !environment.contains("CARGO"), "{environment}");
    }

    #[tokio::test]
    async fn what_ctr_says_is_in_the_error() {
        let _turn = TURN.lock().await;
        let bench = Bench::with("echo one >&2; echo ctr: unrecognized image format >&2; exit 3");
        let error = bench.import(io::repeat(7), AMPLE).await.expect_err("failed").to_string();
        assert!(error.ends_with("one; ctr: unrecognized image format (exit status: 3)"), "{error}");
    }

    #[tokio::test]
    async fn an_archive_that_fails_ends_ctr_before_it_can_finish() {
        let _turn = TURN.lock().await;
        let bench = Bench::with("cat >archive; touch finished");
        let error = bench.import(Damaged(5), AMPLE).await.expect_err("damaged").to_string();
        assert_eq!(error, "reading the images to import: a blob is damaged");
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(bench.read("finished"), None);
    }

    #[tokio::test]
    async fn an_import_ends_with_its_deadline() {
        let _turn = TURN.lock().await;
        let bench = Bench::with("exec sleep 60");
        let error = bench.import(io::Cursor::new(vec![0; 1 << 20]), Duration::from_millis(200)).await.expect_err("late");
        assert_eq!(error.kind(), crate::error::Kind::Transient);
        assert!(error.to_string().contains("waiting for images to be imported"), "{error}");
    }

    #[test]
    fn a_paced_stream_takes_its_time() {
        let since = Instant::now();
        let mut paced = Paced::new(io::repeat(1).take(300_000), 1_000_000);
        let mut buffer = vec![0; 100_000];
        while paced.read(&mut buffer).expect("endless") > 0 {}
        let took = since.elapsed();
        assert!(took >= Duration::from_millis(290), "{took:?}");
    }
}
