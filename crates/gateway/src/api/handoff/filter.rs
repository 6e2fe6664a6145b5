//! The filter of a list of tasks.

use http::Uri;
use steadfast_handoff::TaskFilter;

use crate::api::query;

/// The parameters of a query.
const PARAMETERS: [&str; 6] = ["state", "feature", "tenant", "limit", "after", "order"];

/// Returns the filter that a query describes.
pub(super) fn filter(uri: &Uri) -> Result<TaskFilter, String> {
    let mut filter = TaskFilter::new();
    for [name, value] in query::parameters(uri, &PARAMETERS)? {
        filter = match &*name {
            "state" => filter.state(value.parse().map_err(|problem| format!("`state`: {problem}"))?),
            "feature" => filter.feature(value),
            "tenant" => filter.tenant(value),
            "after" => filter.after(value.parse().map_err(|problem| format!("`after`: {problem}"))?),
            "limit" => filter.limit(query::limit(&value)?),
            _ => match &*value {
                "oldest" => filter.oldest_first(),
                "newest" => filter,
                _ => return Err("`order` is `oldest` or `newest`".to_owned()),
            },
        };
    }
    Ok(filter)
}

#[cfg(test)]
mod tests {
    use steadfast_handoff::TaskState;

    use super::*;

    fn of(query: &str) -> Result<TaskFilter, String> {
        filter(&format!("/handoff/tasks?{query}").parse().unwrap())
    }

    #[test]
    fn a_query_says_which_tasks() {
        let id = "task_00000000000000000000000007";
        let asked = of(&format!("state=waiting&feature=a%26b+%C3%BC&limit=7&after={id}&order=oldest&tenant=")).unwrap();
        let wanted = TaskFilter::new().state(TaskState::Waiting).feature("a&b ü").limit(7).oldest_first();
        assert_eq!(asked, wanted.after(id.parse().unwrap()));
        assert_eq!(of("").unwrap(), TaskFilter::new());
    }

    #[test]
    fn what_is_no_filter_is_not_passed_over() {
        for (query, word) in [
            ("state=gone", "waiting, claimed"),
            ("limit=0", "1 to 1000"),
            ("limit=-1", "1 to 1000"),
            ("after=7", "not a task's id"),
            ("order=up", "oldest"),
            ("stat=waiting", "unknown parameter `stat`"),
            ("feature=%zz", "%"),
            ("feature=%ff", "UTF-8"),
        ] {
            let problem = of(query).unwrap_err();
            assert!(problem.contains(word), "{query}: {problem}");
        }
        assert!(of(&format!("feature={}", "x".repeat(257))).unwrap_err().contains("longer"));
    }
}
