//! Short writes in one piece.

use std::io::IoSlice;

/// The longest write that [`gather`] copies, in bytes.
pub const SHORT: usize = 2048;

/// Copies the parts of a short write into `space`, one after the other. Returns `None` for a longer one.
///
/// `writev` on a socket costs the kernel more than `send` of one piece, by more than such a copy takes.
pub fn gather<'a>(parts: &[IoSlice<'_>], space: &'a mut [u8; SHORT]) -> Option<&'a [u8]> {
    let length = parts.iter().map(|part| part.len()).sum();
    let space = space.get_mut(..length)?;
    let mut rest = &mut *space;
    for part in parts {
        let (place, after) = rest.split_at_mut(part.len());
        place.copy_from_slice(part);
        rest = after;
    }
    Some(space)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_write_is_its_parts_in_their_order() {
        let long = [7; SHORT];
        let cases: [&[&[u8]]; 5] = [&[], &[b""], &[b"head", b"", b"body"], &[&long], &[&long[3..], b"abc"]];
        for parts in cases {
            let slices: Vec<_> = parts.iter().map(|part| IoSlice::new(part)).collect();
            assert_eq!(gather(&slices, &mut [0; SHORT]), Some(&*parts.concat()));
        }
    }

    #[test]
    fn a_longer_one_stays_in_parts() {
        let long = [7; SHORT + 1];
        let cases: [&[&[u8]]; 3] = [&[&long], &[b"x", &long[1..]], &[&long[1..], b"", b"x"]];
        for parts in cases {
            let slices: Vec<_> = parts.iter().map(|part| IoSlice::new(part)).collect();
            assert_eq!(gather(&slices, &mut [0; SHORT]), None);
        }
    }
}
