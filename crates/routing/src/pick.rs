//! Which of the engines that have it is asked.

use std::collections::{BTreeMap, BTreeSet};

use longshore_types::EngineId;

use crate::Endpoint;

/// How many requests each engine has under way, as far as the caller knows.
pub trait Loads {
    /// Requests under way on `engine`; 0 where nothing is known of it.
    fn in_flight(&self, engine: &EngineId) -> u64;
}

impl Loads for BTreeMap<EngineId, u64> {
    fn in_flight(&self, engine: &EngineId) -> u64 {
        self.get(engine).copied().unwrap_or(0)
    }
}

/// The less busy of two endpoints drawn at random from those not excluded, or nothing where all are.
///
/// Two choices come close to the least busy of all, without every router rushing to the same engine at once (Mitzenmacher,
/// "The Power of Two Choices in Randomized Load Balancing", 2001). The same arguments give the same choice.
pub fn pick<'a>(
    endpoints: &'a [Endpoint],
    loads: &impl Loads,
    excluded: &BTreeSet<EngineId>,
    seed: u64,
) -> Option<&'a Endpoint> {
    let candidates = || endpoints.iter().filter(|endpoint| !excluded.contains(&endpoint.engine));
    let count = candidates().count();
    if count <= 1 {
        return candidates().next();
    }
    let first = index(mix(seed), count);
    // Any of the others, so that the two are never the same one.
    let second = (first + 1 + index(mix(seed ^ SECOND), count - 1)) % count;
    let (first, second) = (candidates().nth(first)?, candidates().nth(second)?);
    let less_busy = loads.in_flight(&second.engine) < loads.in_flight(&first.engine);
    Some(if less_busy { second } else { first })
}

/// Makes the second draw independent of the first: the fractional part of the square root of 2 in 64 bits.
const SECOND: u64 = 0x6a09_e667_f3bc_c908;

/// A number below `count` from the high bits of `random`. The bias is at most `count` in 2^64.
fn index(random: u64, count: usize) -> usize {
    // A product of a 64-bit number and a length, shifted down by 64 bits, is below that length.
    usize::try_from((u128::from(random) * count as u128) >> 64).expect("below `count`, which is a usize")
}

/// The finalizer of SplitMix64 (Steele, Lea and Flood, 2014): neighbouring seeds give unrelated numbers.
fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use longshore_types::{Address, Boot, EngineKind, Namespace};
    use proptest::prelude::*;

    use super::*;

    fn id(n: usize) -> EngineId {
        EngineId::new(Namespace::default_namespace(), format!("e{n}"))
    }

    fn endpoints(count: usize) -> Vec<Endpoint> {
        (0..count)
            .map(|n| Endpoint {
                engine: id(n),
                boot: Boot::new("b"),
                kind: EngineKind::Vllm,
                address: Address::new("127.0.0.1", 8000),
                digest: None,
                base_model: None,
                confirmation: Arc::from(""),
            })
            .collect()
    }

    #[test]
    fn no_endpoint_is_no_choice() {
        assert_eq!(pick(&[], &BTreeMap::new(), &BTreeSet::new(), 7), None);
    }

    #[test]
    fn of_two_engines_the_less_busy_one_is_always_chosen() {
        let two = endpoints(2);
        let loads = BTreeMap::from([(id(0), 5), (id(1), 4)]);
        for seed in 0..200 {
            assert_eq!(pick(&two, &loads, &BTreeSet::new(), seed).unwrap().engine, id(1));
        }
    }

    #[test]
    fn the_busiest_of_many_is_never_chosen() {
        let many = endpoints(7);
        let loads = BTreeMap::from([(id(3), 1)]);
        for seed in 0..500 {
            assert_ne!(pick(&many, &loads, &BTreeSet::new(), seed).unwrap().engine, id(3));
        }
    }

    #[test]
    fn idle_engines_share_the_requests_about_equally() {
        let many = endpoints(5);
        let mut hits = BTreeMap::<EngineId, u32>::new();
        for seed in 0..10_000 {
            *hits.entry(pick(&many, &BTreeMap::new(), &BTreeSet::new(), seed).unwrap().engine.clone()).or_default() +=
                1;
        }
        assert_eq!(hits.len(), 5);
        // 2000 each; the seeds are fixed, so this is not a matter of chance.
        assert!(hits.values().all(|hits| (1_800..2_200).contains(hits)), "{hits:?}");
    }

    proptest! {
        #[test]
        fn a_choice_is_one_of_those_not_excluded_and_there_is_one_whenever_there_can_be(
            count in 0_usize..9,
            excluded in proptest::collection::btree_set(0_usize..9, 0..9),
            loads in proptest::collection::btree_map(0_usize..9, 0_u64..5, 0..9),
            seed: u64,
        ) {
            let all = endpoints(count);
            let excluded: BTreeSet<_> = excluded.into_iter().map(id).collect();
            let loads: BTreeMap<_, _> = loads.into_iter().map(|(n, load)| (id(n), load)).collect();
            let possible = all.iter().filter(|e| !excluded.contains(&e.engine)).count();
            match pick(&all, &loads, &excluded, seed) {
                None => prop_assert_eq!(possible, 0),
                Some(chosen) => {
                    prop_assert!(!excluded.contains(&chosen.engine));
                    prop_assert!(all.contains(chosen));
                    prop_assert_eq!(Some(chosen), pick(&all, &loads, &excluded, seed));
                }
            }
        }
    }
}
