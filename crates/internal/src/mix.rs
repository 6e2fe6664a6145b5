//! Numbers spread over all of their bits, for draws that follow from a seed.

/// Returns numbers far apart for neighbours.
pub fn numbered(number: u64) -> u64 {
    number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// Spreads neighbouring numbers over all 64 bits (the finaliser of SplitMix64: Steele, Lea and Flood, 2014). Seeds that
/// differ by one would give a small generator similar first draws.
pub fn spread(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}
