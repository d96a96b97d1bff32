//! Unpacking: each file is decompressed and hashed twice on its way (its blob, its content), on a few threads, and the blobs of the
//! images are hashed beside it, so that one flipped bit anywhere means that nothing is installed. The folder that is written to is
//! nobody's until the caller renames it.

use std::io::Write;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::{IoContext, Result};
use crate::host::root::{Root, Utf8Path};

use super::digest::{Hashing, pump};
use super::layout::{Package, PackageFile};
use super::model::Descriptor;
use super::paths;
use super::problem::{Problem, problem_of};

/// Files that are unpacked at the same time: unpacking is bound by the processor, and a device has few of them.
const THREADS: usize = 2;

enum Job<'a> {
    File(&'a PackageFile),
    ImageBlob(String, Descriptor),
}

impl Job<'_> {
    fn size(&self) -> u64 {
        match self {
            Job::File(file) => file.size,
            Job::ImageBlob(_, blob) => blob.size,
        }
    }
}

/// Reads the whole package and checks every digest in it.
pub fn verify(package: &Package) -> Result<()> {
    for_each(package, |file| unpack(package, file, &mut std::io::sink()))
}

/// Unpacks the node's files into `folder`, which exists and is empty, and checks every digest of the package, images too. Files,
/// links and folders are on the disk when it returns, except for the name of `folder` itself.
///
/// Each file is flushed by the thread that wrote it: its pages go to the disk while the other thread decompresses, and nothing that
/// somebody else has just written is waited for, which a flush of the whole file system would do.
pub fn extract(root: &Root, package: &Package, folder: &Utf8Path) -> Result<()> {
    let leaves = || package.files.iter().map(|file| file.path.as_str()).chain(package.links.iter().map(|link| link.path.as_str()));
    let folders = paths::folders_of(leaves());
    for inner in &folders {
        root.make_dir(folder.join(inner), 0o755)?;
    }
    for_each(package, |file| {
        let path = folder.join(&file.path);
        let mut to = root.create(&path, file.mode)?;
        unpack(package, file, &mut to)?;
        to.sync().doing(|| format!("flushing {path}"))
    })?;
    for link in &package.links {
        root.symlink(folder.join(&link.path), Utf8Path::new(&link.target))?;
    }
    // Innermost first: a folder's name is durable only after what it names.
    folders.iter().rev().try_for_each(|inner| root.sync_dir(folder.join(inner)))?;
    root.sync_dir(folder)
}

/// Runs `each` for every file, and hashes every image blob, on a few threads; the first failure ends it.
fn for_each(package: &Package, each: impl Fn(&PackageFile) -> Result<()> + Sync) -> Result<()> {
    let mut jobs: Vec<Job<'_>> = package.files.iter().map(Job::File).collect();
    jobs.extend(package.all_image_blobs()?.into_iter().map(|(image, blob)| Job::ImageBlob(image, blob)));
    // Popped from the end, the largest first: the last job decides when all are done.
    jobs.sort_by_key(Job::size);
    let queue = Mutex::new(jobs);
    let failed = AtomicBool::new(false);
    let work = || -> Result<()> {
        while !failed.load(Ordering::Relaxed) {
            let Some(job) = queue.lock().expect("no panic while it is held").pop() else { break };
            let done = match job {
                Job::File(file) => each(file),
                Job::ImageBlob(image, blob) => package.layout.verify(&blob, &format!("a blob of {image}")),
            };
            if done.is_err() {
                failed.store(true, Ordering::Relaxed);
                return done;
            }
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(work)).collect();
        // Every thread is waited for, whatever the first one says.
        let done: Vec<Result<()>> = threads.into_iter().map(|thread| thread.join().expect("no panic in it")).collect();
        done.into_iter().collect()
    })
}

/// Writes a file's content; an error when blob or content are not what was declared.
fn unpack(package: &Package, file: &PackageFile, to: &mut (impl Write + ?Sized)) -> Result<()> {
    let at = |problem: Problem| problem.at(package.layout.path());
    let what = file.path.as_str();
    let blob = package.layout.blob(&file.blob, what)?;
    let mut decoder = zstd::stream::read::Decoder::new(blob).map_err(|error| at(problem_of(&error, what)))?;
    let mut content = Hashing::new(Bounded { inner: &mut decoder, left: file.size, file });
    let written = write_all(&mut content, to);
    let (digest, size) = content.finish();
    // A flipped bit makes the decompression fail first; the blob's own digest is what names it.
    pump(decoder.get_mut(), &mut std::io::sink()).map_err(|error| at(problem_of(&error, what)))?;
    match written {
        Err(Failed::Reading(error)) => return Err(at(problem_of(&error, what))),
        Err(Failed::Writing(error)) => return Err(error).doing(|| format!("writing {what} of the package")),
        Ok(()) => {}
    }
    if size < file.size {
        return Err(at(Problem::CutShort { what: what.to_owned(), found: size, declared: file.size }));
    }
    if digest != file.digest {
        return Err(at(Problem::Damaged { what: what.to_owned(), declared: file.digest.clone(), found: digest }));
    }
    Ok(())
}

enum Failed {
    Reading(std::io::Error),
    Writing(std::io::Error),
}

/// Copies everything and tells whose failure it was: a full disk is not a damaged package.
fn write_all(from: &mut impl std::io::Read, to: &mut (impl Write + ?Sized)) -> Result<(), Failed> {
    let mut buffer = vec![0; 256 << 10];
    loop {
        let count = from.read(&mut buffer).map_err(Failed::Reading)?;
        if count == 0 {
            return to.flush().map_err(Failed::Writing);
        }
        to.write_all(&buffer[..count]).map_err(Failed::Writing)?;
    }
}

/// Ends with an error when more comes than was declared: a small blob cannot fill the disk.
struct Bounded<'a, R> {
    inner: &'a mut R,
    left: u64,
    file: &'a PackageFile,
}

impl<R: std::io::Read> std::io::Read for Bounded<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.left = self
            .left
            .checked_sub(count as u64)
            .ok_or_else(|| Problem::TooLong { what: self.file.path.clone(), declared: self.file.size })?;
        Ok(count)
    }
}
