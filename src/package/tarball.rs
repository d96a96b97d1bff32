//! Where the entries of a tar lie: its headers are read once, its content is read by seeking. What is odd (devices, sparse files, a
//! missing end) is refused.

use std::collections::BTreeMap;
use std::io::{Read, Seek, SeekFrom};

use tar::EntryType;

use crate::host::root::ReadFile;

use super::MAX_ENTRIES;
use super::problem::{Problem, problem_of};

/// A tar ends with two blocks of zeros.
const TRAILER: u64 = 1024;

/// Where the content of an entry lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// From the start of the tar.
    pub offset: u64,
    /// Its length.
    pub size: u64,
}

/// The entries of a tar, by name.
#[derive(Debug, Clone, Default)]
pub struct Tarball {
    /// Regular files.
    pub files: BTreeMap<String, Extent>,
    /// Symbolic and hard links, with what they name.
    pub links: BTreeMap<String, String>,
}

impl Tarball {
    /// Reads the headers; `what` is the tar's name in errors.
    pub fn index(mut file: Box<dyn ReadFile>, what: &str) -> Result<Tarball, Problem> {
        let malformed = |why: String| Problem::Malformed { what: what.to_owned(), why };
        let length = file.seek(SeekFrom::End(0)).map_err(|error| problem_of(&error, what))?;
        file.rewind().map_err(|error| problem_of(&error, what))?;
        refuse_compressed(&mut file, what)?;
        let mut tarball = Tarball::default();
        let mut end = 0;
        let mut archive = tar::Archive::new(file);
        for (count, entry) in archive.entries_with_seek().map_err(|error| problem_of(&error, what))?.enumerate() {
            if count >= MAX_ENTRIES {
                return Err(Problem::OverLimit { what: format!("the number of entries of {what}"), limit: MAX_ENTRIES as u64 });
            }
            let entry = entry.map_err(|error| malformed(format!("it is cut short or no tar: {error}")))?;
            let name = plain_name(&entry).map_err(&malformed)?;
            let extent = Extent { offset: entry.raw_file_position(), size: entry.size() };
            end = extent.offset.saturating_add(extent.size.next_multiple_of(512));
            if end > length {
                return Err(Problem::CutShort { what: what.to_owned(), found: length, declared: end });
            }
            tarball.add(&name, extent, &entry).map_err(malformed)?;
        }
        if tarball.files.is_empty() {
            return Err(malformed("it is no tar, or empty".to_owned()));
        }
        if end + TRAILER > length {
            return Err(Problem::CutShort { what: what.to_owned(), found: length, declared: end + TRAILER });
        }
        Ok(tarball)
    }

    fn add<R: Read>(&mut self, name: &str, extent: Extent, entry: &tar::Entry<'_, R>) -> Result<(), String> {
        let twice = match entry.header().entry_type() {
            EntryType::Directory | EntryType::XGlobalHeader => false,
            EntryType::Regular | EntryType::Continuous => self.files.insert(name.to_owned(), extent).is_some(),
            EntryType::Symlink | EntryType::Link => {
                let target = entry.link_name_bytes().ok_or_else(|| format!("the link '{name}' has no target"))?;
                let target = String::from_utf8(target.into_owned()).map_err(|_| format!("the link '{name}' is not UTF-8"))?;
                let hard = entry.header().entry_type() == EntryType::Link;
                let target = if hard { target } else { beside(name, &target) };
                self.links.insert(name.to_owned(), target).is_some()
            }
            other => return Err(format!("'{name}' is of a kind that is not accepted ({other:?})")),
        };
        if twice { Err(format!("'{name}' is there twice")) } else { Ok(()) }
    }

    /// Where a file's content lies, through links of the tar.
    pub fn find(&self, name: &str) -> Option<Extent> {
        let mut name = name;
        // A chain longer than the number of links is a ring.
        for _ in 0..=self.links.len() {
            match (self.files.get(name), self.links.get(name)) {
                (Some(extent), _) => return Some(*extent),
                (None, Some(target)) => name = target,
                (None, None) => return None,
            }
        }
        None
    }
}

/// The target of a symbolic link, as a name of the same tar.
fn beside(name: &str, target: &str) -> String {
    let mut parts: Vec<&str> = name.split('/').collect();
    parts.pop();
    for component in target.split('/') {
        match component {
            "" | "." => {}
            ".." => drop(parts.pop()),
            component => parts.push(component),
        }
    }
    parts.join("/")
}

fn plain_name<R: Read>(entry: &tar::Entry<'_, R>) -> Result<String, String> {
    let name = String::from_utf8(entry.path_bytes().into_owned()).map_err(|_| "a name in it is not UTF-8".to_owned())?;
    Ok(name.trim_start_matches("./").trim_end_matches('/').to_owned())
}

fn refuse_compressed(file: &mut Box<dyn ReadFile>, what: &str) -> Result<(), Problem> {
    let mut start = Vec::with_capacity(4);
    file.by_ref().take(4).read_to_end(&mut start).map_err(|error| problem_of(&error, what))?;
    file.rewind().map_err(|error| problem_of(&error, what))?;
    let packer = match start.as_slice() {
        [0x1f, 0x8b, ..] => "gzip",
        [0x28, 0xb5, 0x2f, 0xfd] => "zstd",
        [0xfd, b'7', b'z', b'X'] => "xz",
        _ => return Ok(()),
    };
    Err(Problem::Malformed { what: what.to_owned(), why: format!("it is compressed with {packer}, unpack it first") })
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    fn tar_of(entries: &[(&str, EntryType, &[u8], &str)]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, kind, content, link) in entries {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(*kind);
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            if link.is_empty() {
                builder.append_data(&mut header, name, *content).expect("in memory");
            } else {
                builder.append_link(&mut header, name, link).expect("in memory");
            }
        }
        builder.into_inner().expect("in memory")
    }

    fn index(bytes: Vec<u8>) -> Result<Tarball, Problem> {
        Tarball::index(Box::new(Cursor::new(bytes)), "x.tar")
    }

    #[test]
    fn content_is_found_by_name_and_through_links() {
        let long = "d/".repeat(80) + "long";
        let bytes = tar_of(&[
            ("./a", EntryType::Regular, b"first", ""),
            ("d", EntryType::Directory, b"", ""),
            (&long, EntryType::Regular, b"deep", ""),
            ("d/l", EntryType::Symlink, b"", "../a"),
            ("h", EntryType::Link, b"", "d/l"),
            ("ring", EntryType::Symlink, b"", "ring"),
        ]);
        let tarball = index(bytes.clone()).expect("a tar");
        for (name, content) in [("a", "first"), ("d/l", "first"), ("h", "first"), (long.as_str(), "deep")] {
            let extent = tarball.find(name).expect(name);
            let start = usize::try_from(extent.offset).expect("small");
            assert_eq!(&bytes[start..start + usize::try_from(extent.size).expect("small")], content.as_bytes());
        }
        assert_eq!(tarball.find("ring"), None);
    }

    #[test]
    fn what_is_odd_is_refused_by_name() {
        let good = tar_of(&[("a", EntryType::Regular, &[7; 2000], "")]);
        for (bytes, says) in [
            (Vec::new(), "no tar, or empty"),
            (b"garbage".repeat(100), "cut short or no tar"),
            (good[..good.len() - 700].to_vec(), "is cut short"),
            (good[..1500].to_vec(), "is cut short"),
            (vec![0x1f, 0x8b, 8, 0], "compressed with gzip"),
            (tar_of(&[("a", EntryType::Regular, b"1", ""), ("a", EntryType::Regular, b"2", "")]), "'a' is there twice"),
            (tar_of(&[("dev", EntryType::Char, b"", "")]), "not accepted"),
        ] {
            let error = index(bytes).expect_err(says).to_string();
            assert!(error.starts_with("x.tar ") && error.contains(says), "{says}: {error}");
        }
    }
}
