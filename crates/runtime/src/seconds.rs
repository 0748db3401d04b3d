//! Times on a command line.

use std::time::Duration;

/// A time in seconds, such as `30` or `0.5`; at most a year, so that adding it to a moment cannot overflow.
///
/// # Errors
/// A text for the person who wrote it: what is expected.
pub fn seconds(text: &str) -> Result<Duration, String> {
    const YEAR: f64 = 365.0 * 86_400.0;
    let rule = || "expected seconds, such as 30 or 0.5".to_owned();
    let seconds: f64 = text.parse().map_err(|_| rule())?;
    if (0.0..=YEAR).contains(&seconds) { Ok(Duration::from_secs_f64(seconds)) } else { Err(rule()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_may_have_a_fraction_and_a_sign_is_refused() {
        assert_eq!(seconds("0.5"), Ok(Duration::from_millis(500)));
        for bad in ["", "-1", "NaN", "inf", "1e300", "5s"] {
            assert!(seconds(bad).is_err(), "{bad}");
        }
    }
}
