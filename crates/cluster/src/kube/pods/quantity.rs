//! Amounts of memory as Kubernetes writes them.

/// The most digits that are read: what has more is above 2^64 bytes or finer than a byte by far.
const LONGEST: usize = 30;

/// The bytes that a quantity such as `8Gi`, `1.5G`, `500m` or `2e9` says, rounded up as Kubernetes does. `None` for what is
/// no quantity, is negative, or does not fit.
pub(super) fn bytes(text: &str) -> Option<u64> {
    let text = text.strip_prefix('+').unwrap_or(text);
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.len() + fraction.len() > LONGEST || (whole.is_empty() && fraction.is_empty()) {
        return None;
    }
    let digits: u128 = format!("{whole}{fraction}").parse().ok()?;
    let (factor, mut divisor) = scale(suffix)?;
    divisor = divisor.checked_mul(10_u128.checked_pow(u32::try_from(fraction.len()).ok()?)?)?;
    u64::try_from(digits.checked_mul(factor)?.div_ceil(divisor)).ok()
}

/// What the number before `suffix` is multiplied with and divided by.
fn scale(suffix: &str) -> Option<(u128, u128)> {
    let binary = |power: u32| Some((1024_u128.pow(power), 1));
    let decimal = |power: u32| Some((1000_u128.pow(power), 1));
    let below = |power: u32| Some((1, 1000_u128.pow(power)));
    match suffix {
        "" => decimal(0),
        "Ki" => binary(1),
        "Mi" => binary(2),
        "Gi" => binary(3),
        "Ti" => binary(4),
        "Pi" => binary(5),
        "Ei" => binary(6),
        "k" => decimal(1),
        "M" => decimal(2),
        "G" => decimal(3),
        "T" => decimal(4),
        "P" => decimal(5),
        "E" => decimal(6),
        "m" => below(1),
        "u" => below(2),
        "n" => below(3),
        _ => {
            let exponent: i32 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
            let power = 10_u128.checked_pow(exponent.unsigned_abs())?;
            Some(if exponent < 0 { (1, power) } else { (power, 1) })
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_quantity_is_what_kubernetes_takes_it_for() {
        for (text, expected) in [
            ("0", 0),
            ("128974848", 128_974_848),
            ("8Gi", 8 << 30),
            ("129e6", 129_000_000),
            ("129E6", 129_000_000),
            ("129M", 129_000_000),
            ("1E", 1_000_000_000_000_000_000),
            ("1.5G", 1_500_000_000),
            (".5Ki", 512),
            ("5.", 5),
            ("128974848000m", 128_974_848),
            ("1m", 1),
            ("5e-1", 1),
            ("+2k", 2000),
        ] {
            assert_eq!(bytes(text), Some(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_amount_of_memory_is_none() {
        for text in ["", "G", ".", "-1", "1.2.3", "8 Gi", "8gi", "8GiB", "1e", "99E99", "1e999999999", "½", "0x10"] {
            assert_eq!(bytes(text), None, "{text:?}");
        }
        assert_eq!(bytes(&"9".repeat(1000)), None);
        assert_eq!(bytes("16Ei"), None, "2^64");
    }

    proptest! {
        #[test]
        fn no_text_is_too_odd(text in "[0-9.+eEKMGTPimkun-]{0,40}|\\PC{0,40}") {
            bytes(&text);
        }
    }
}
