//! How long to wait before something that failed is tried again.

use std::time::Duration;

/// How long to wait after so many failures in a row: doubling from a hundredth of `longest` up to it, and of that a random
/// part between a half and all, so that the routers of a fleet do not all come back at once.
pub(super) fn pause(failures: u32, longest: Duration, random: u64) -> Duration {
    let doubled = (longest / 100).saturating_mul(1_u32.checked_shl(failures.min(20)).unwrap_or(u32::MAX)).min(longest);
    // 1024 steps are fine enough for spreading.
    let part = u32::try_from(random % 1024).expect("below 1024");
    doubled / 2 + doubled / 2 * part / 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_differ() {
        let longest = Duration::from_secs(5);
        let range = |failures| (pause(failures, longest, 0), pause(failures, longest, 1023));
        assert_eq!(range(0).0, Duration::from_millis(25));
        assert_eq!(range(1).0, Duration::from_millis(50));
        for failures in [10, 20, 1000, u32::MAX] {
            let (least, most) = range(failures);
            assert_eq!(least, Duration::from_millis(2500));
            assert!(most > Duration::from_millis(4990) && most <= longest);
        }
    }
}
