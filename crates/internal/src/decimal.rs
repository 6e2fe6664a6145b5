//! Numbers with a decimal point, which `fmt` takes far longer to write.

/// Writes a number of units, each a one of the last decimal place, without the zeros at its end beyond `least` places.
/// There are 19 `places` at most.
pub fn decimal(units: u64, places: usize, least: usize) -> String {
    const LONGEST: usize = 20;
    let mut digits = [b'0'; LONGEST];
    let (point, mut rest) = (LONGEST - places, units);
    let mut begin = LONGEST;
    while rest > 0 || begin >= point {
        begin -= 1;
        digits[begin] += (rest % 10) as u8;
        rest /= 10;
    }
    let (whole, fraction) = (&digits[begin..point], &digits[point..]);
    let shown = fraction.iter().rposition(|digit| *digit != b'0').map_or(0, |last| last + 1).max(least);
    let mut text = String::with_capacity(LONGEST + 1);
    text.extend(whole.iter().copied().map(char::from));
    if shown > 0 {
        text.push('.');
        text.extend(fraction[..shown].iter().copied().map(char::from));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::decimal;

    #[test]
    fn a_number_is_written_as_fmt_writes_it() {
        let numbers = (0..20).flat_map(|power| [10_u64.pow(power), 10_u64.pow(power) - 1, 10_u64.pow(power) / 2 * 3]);
        for units in numbers.chain([u64::MAX, 1_500_000_000, 120]) {
            for places in [0, 1, 3, 9, 19] {
                let by_fmt = {
                    let scale = 10_u64.pow(places as u32);
                    let fraction = format!("{:0places$}", units % scale);
                    format!("{}.{}", units / scale, if places == 0 { "" } else { &fraction })
                };
                assert_eq!(decimal(units, places, places), by_fmt.trim_end_matches('.'), "{units} {places}");
                let short = by_fmt.trim_end_matches('0').trim_end_matches('.');
                assert_eq!(decimal(units, places, 0), if places == 0 { units.to_string() } else { short.to_owned() });
            }
        }
        assert_eq!(
            [decimal(0, 9, 2), decimal(10_000_000, 9, 2), decimal(123_450_000, 9, 2)],
            ["0.00", "0.01", "0.12345"]
        );
    }
}
