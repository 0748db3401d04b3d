//! Names, each parsed once.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// Why a text is not the value it was meant to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid {
    /// What it was meant to be: `namespace`, `adapter name`, ...
    pub what: &'static str,
    /// The text, shortened to 64 characters.
    pub value: String,
    /// The rule that it breaks.
    pub rule: &'static str,
}

impl Invalid {
    pub(crate) fn new(what: &'static str, value: &str, rule: &'static str) -> Self {
        const SHOWN: usize = 64;
        let mut shown: String = value.chars().take(SHOWN).collect();
        if shown.len() < value.len() {
            shown.push('…');
        }
        Self { what, value: shown, rule }
    }
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "invalid {} {:?}: {}", self.what, self.value, self.rule)
    }
}

impl std::error::Error for Invalid {}

/// Defines a newtype over a shared string that only its rule can make.
macro_rules! name {
    ($(#[$doc:meta])* $ty:ident, $what:literal, $rule:literal, $check:path) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $ty(Arc<str>);

        impl $ty {
            /// Parses `text`, or says which rule it breaks.
            ///
            /// # Errors
            /// [`Invalid`] with the rule.
            pub fn new(text: impl AsRef<str>) -> Result<Self, Invalid> {
                let text = text.as_ref();
                if $check(text) { Ok(Self(Arc::from(text))) } else { Err(Invalid::new($what, text, $rule)) }
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $ty {
            type Err = Invalid;
            fn from_str(text: &str) -> Result<Self, Invalid> {
                Self::new(text)
            }
        }

        impl fmt::Display for $ty {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $ty {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }

        impl AsRef<str> for $ty {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl std::borrow::Borrow<str> for $ty {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

name!(
    /// The name that clients put in `model`: `^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$`.
    AdapterName, "adapter name", "1 to 128 letters, digits, '.', '_' or '-', beginning with a letter or digit", is_served_name
);
name!(
    /// A Kubernetes namespace, or what stands for one elsewhere: a DNS label of at most 63 characters.
    Namespace, "namespace", "1 to 63 lower-case letters, digits or '-', beginning and ending with a letter or digit", is_dns_label
);
name!(
    /// The name of a declaring object: a DNS subdomain of at most 253 characters.
    ObjectName, "object name", "1 to 253 lower-case letters, digits, '-' or '.', each part beginning and ending with a letter or digit", is_dns_subdomain
);
name!(
    /// A base model's served name, such as `meta-llama/Llama-2-70b-hf`: 1 to 256 printable ASCII characters.
    BaseModel, "base model", "1 to 256 printable ASCII characters", is_base_model
);

impl Namespace {
    /// The namespace `default`.
    pub fn default_namespace() -> Self {
        Self(Arc::from("default"))
    }
}

fn is_served_name(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() <= 128
        && bytes.first().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

fn is_label(text: &str) -> bool {
    let bytes = text.as_bytes();
    let edge = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    bytes.first().is_some_and(edge) && bytes.last().is_some_and(edge) && bytes.iter().all(|b| edge(b) || *b == b'-')
}

fn is_dns_label(text: &str) -> bool {
    text.len() <= 63 && is_label(text)
}

fn is_dns_subdomain(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(is_label)
}

fn is_base_model(text: &str) -> bool {
    (1..=256).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_served_name_is_what_the_rule_says() {
        for good in ["a", "A.b_c-9", "0", &"x".repeat(128)] {
            assert!(AdapterName::new(good).is_ok(), "{good}");
        }
        for bad in ["", ".a", "-a", "_a", "a/b", "a b", "ä", "../x", "a\n", &"x".repeat(129)] {
            assert!(AdapterName::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_namespace_is_a_dns_label() {
        for good in ["default", "a", "a-b", "0a"] {
            assert!(Namespace::new(good).is_ok(), "{good}");
        }
        for bad in ["", "-a", "a-", "A", "a.b", &"x".repeat(64)] {
            assert!(Namespace::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_error_shows_the_value_shortened_and_the_rule() {
        let error = AdapterName::new("/".repeat(500)).unwrap_err().to_string();
        assert!(error.len() < 300, "{error}");
        assert!(error.contains("letters, digits"), "{error}");
    }
}
