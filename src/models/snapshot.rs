//! The names of snapshots: a model's name with a date or a version at its end.

/// Returns the model of which `model` is a snapshot, if its name ends like one: `-latest`, `-2024-08-06`, `-20250929`,
/// `@20250929`, `-001`.
pub(crate) fn base(model: &str) -> Option<&str> {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if let Some(base) = model.strip_suffix("-latest") {
        return Some(base);
    }
    // `-2024-08-06`
    if let Some((rest, day)) = model.rsplit_once('-')
        && let Some((rest, month)) = rest.rsplit_once('-')
        && let Some((base, year)) = rest.rsplit_once('-')
        && (year.len(), month.len(), day.len()) == (4, 2, 2)
        && digits(year)
        && digits(month)
        && digits(day)
    {
        return Some(base);
    }
    // `-20250929`, `@20250929`, `-001`
    let (base, end) = model.rsplit_once(['-', '@'])?;
    (digits(end) && (end.len() == 8 || (end.len() == 3 && end.starts_with('0')))).then_some(base)
}
