//! PEM as Go's `encoding/pem` writes it, and the blocks of a file as it reads them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use x509_parser::pem::Pem;
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

/// The whole blocks of a file, in order, up to the first torn one; text around them is passed over.
pub(super) fn blocks(bytes: &[u8]) -> Vec<Pem> {
    Pem::iter_from_buffer(bytes).map_while(Result::ok).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_found_between_other_text_and_a_torn_one_ends_the_list() {
        let one = encode("CERTIFICATE", &[1; 100]);
        let two = encode("EC PRIVATE KEY", &[2; 3]);
        let read = blocks(format!("a comment\n{one}\n{two}").as_bytes());
        assert_eq!(read.iter().map(|block| block.label.as_str()).collect::<Vec<_>>(), ["CERTIFICATE", "EC PRIVATE KEY"]);
        assert_eq!(read[0].contents, [1; 100]);
        assert_eq!(blocks(format!("{one}{}", &two[..two.len() / 2]).as_bytes()).len(), 1);
        assert!(blocks(b"").is_empty());
        assert!(blocks(&[0; 512]).is_empty());
    }
}
