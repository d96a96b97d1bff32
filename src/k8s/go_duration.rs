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

/// How long it is until something, in one unit, as kubeadm's lists say it (`duration.ShortHumanDuration`).
pub fn short(seconds: i64) -> String {
    let (minutes, hours) = (seconds / 60, seconds / 3600);
    match seconds {
        ..-1 => "<invalid>".to_owned(),
        -1 => "0s".to_owned(),
        _ if seconds < 60 => format!("{seconds}s"),
        _ if minutes < 60 => format!("{minutes}m"),
        _ if hours < 24 => format!("{hours}h"),
        _ if hours < 24 * 365 => format!("{}d", hours / 24),
        _ => format!("{}y", hours / 24 / 365),
    }
}

/// The same with two or three digits of it (`duration.HumanDuration`).
pub fn human(seconds: i64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 3600 / 24);
    let both = |large: i64, unit: &str, small: i64, lesser: &str| match small {
        0 => format!("{large}{unit}"),
        _ => format!("{large}{unit}{small}{lesser}"),
    };
    match seconds {
        ..0 => short(seconds),
        _ if seconds < 60 * 2 => format!("{seconds}s"),
        _ if minutes < 10 => both(minutes, "m", seconds % 60, "s"),
        _ if minutes < 60 * 3 => format!("{minutes}m"),
        _ if hours < 8 => both(hours, "h", minutes % 60, "m"),
        _ if hours < 48 => format!("{hours}h"),
        _ if days < 8 => both(days, "d", hours % 24, "h"),
        _ if days < 365 * 2 => format!("{days}d"),
        _ if days < 365 * 8 => both(days / 365, "y", days % 365, "d"),
        _ => format!("{}y", days / 365),
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

    /// What `k8s.io/apimachinery/pkg/util/duration` v0.36 says.
    #[test]
    fn people_are_told_in_kubernetes_words() {
        const HOUR: i64 = 3600;
        const DAY: i64 = 24 * HOUR;
        for (seconds, short_text, human_text) in [
            (-2, "<invalid>", "<invalid>"),
            (-1, "0s", "0s"),
            (0, "0s", "0s"),
            (59, "59s", "59s"),
            (119, "1m", "119s"),
            (120, "2m", "2m"),
            (125, "2m", "2m5s"),
            (11 * 60, "11m", "11m"),
            (3 * HOUR, "3h", "3h"),
            (3 * HOUR + 300, "3h", "3h5m"),
            (23 * HOUR + 59 * 60, "23h", "23h"),
            (47 * HOUR, "1d", "47h"),
            (2 * DAY, "2d", "2d"),
            (3 * DAY + HOUR, "3d", "3d1h"),
            (364 * DAY, "364d", "364d"),
            (365 * DAY, "1y", "365d"),
            (3 * 365 * DAY, "3y", "3y"),
            (3 * 365 * DAY + DAY, "3y", "3y1d"),
            (9 * 365 * DAY + DAY, "9y", "9y"),
        ] {
            assert_eq!((short(seconds).as_str(), human(seconds).as_str()), (short_text, human_text), "{seconds}");
        }
    }
}
