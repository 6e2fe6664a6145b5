//! The ladder of reasoning: none, minimal, low, medium, high, xhigh, max. Each rung has a budget, and each budget a
//! rung; both rise together.

use crate::chat::Effort;

/// The largest budget of each rung. Low, medium and high are those of Google's table for OpenAI's efforts
/// (<https://ai.google.dev/gemini-api/docs/openai>); the others continue it.
const RUNGS: [(Effort, u32); 6] = [
    (Effort::Minimal, 512),
    (Effort::Low, 1024),
    (Effort::Medium, 8192),
    (Effort::High, 24_576),
    (Effort::XHigh, 32_768),
    (Effort::Max, 65_536),
];

/// Returns the budget of an effort.
#[doc(hidden)]
pub fn budget_of(effort: Effort) -> u32 {
    RUNGS.iter().find(|(rung, _)| *rung == effort).map_or(0, |(_, tokens)| *tokens)
}

/// Returns the effort of a budget: the lowest with a budget as large.
#[doc(hidden)]
pub fn effort_of(budget: u32) -> Effort {
    RUNGS.iter().find(|(_, tokens)| budget <= *tokens).map_or(Effort::Max, |(effort, _)| *effort)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ladder_rises_and_leads_back_to_where_it_began() {
        for (effort, tokens) in RUNGS {
            assert_eq!((budget_of(effort), effort_of(tokens)), (tokens, effort));
        }
        let efforts: Vec<Effort> = (0..70_000).step_by(7).map(effort_of).collect();
        assert!(efforts.windows(2).all(|two| two[0] <= two[1]));
        assert_eq!((effort_of(0), effort_of(u32::MAX)), (Effort::Minimal, Effort::Max));
    }
}
