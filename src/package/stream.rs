//! An OCI archive of some of a package's images, made as it is read: nothing is copied to the disk first. Every blob is there once
//! and verified on its way; a damaged one makes the stream fail before its end, so that whoever imports it keeps nothing.

use std::collections::{BTreeSet, VecDeque};
use std::io::{self, Cursor, Read};

use crate::error::Result;

use super::build::plain_header;
use super::digest::Digest;
use super::layout::{Layout, Package, PackagedImage, once};
use super::model::{self, Descriptor, Index};

/// An entry of the archive that is still to come.
enum Part {
    Document(&'static str, Vec<u8>),
    Blob(Descriptor, String),
}

/// The archive.
pub struct ImageStream {
    layout: Layout,
    parts: VecDeque<Part>,
    current: Option<Box<dyn Read + Send>>,
    failed: Option<String>,
    size: u64,
}

impl std::fmt::Debug for ImageStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ImageStream({}, {} entries to come)", self.layout.path(), self.parts.len())
    }
}

impl ImageStream {
    /// An archive of these images, without the blobs that the receiver has already.
    pub fn of(package: &Package, images: &[PackagedImage], present: &BTreeSet<Digest>) -> Result<ImageStream> {
        let index = Index {
            schema_version: 2,
            media_type: model::INDEX_MEDIA_TYPE.to_owned(),
            manifests: images.iter().map(|image| image.descriptor.clone()).collect(),
        };
        let mut parts = VecDeque::from([
            Part::Document("oci-layout", model::OCI_LAYOUT.as_bytes().to_vec()),
            Part::Document("index.json", model::render(&index)),
        ]);
        let mut blobs = Vec::new();
        for image in images {
            blobs.extend(package.image_blobs(image)?);
        }
        let blobs: Vec<Descriptor> = once(blobs).into_iter().filter(|blob| !present.contains(&blob.digest)).collect();
        let size = blobs.iter().map(|blob| blob.size).sum();
        let names = images.iter().map(|image| image.name.as_str()).collect::<Vec<_>>().join(", ");
        parts.extend(blobs.into_iter().map(|blob| Part::Blob(blob, format!("a blob of {names}"))));
        Ok(ImageStream { layout: package.layout.clone(), parts, current: None, failed: None, size })
    }

    /// The bytes of the blobs in it.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The next entry, or the two blocks that end an archive.
    fn next(&mut self) -> io::Result<Option<Box<dyn Read + Send>>> {
        let (name, size, content): (String, u64, Box<dyn Read + Send>) = match self.parts.pop_front() {
            None => return Ok(None),
            Some(Part::Document(name, bytes)) => (name.to_owned(), bytes.len() as u64, Box::new(Cursor::new(bytes))),
            Some(Part::Blob(blob, what)) => {
                let content = self.layout.blob(&blob, &what).map_err(io::Error::other)?;
                (blob.digest.blob_path(), blob.size, Box::new(content))
            }
        };
        let mut header = plain_header(size);
        header.set_path(&name)?;
        header.set_cksum();
        let padding = io::repeat(0).take(size.next_multiple_of(512) - size);
        let end = io::repeat(0).take(if self.parts.is_empty() { 1024 } else { 0 });
        Ok(Some(Box::new(Cursor::new(header.as_bytes().to_vec()).chain(content).chain(padding).chain(end))))
    }

    fn read_on(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if self.current.is_none() {
                self.current = self.next()?;
            }
            let Some(current) = &mut self.current else { return Ok(0) };
            match current.read(buffer)? {
                0 => self.current = None,
                count => return Ok(count),
            }
        }
    }
}

impl Read for ImageStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        // Once failed, always failed: a reader that tries again must not get an end.
        if let Some(failure) = &self.failed {
            return Err(io::Error::other(failure.clone()));
        }
        self.read_on(buffer).inspect_err(|error| self.failed = Some(error.to_string()))
    }
}
