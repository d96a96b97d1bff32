//! PEM as Go's `encoding/pem` writes it, and the blocks of a file as it reads them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

/// One block with lines of 64 characters.
pub(super) fn encode(label: &str, der: &[u8]) -> String {
    let base64 = Zeroizing::new(STANDARD.encode(der));
    // Its size is known, so that no piece of a key is left behind where the text grew.
    let mut text = String::with_capacity(base64.len() + base64.len() / 64 + 2 * label.len() + 40);
    text.extend(["-----BEGIN ", label, "-----\n"]);
    let mut rest = base64.as_str();
    while !rest.is_empty() {
        let (line, next) = rest.split_at(rest.len().min(64));
        text.extend([line, "\n"]);
        rest = next;
    }
    text.extend(["-----END ", label, "-----\n"]);
    text
}

/// One block of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Block {
    pub(super) label: String,
    pub(super) contents: Zeroizing<Vec<u8>>,
}

/// The whole blocks of a file, in order; text around them and torn blocks are passed over. As strict as Go is: a block ends with its
/// own label and all five dashes, or Kubernetes would not read what we call whole.
pub(super) fn blocks(bytes: &[u8]) -> Vec<Block> {
    let text = String::from_utf8_lossy(bytes);
    let mut blocks = Vec::new();
    let mut open: Option<(&str, Zeroizing<String>)> = None;
    for line in text.lines().map(str::trim_end) {
        if let Some(label) = line.strip_prefix("-----BEGIN ").and_then(|line| line.strip_suffix("-----")) {
            open = Some((label, Zeroizing::new(String::with_capacity(bytes.len()))));
        } else if let Some(label) = line.strip_prefix("-----END ").and_then(|line| line.strip_suffix("-----")) {
            let closed = open.take().filter(|(opened, _)| *opened == label);
            blocks.extend(closed.and_then(|(_, base64)| block(label, &base64)));
        } else if let Some((_, base64)) = &mut open {
            base64.push_str(line.trim_start());
        }
    }
    blocks
}

fn block(label: &str, base64: &str) -> Option<Block> {
    let contents = Zeroizing::new(STANDARD.decode(base64).ok()?);
    Some(Block { label: label.to_owned(), contents })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_blocks_are_found_between_other_text() {
        let one = encode("CERTIFICATE", &[1; 100]);
        let two = encode("EC PRIVATE KEY", &[2; 3]);
        let read = blocks(format!("a comment\n{one}\n{two}").as_bytes());
        assert_eq!(read.iter().map(|block| block.label.as_str()).collect::<Vec<_>>(), ["CERTIFICATE", "EC PRIVATE KEY"]);
        assert_eq!(*read[0].contents, [1; 100]);
        assert_eq!(blocks(format!("{}\n{one}", &two[..two.len() / 2]).as_bytes()), read[..1]);
        for cut in 0..one.len() - 1 {
            assert!(blocks(&one.as_bytes()[..cut]).is_empty(), "{cut}");
        }
        assert_eq!(blocks(one.replace('\n', "\r\n").as_bytes()), read[..1]);
        assert!(blocks(b"").is_empty());
        assert!(blocks(&[0; 512]).is_empty());
    }
}
