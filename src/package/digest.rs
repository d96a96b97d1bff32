//! SHA-256 digests as OCI writes them, and readers that hash what passes. aws-lc's SHA-256 is used because it takes the processor's
//! instructions where there are any, and its hand-written code where there are none.

use std::fmt;
use std::io::{self, Read, Write};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::problem::Problem;

/// `sha256:<64 lower case hex digits>`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(String);

impl Digest {
    /// The digest of these bytes.
    pub fn of(bytes: &[u8]) -> Digest {
        let mut hasher = Hasher::new();
        hasher.update(bytes);
        hasher.finish()
    }
    /// The hex digits alone: the name of a blob in a layout.
    pub fn hex(&self) -> &str {
        &self.0
    }
    /// Where the blob lies in a layout.
    pub fn blob_path(&self) -> String {
        format!("blobs/sha256/{}", self.0)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.0)
    }
}

impl FromStr for Digest {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let digits = text.strip_prefix("sha256:").unwrap_or_default();
        let plain = digits.len() == 64 && digits.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
        if plain { Ok(Digest(digits.to_owned())) } else { Err(format!("'{text}' is not a digest such as sha256:<64 hex digits>")) }
    }
}

impl TryFrom<String> for Digest {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> String {
        digest.to_string()
    }
}

/// Hashes bytes as they come.
#[derive(Clone)]
pub struct Hasher(aws_lc_rs::digest::Context);

impl fmt::Debug for Hasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hasher")
    }
}

impl Default for Hasher {
    fn default() -> Self {
        Hasher::new()
    }
}

impl Hasher {
    /// Nothing hashed yet.
    pub fn new() -> Hasher {
        Hasher(aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256))
    }
    /// More bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }
    /// The digest of all bytes.
    pub fn finish(self) -> Digest {
        Digest(hex::encode(self.0.finish()))
    }
}

/// Copies everything, in pieces that are large enough for hashing and for the disk.
pub fn pump(mut from: impl Read, to: &mut (impl Write + ?Sized)) -> io::Result<u64> {
    let mut buffer = vec![0; 256 << 10];
    let mut total = 0;
    loop {
        let count = from.read(&mut buffer)?;
        if count == 0 {
            return Ok(total);
        }
        to.write_all(&buffer[..count])?;
        total += count as u64;
    }
}

/// Hashes and counts what is read through it.
#[derive(Debug)]
pub struct Hashing<R> {
    inner: R,
    hasher: Hasher,
    len: u64,
}

impl<R: Read> Hashing<R> {
    /// Around this reader.
    pub fn new(inner: R) -> Hashing<R> {
        Hashing { inner, hasher: Hasher::new(), len: 0 }
    }
    /// Digest and length of what was read.
    pub fn finish(self) -> (Digest, u64) {
        (self.hasher.finish(), self.len)
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..count]);
        self.len += count as u64;
        Ok(count)
    }
}

/// Reads exactly what was declared: whoever reads to the end has read `size` bytes with that digest, or got an error that names what
/// is wrong. Nothing may be used before the end was reached.
pub struct Verified<R> {
    inner: Hashing<R>,
    digest: Digest,
    size: u64,
    what: String,
    verdict: bool,
}

impl<R> fmt::Debug for Verified<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Verified({} {})", self.what, self.digest)
    }
}

impl<R: Read> Verified<R> {
    /// Around this reader, which shall give `size` bytes with this digest; `what` is its name in errors.
    pub fn new(inner: R, digest: Digest, size: u64, what: impl Into<String>) -> Verified<R> {
        Verified { inner: Hashing::new(inner), digest, size, what: what.into(), verdict: false }
    }

    fn judge(&mut self) -> io::Result<()> {
        if self.verdict {
            return Ok(());
        }
        let what = self.what.clone();
        if self.inner.len < self.size {
            return Err(Problem::CutShort { what, found: self.inner.len, declared: self.size }.into());
        }
        let found = self.inner.hasher.clone().finish();
        if found != self.digest {
            return Err(Problem::Damaged { what, declared: self.digest.clone(), found }.into());
        }
        self.verdict = true;
        Ok(())
    }
}

impl<R: Read> Read for Verified<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let count = self.inner.read(buffer)?;
        if count == 0 {
            self.judge()?;
        } else if self.inner.len > self.size {
            return Err(Problem::TooLong { what: self.what.clone(), declared: self.size }.into());
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(content: &[u8], digest: &Digest, size: u64) -> Result<Vec<u8>, String> {
        let mut bytes = Vec::new();
        match Verified::new(content, digest.clone(), size, "a blob").read_to_end(&mut bytes) {
            Ok(_) => Ok(bytes),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn a_blob_is_what_it_was_declared_or_an_error_that_says_how_it_differs() {
        let digest = Digest::of(b"content");
        assert_eq!(read(b"content", &digest, 7).expect("as declared"), b"content");
        for (content, says) in
            [(&b"cOntent"[..], "is damaged"), (b"cont", "is cut short: 4 of 7 bytes"), (b"content!", "is longer than")]
        {
            let error = read(content, &digest, 7).expect_err("differs");
            assert!(error.starts_with("a blob ") && error.contains(says), "{error}");
        }
    }

    #[test]
    fn only_sha256_in_lower_case_is_a_digest() {
        let good = Digest::of(b"").to_string();
        assert_eq!(good, "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        assert_eq!(good.parse::<Digest>().expect("a digest").to_string(), good);
        let upper = good.to_uppercase();
        for wrong in ["", "sha256:", "sha512:00", &good[..70], &upper, "sha256:../../../etc/passwd"] {
            assert!(wrong.parse::<Digest>().is_err(), "{wrong}");
        }
    }
}
