//! FNV-1a of 64 bits, as its authors describe it (Fowler, Noll, Vo and Eastlake, RFC 9923). It gives the same hash in
//! every process; use it only for values that are not secret and that no attacker chooses.

/// The initial value of a hash without a seed.
pub const OFFSET_BASIS: u64 = 0xcbf2_9ce4_8422_2325;

const PRIME: u64 = 0x0100_0000_01b3;

/// Hashes a text from an initial value: [`OFFSET_BASIS`], or a seed.
#[inline]
pub fn fnv1a(begin: u64, text: &str) -> u64 {
    text.bytes().fold(begin, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(PRIME))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The vectors are from its authors' own tests (`test_fnv.c`).
    #[test]
    fn the_published_vectors_hold() {
        for (text, hash) in [
            ("", 0xcbf2_9ce4_8422_2325),
            ("a", 0xaf63_dc4c_8601_ec8c),
            ("b", 0xaf63_df4c_8601_f1a5),
            ("foo", 0xdcb2_7518_fed9_d577),
            ("foobar", 0x8594_4171_f739_67e8),
            ("chongo was here!\n", 0x4681_0940_eff5_f915),
        ] {
            assert_eq!(fnv1a(OFFSET_BASIS, text), hash, "{text:?}");
        }
    }

    #[test]
    fn a_hash_goes_on_where_another_ended() {
        assert_eq!(fnv1a(fnv1a(OFFSET_BASIS, "foo"), "bar"), fnv1a(OFFSET_BASIS, "foobar"));
    }
}
