use std::collections::HashSet;

/// A list of names and of patterns that end in `*`, in which a name is found with the work of one however long the list
/// is.
#[derive(Debug, Default)]
pub(super) struct ModelNames<'a> {
    exact: HashSet<&'a str>,
    /// Sorted; none begins with another.
    beginnings: Vec<&'a str>,
}

impl<'a> ModelNames<'a> {
    pub(super) fn new(names: impl IntoIterator<Item = &'a str>) -> Self {
        let mut all = Self::default();
        for name in names {
            all.exact.insert(name);
            all.beginnings.extend(name.strip_suffix('*'));
        }
        all.beginnings.sort_unstable();
        let mut last: Option<&str> = None;
        all.beginnings.retain(|beginning| {
            let is_new = last.is_none_or(|last| !beginning.starts_with(last));
            if is_new {
                last = Some(beginning);
            }
            is_new
        });
        all
    }

    pub(super) fn has(&self, name: &str) -> bool {
        let at = self.beginnings.partition_point(|beginning| *beginning <= name);
        let nearest = at.checked_sub(1).map(|at| self.beginnings[at]);
        self.exact.contains(name) || nearest.is_some_and(|beginning| name.starts_with(beginning))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_found_where_a_look_at_each_would_find_it() {
        let mut random = fastrand::Rng::with_seed(7);
        let mut word = |most: usize| (0..random.usize(0..=most)).map(|_| random.char('a'..='c')).collect::<String>();
        for _ in 0..2000 {
            let names: Vec<String> =
                (0..8).map(|at| if at % 2 == 0 { word(3) } else { format!("{}*", word(3)) }).collect();
            let list = ModelNames::new(names.iter().map(String::as_str));
            for _ in 0..20 {
                let name = word(5);
                let fits = |pattern: &String| {
                    *pattern == name || pattern.strip_suffix('*').is_some_and(|start| name.starts_with(start))
                };
                assert_eq!(list.has(&name), names.iter().any(fits), "{names:?} {name}");
            }
        }
    }
}
