//! Figures for people.

use std::time::Duration;

/// Bytes in powers of 1,000, as disks and networks count.
pub fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["kB", "MB", "GB", "TB"];
    if bytes < 1000 {
        return format!("{bytes} B");
    }
    // Exact enough: one digit behind the point is shown.
    #[allow(clippy::cast_precision_loss, reason = "one digit behind the point is shown")]
    let mut value = bytes as f64 / 1000.0;
    let mut unit = 0;
    // 999.95 would be written as 1000.0.
    while value >= 999.95 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// A time that nobody needs to the second once it is long.
pub fn time(time: Duration) -> String {
    match time.as_secs() {
        0 => format!("{} ms", time.as_millis()),
        s @ 1..60 => format!("{s} s"),
        s @ 60..3600 => format!("{} min {} s", s / 60, s % 60),
        s => format!("{} h {} min", s / 3600, s % 3600 / 60),
    }
}

/// A time that is only guessed, always short enough to stand at the end of a line.
pub fn about(time: Duration) -> String {
    match time.as_secs() {
        s @ 0..60 => format!("{s} s"),
        s @ 60..3600 => format!("{} min", s / 60),
        s @ 3600..360_000 => format!("{} h", s / 3600),
        _ => "days".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_the_unit_that_suits_them() {
        for (n, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (999_949, "999.9 kB"),
            (999_999, "1.0 MB"),
            (84_012_345, "84.0 MB"),
            (13_500_000_000, "13.5 GB"),
            (u64::MAX, "18446744.1 TB"),
        ] {
            assert_eq!(bytes(n), text);
        }
        for (ms, text) in
            [(0, "0 ms"), (940, "940 ms"), (4200, "4 s"), (200_000, "3 min 20 s"), (7_500_000, "2 h 5 min")]
        {
            assert_eq!(time(Duration::from_millis(ms)), text);
        }
        for (seconds, text) in
            [(0, "0 s"), (59, "59 s"), (61, "1 min"), (3599, "59 min"), (7200, "2 h"), (u64::MAX, "days")]
        {
            assert_eq!(about(Duration::from_secs(seconds)), text);
        }
    }
}
