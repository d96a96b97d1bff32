//! DER, as much of it as certificates and keys need: values in, bytes out, and a reader for the few that are taken apart.

use jiff::Timestamp;

pub(super) const BIT_STRING: u8 = 0x03;
pub(super) const OCTET_STRING: u8 = 0x04;
pub(super) const OBJECT_IDENTIFIER: u8 = 0x06;
const BOOLEAN: u8 = 0x01;
const INTEGER: u8 = 0x02;
const UTF8_STRING: u8 = 0x0c;
const PRINTABLE_STRING: u8 = 0x13;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;

/// Tag, length, content.
pub(super) fn tagged(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![tag];
    let length = content.len();
    match u8::try_from(length) {
        Ok(short) if short < 0x80 => bytes.push(short),
        _ => {
            let digits: Vec<u8> = length.to_be_bytes().into_iter().skip_while(|byte| *byte == 0).collect();
            bytes.push(0x80 | u8::try_from(digits.len()).expect("a length has at most eight bytes"));
            bytes.extend(digits);
        }
    }
    bytes.extend_from_slice(content);
    bytes
}

/// `[number] EXPLICIT`, constructed.
pub(super) fn explicit(number: u8, content: &[u8]) -> Vec<u8> {
    tagged(0xa0 | number, content)
}

/// `[number] IMPLICIT` of a primitive type.
pub(super) fn implicit(number: u8, content: &[u8]) -> Vec<u8> {
    tagged(0x80 | number, content)
}

pub(super) fn sequence(parts: &[Vec<u8>]) -> Vec<u8> {
    tagged(SEQUENCE, &parts.concat())
}

/// A set; DER sorts its members by their bytes.
pub(super) fn set_of(mut parts: Vec<Vec<u8>>) -> Vec<u8> {
    parts.sort();
    tagged(SET, &parts.concat())
}

pub(super) fn yes() -> Vec<u8> {
    tagged(BOOLEAN, &[0xff])
}

/// A number that is not negative, from its big-endian bytes.
pub(super) fn unsigned(big_endian: &[u8]) -> Vec<u8> {
    let digits: Vec<u8> = big_endian.iter().copied().skip_while(|byte| *byte == 0).collect();
    match digits.first() {
        None => tagged(INTEGER, &[0]),
        Some(first) if *first >= 0x80 => tagged(INTEGER, &[&[0][..], &digits].concat()),
        Some(_) => tagged(INTEGER, &digits),
    }
}

pub(super) fn object_identifier(arcs: &[u32]) -> Vec<u8> {
    let mut content = Vec::new();
    let first = [arcs[0] * 40 + arcs[1]];
    for arc in first.iter().chain(&arcs[2..]) {
        let groups = (0..5).rev().map(|group| (arc >> (7 * group)) & 0x7f).skip_while(|bits| *bits == 0);
        let mut groups: Vec<u8> = groups.map(|bits| u8::try_from(bits).expect("seven bits") | 0x80).collect();
        match groups.last_mut() {
            Some(last) => *last &= 0x7f,
            None => groups.push(0),
        }
        content.extend(groups);
    }
    tagged(OBJECT_IDENTIFIER, &content)
}

pub(super) fn octet_string(content: &[u8]) -> Vec<u8> {
    tagged(OCTET_STRING, content)
}

/// A bit string whose last `unused` bits do not count.
pub(super) fn bit_string(unused: u8, content: &[u8]) -> Vec<u8> {
    tagged(BIT_STRING, &[&[unused], content].concat())
}

/// Text as Go's `encoding/asn1` writes it: PrintableString where it fits, otherwise UTF8String.
pub(super) fn text(text: &str) -> Vec<u8> {
    let printable = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b" '()+,-./:=?".contains(&byte));
    tagged(if printable { PRINTABLE_STRING } else { UTF8_STRING }, text.as_bytes())
}

/// A time as RFC 5280 wants it: UTCTime before 2050, GeneralizedTime from then on.
pub(super) fn time(time: Timestamp) -> Vec<u8> {
    let year = time.strftime("%Y").to_string();
    if ("1950".."2050").contains(&year.as_str()) {
        tagged(UTC_TIME, time.strftime("%y%m%d%H%M%SZ").to_string().as_bytes())
    } else {
        tagged(GENERALIZED_TIME, time.strftime("%Y%m%d%H%M%SZ").to_string().as_bytes())
    }
}

/// Takes one value off the front: its tag, its content, and what follows it. `None` when the bytes are no whole value.
pub(super) fn read(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = bytes.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = if first < 0x80 {
        (usize::from(first), rest)
    } else {
        let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f)).filter(|(digits, _)| digits.len() <= 4)?;
        (digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit)), rest)
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_identifiers_and_lengths_are_encoded_as_x690_says() {
        assert_eq!(unsigned(&[0, 0]), [2, 1, 0]);
        assert_eq!(unsigned(&[0, 0x7f]), [2, 1, 0x7f]);
        assert_eq!(unsigned(&[0x80]), [2, 2, 0, 0x80]);
        assert_eq!(object_identifier(&[1, 2, 840, 113_549]), [6, 6, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d]);
        assert_eq!(object_identifier(&[2, 5, 29, 0]), [6, 3, 0x55, 29, 0]);
        assert_eq!(tagged(4, &[0; 127])[..2], [4, 127]);
        assert_eq!(tagged(4, &[0; 128])[..3], [4, 0x81, 128]);
        assert_eq!(tagged(4, &[0; 256])[..4], [4, 0x82, 1, 0]);
    }

    #[test]
    fn times_change_their_form_in_2050() {
        let at = |text: &str| time(text.parse().expect("a time"));
        assert_eq!(at("2026-11-21T08:41:57.9Z"), b"\x17\x0d261121084157Z");
        assert_eq!(at("2049-12-31T23:59:59Z"), b"\x17\x0d491231235959Z");
        assert_eq!(at("2050-01-01T00:00:00Z"), b"\x18\x0f20500101000000Z");
    }

    #[test]
    fn what_is_written_is_read_and_half_of_it_is_not() {
        for length in [0, 1, 127, 128, 255, 256, 70_000] {
            let content = vec![7; length];
            let bytes = octet_string(&content);
            assert_eq!(read(&bytes), Some((OCTET_STRING, &content[..], &[][..])));
            assert_eq!(read(&bytes[..bytes.len() - 1]), None, "{length}");
        }
        assert_eq!(read(&[0x30, 0x84, 0xff, 0xff, 0xff, 0xff]), None);
    }
}
