//! What the store takes on disk, and what goes when there is no room.
//!
//! The disk itself is the account: everything is measured when it is asked for, so that nothing has to be written down, a
//! restart forgets nothing, and several processes agree.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::SystemTime;

use longshore_types::Digest;

/// What a store holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes that the entries take on disk, whole blocks counted.
    pub bytes: u64,
    /// Entries.
    pub entries: usize,
    /// Entries that somebody has pinned.
    pub pinned: usize,
    /// Bytes that fetches under way have claimed; 0 without a quota.
    pub claimed: u64,
    /// Bytes that entries and fetches may take together.
    pub quota: Option<u64>,
}

/// An entry, to whoever has to make room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Resident {
    pub(super) digest: Digest,
    /// On disk.
    pub(super) bytes: u64,
    /// When it was last asked for.
    pub(super) used: SystemTime,
    /// Whether somebody has pinned it, or has just been given it.
    pub(super) kept: bool,
}

/// There is not enough that could go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shortage {
    /// Bytes of what has to stay.
    pub(super) kept: u64,
    /// Bytes that fetches under way have claimed.
    pub(super) claimed: u64,
}

/// What goes so that `needed` bytes more fit beside `residents` and what is `claimed`: what was not used for longest first,
/// no more than is needed, and nothing at all where that would not do.
pub(super) fn plan(
    mut residents: Vec<Resident>,
    claimed: u64,
    needed: u64,
    quota: u64,
) -> Result<Vec<Digest>, Shortage> {
    let sum = |bytes: u64, resident: &Resident| bytes.saturating_add(resident.bytes);
    let mut total = residents.iter().fold(claimed.saturating_add(needed), sum);
    residents.sort_by_key(|resident| (resident.used, resident.digest));
    let mut going = Vec::new();
    for resident in residents.iter().filter(|resident| !resident.kept) {
        if total <= quota {
            break;
        }
        total = total.saturating_sub(resident.bytes);
        going.push(resident.digest);
    }
    if total <= quota {
        return Ok(going);
    }
    Err(Shortage { kept: residents.iter().filter(|resident| resident.kept).fold(0, sum), claimed })
}

/// Bytes that an entry, or what becomes one, takes on disk: `path` and the files in it, which has no directories. What goes
/// away meanwhile takes none.
pub(super) fn size_on_disk(path: &Path) -> io::Result<u64> {
    let Some(metadata) = unless_gone(fs::symlink_metadata(path))? else { return Ok(0) };
    let mut bytes = blocks(&metadata);
    if metadata.is_dir() {
        for entry in unless_gone(fs::read_dir(path))?.into_iter().flatten() {
            // Not followed, where it is a link.
            bytes = bytes.saturating_add(unless_gone(entry?.metadata())?.map_or(0, |metadata| blocks(&metadata)));
        }
    }
    Ok(bytes)
}

/// A block has 512 bytes here, whatever the file system has. Some tell of none, and some count only when they write.
fn blocks(metadata: &Metadata) -> u64 {
    metadata.blocks().saturating_mul(512).max(metadata.len())
}

/// None where there is nothing.
pub(super) fn unless_gone<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn resident(name: u8, bytes: u64, used: u64, kept: bool) -> Resident {
        let used = SystemTime::UNIX_EPOCH + Duration::from_secs(used);
        Resident { digest: Digest::from_bytes([name; 32]), bytes, used, kept }
    }

    fn names(plan: Result<Vec<Digest>, Shortage>) -> Vec<u8> {
        plan.unwrap().iter().map(|digest| digest.as_bytes()[0]).collect()
    }

    #[test]
    fn what_was_not_used_for_longest_goes_first_and_no_more_than_is_needed() {
        let residents = || vec![resident(1, 10, 300, false), resident(2, 10, 100, false), resident(3, 10, 200, false)];
        assert!(names(plan(residents(), 0, 10, 40)).is_empty());
        assert_eq!(names(plan(residents(), 0, 11, 40)), [2]);
        assert_eq!(names(plan(residents(), 5, 16, 40)), [2, 3]);
        assert_eq!(names(plan(residents(), 0, 40, 40)), [2, 3, 1]);
    }

    #[test]
    fn i5_what_is_kept_never_goes_and_nothing_goes_in_vain() {
        let residents = vec![resident(1, 10, 100, true), resident(2, 10, 200, false)];
        assert_eq!(names(plan(residents.clone(), 0, 10, 20)), [2]);
        assert_eq!(plan(residents, 3, 11, 20), Err(Shortage { kept: 10, claimed: 3 }));
    }

    proptest! {
        #[test]
        fn whatever_goes_there_is_room_then_and_there_was_none_without_the_last(
            sizes in proptest::collection::vec((0..100_u64, 0..50_u64, any::<bool>()), 0..20),
            claimed in 0..100_u64,
            needed in 0..200_u64,
            quota in 0..1000_u64,
        ) {
            let all: Vec<Resident> =
                sizes.iter().zip(0..).map(|((bytes, used, kept), name)| resident(name, *bytes, *used, *kept)).collect();
            let left = |gone: &[Digest]| -> u64 {
                all.iter().filter(|r| !gone.contains(&r.digest)).map(|r| r.bytes).sum::<u64>() + claimed + needed
            };
            match plan(all.clone(), claimed, needed, quota) {
                Ok(going) => {
                    prop_assert!(left(&going) <= quota);
                    if let Some((_, but_last)) = going.split_last() {
                        prop_assert!(left(but_last) > quota);
                    }
                    let goes = |r: &&Resident| going.contains(&r.digest);
                    prop_assert!(all.iter().filter(goes).all(|r| !r.kept));
                    let newest = all.iter().filter(goes).map(|r| r.used).max();
                    let stays = |r: &&Resident| !r.kept && !goes(r);
                    prop_assert!(all.iter().filter(stays).all(|r| newest.is_none_or(|newest| r.used >= newest)));
                }
                Err(shortage) => {
                    let kept: u64 = all.iter().filter(|r| r.kept).map(|r| r.bytes).sum();
                    prop_assert_eq!(shortage.kept, kept);
                    prop_assert!(kept + claimed + needed > quota);
                }
            }
        }
    }
}
