//! Deterministic draws: the core has no random source, only a given seed.

/// A number that depends on every word, evenly distributed: SplitMix64's finaliser over their running sum
/// (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", OOPSLA 2014).
pub(super) fn mix(words: &[u64]) -> u64 {
    words.iter().fold(0, |state, &word| {
        let sum = (state ^ word).wrapping_add(0x9e37_79b9_7f4a_7c15);
        let sum = (sum ^ (sum >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let sum = (sum ^ (sum >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        sum ^ (sum >> 31)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_counts_and_so_does_their_order() {
        let draws = [
            mix(&[1, 2, 3]),
            mix(&[1, 2, 4]),
            mix(&[2, 1, 3]),
            mix(&[0, 2, 3]),
        ];
        let distinct: std::collections::BTreeSet<_> = draws.into_iter().collect();
        assert_eq!(distinct.len(), draws.len());
    }

    #[test]
    fn draws_are_evenly_spread() {
        let mut buckets = [0u32; 6];
        for term in 0..6_000 {
            let bucket = usize::try_from(mix(&[7, 1 << 48, term]) % 6).expect("small");
            buckets[bucket] += 1;
        }
        assert!(
            buckets.iter().all(|count| (850..1150).contains(count)),
            "{buckets:?}"
        );
    }
}
