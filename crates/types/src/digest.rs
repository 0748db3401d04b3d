//! The digest of an adapter's bytes.

use std::fmt;
use std::str::FromStr;

use crate::Invalid;

/// A SHA-256 digest, written `sha256:<64 hex digits>`.
///
/// For an adapter it is taken over, for each kept file in byte order of its path,
/// `<path> NUL <size in decimal> NUL <hex SHA-256 of its bytes> LF`, so it does not depend on where the files came from.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    /// The digest with these 32 bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// All 64 hex digits, without the algorithm.
    pub fn hex(&self) -> String {
        let mut text = String::with_capacity(64);
        for byte in self.0 {
            for nibble in [byte >> 4, byte & 0xf] {
                text.push(char::from(b"0123456789abcdef"[usize::from(nibble)]));
            }
        }
        text
    }

    /// The first 12 hex digits, as the header `x-longshore-adapter` shows them.
    pub fn short(&self) -> String {
        let mut hex = self.hex();
        hex.truncate(12);
        hex
    }

    /// Parses 64 hex digits without the algorithm.
    ///
    /// # Errors
    /// [`Invalid`] when it is not 64 lower-case hex digits.
    pub fn from_hex(hex: &str) -> Result<Self, Invalid> {
        let invalid = || Invalid::new("digest", hex, "64 lower-case hexadecimal digits");
        let bytes = hex.as_bytes();
        if bytes.len() != 64 {
            return Err(invalid());
        }
        let nibble = |b: u8| match b {
            b'0'..=b'9' => Ok(b - b'0'),
            b'a'..=b'f' => Ok(b - b'a' + 10),
            _ => Err(invalid()),
        };
        let mut out = [0; 32];
        for (byte, pair) in out.iter_mut().zip(bytes.chunks_exact(2)) {
            *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
        }
        Ok(Self(out))
    }
}

impl FromStr for Digest {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        match text.strip_prefix("sha256:") {
            Some(hex) => Self::from_hex(hex),
            None => Err(Invalid::new("digest", text, "`sha256:` and 64 lower-case hexadecimal digits")),
        }
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.short())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_reads_back_as_it_was_written() {
        let mut bytes = [0; 32];
        bytes[0] = 0xa0;
        bytes[31] = 0x0f;
        let digest = Digest::from_bytes(bytes);
        assert_eq!(digest.to_string().parse::<Digest>().unwrap(), digest);
        assert_eq!(digest.short(), "a00000000000");
    }

    #[test]
    fn a_digest_of_another_form_is_refused() {
        for bad in ["", "sha256:", "sha512:00", &format!("sha256:{}", "A".repeat(64)), &"0".repeat(64)] {
            assert!(bad.parse::<Digest>().is_err(), "{bad}");
        }
    }
}
