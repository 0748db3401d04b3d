//! What extended headers say of the next member.

use super::header::{SPARSE, SPARSE_ADVICE};
use crate::archive::stream::invalid;
use crate::error::{Defect, Error};

/// What is said of the next member beside its header.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Overrides {
    /// Its name.
    pub(super) path: Option<Vec<u8>>,
    /// Its size in bytes.
    pub(super) size: Option<u64>,
}

impl Overrides {
    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Takes the records of a pax header: `<length> <key>=<value> LF`, where the length is that of the whole record.
    pub(super) fn read_pax(&mut self, mut records: &[u8]) -> Result<(), Error> {
        let broken = || invalid("an extended header in it is not as it should be");
        while !records.is_empty() {
            let space = records.iter().position(|byte| *byte == b' ').ok_or_else(broken)?;
            let length: usize = decimal(&records[..space]).and_then(|n| n.try_into().ok()).ok_or_else(broken)?;
            // At least `=` and the line's end are behind the space.
            if length < space + 3 || length > records.len() {
                return Err(broken());
            }
            let (record, rest) = records.split_at(length);
            let record = record[space + 1..].strip_suffix(b"\n").ok_or_else(broken)?;
            let equals = record.iter().position(|byte| *byte == b'=').ok_or_else(broken)?;
            self.set(&record[..equals], &record[equals + 1..])?;
            records = rest;
        }
        Ok(())
    }

    /// What other keys say (times, owners, attributes) is nothing that we keep.
    fn set(&mut self, key: &[u8], value: &[u8]) -> Result<(), Error> {
        match key {
            b"path" => self.set_path(value),
            b"size" => match decimal(value).filter(|_| self.size.is_none()) {
                Some(size) => {
                    self.size = Some(size);
                    Ok(())
                }
                None => Err(invalid("a size in it is too large, no number, or said twice")),
            },
            key if key.starts_with(b"GNU.sparse.") || key == b"SCHILY.realsize" => {
                Err(Defect::ArchiveUnsupported { feature: SPARSE.into(), advice: SPARSE_ADVICE }.into())
            }
            _ => Ok(()),
        }
    }

    /// Takes GNU's long name, with the NUL behind it.
    pub(super) fn set_long_name(&mut self, content: &[u8]) -> Result<(), Error> {
        self.set_path(content.strip_suffix(b"\0").unwrap_or(content))
    }

    fn set_path(&mut self, path: &[u8]) -> Result<(), Error> {
        // Which of two counts, programs do not agree on.
        if self.path.replace(path.to_owned()).is_some() {
            return Err(invalid("a member has two long names"));
        }
        Ok(())
    }
}

/// A number in decimal digits, of at most 63 bits.
fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    let number = digits.iter().try_fold(0_u64, |number, digit| match digit {
        b'0'..=b'9' => number.checked_mul(10)?.checked_add(u64::from(digit - b'0')),
        _ => None,
    });
    number.filter(|number| *number <= i64::MAX.unsigned_abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(records: &[u8]) -> Result<Overrides, Error> {
        let mut overrides = Overrides::default();
        overrides.read_pax(records).map(|()| overrides)
    }

    #[test]
    fn a_record_is_as_long_as_it_says() {
        let records = b"13 path=a\nb=\n9 size=7\n19 mtime=1.5 a=b c\n";
        let expected = Overrides { path: Some(b"a\nb=".to_vec()), size: None };
        assert_eq!(read(&records[..13]).unwrap(), expected);
        assert_eq!(read(records).unwrap(), Overrides { size: Some(7), ..expected });
        for broken in [
            &b"9 size=7"[..],
            b"8 size=7\n",
            b"99 size=7\n",
            b"size=7\n",
            b" 9 size=7\n",
            b"3 =\n",
            b"4 a\n",
            b"-9 size=7\n",
        ] {
            assert_eq!(read(broken).unwrap_err().reason(), "ArchiveInvalid", "{}", broken.escape_ascii());
        }
    }

    #[test]
    fn a_size_is_a_decimal_number_that_files_can_have() {
        assert_eq!(decimal(b"9223372036854775807"), Some(i64::MAX.unsigned_abs()));
        for bad in [&b""[..], b"9223372036854775808", b"18446744073709551616", b"-1", b"0x1", b"1 "] {
            assert_eq!(decimal(bad), None, "{}", bad.escape_ascii());
        }
    }
}
