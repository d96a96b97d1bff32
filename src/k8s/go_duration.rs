//! Durations as Go writes and reads them (`time.Duration.String`, `time.ParseDuration`): `1h0m0s`, `4m0s`, `1.5s`, `100ms`. Kubernetes'
//! configuration files hold them in this form.

use std::time::Duration;

const UNITS: [(&str, u128); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// What Go's `ParseDuration` reads from `text`; `None` where it refuses, and for negative durations, which mean nothing here.
pub fn parse(text: &str) -> Option<Duration> {
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest == "0" {
        return Some(Duration::ZERO);
    }
    let mut nanoseconds: u128 = 0;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let number = &rest[..rest.find(|c: char| c != '.' && !c.is_ascii_digit())?];
        rest = &rest[number.len()..];
        let unit = &rest[..rest.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(rest.len())];
        rest = &rest[unit.len()..];
        let scale = UNITS.iter().find(|(name, _)| *name == unit)?.1;
        nanoseconds = nanoseconds.checked_add(scaled(number, scale)?)?;
    }
    // Go's durations are signed 64 bit numbers.
    let nanoseconds = i64::try_from(nanoseconds).ok()?;
    Some(Duration::from_nanos(nanoseconds.unsigned_abs()))
}

fn scaled(number: &str, scale: u128) -> Option<u128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let whole: u128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let mut sum = whole.checked_mul(scale)?;
    let mut place = scale;
    for digit in fraction.chars() {
        place /= 10;
        sum += u128::from(digit.to_digit(10)?) * place;
    }
    Some(sum)
}

/// `duration` as Go's `Duration.String` writes it.
pub fn text(duration: Duration) -> String {
    let nanoseconds = duration.as_nanos();
    if nanoseconds == 0 {
        return "0s".to_owned();
    }
    for (name, scale) in [("ns", 1), ("µs", 1_000), ("ms", 1_000_000)] {
        if nanoseconds < scale * 1_000 {
            return with_fraction(nanoseconds, scale) + name;
        }
    }
    let (hours, minutes) = (duration.as_secs() / 3600, duration.as_secs() / 60 % 60);
    let seconds = with_fraction(nanoseconds % 60_000_000_000, 1_000_000_000);
    match (hours, minutes) {
        (0, 0) => format!("{seconds}s"),
        (0, minutes) => format!("{minutes}m{seconds}s"),
        (hours, minutes) => format!("{hours}h{minutes}m{seconds}s"),
    }
}

fn with_fraction(value: u128, scale: u128) -> String {
    let digits = scale.ilog10() as usize;
    let fraction = format!("{:0digits$}", value % scale);
    match fraction.trim_end_matches('0') {
        "" => (value / scale).to_string(),
        fraction => format!("{}.{fraction}", value / scale),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_and_written_as_go_does() {
        for (given, written) in [
            ("8760h", "8760h0m0s"),
            ("4m", "4m0s"),
            ("90s", "1m30s"),
            ("1.5h", "1h30m0s"),
            ("1h0m0.25s", "1h0m0.25s"),
            ("100ms", "100ms"),
            ("1500us", "1.5ms"),
            ("15µs", "15µs"),
            ("999ns", "999ns"),
            (".5s", "500ms"),
            ("0", "0s"),
            ("0s", "0s"),
            ("+2m", "2m0s"),
        ] {
            assert_eq!(text(parse(given).expect(given)), written, "{given}");
        }
        for wrong in ["", "5", "h", "1d", "-1s", "1.2.3s", "1 s", ".s", "9999999999h"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }
}
