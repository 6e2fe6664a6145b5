//! The tools of a request of Responses: their own settings, and a choice that only OpenAI can follow.

use crate::{
    LlmError,
    fields::{Object, each, is_object},
    raw_json::RawJson,
    translate::{
        request::{report::Report, survey::set},
        rules::Feature,
    },
};

/// Surveys a tool's definition.
pub(super) fn survey(tool: RawJson<'_>, report: &mut Report) -> Result<(), LlmError> {
    let known = Object::read(tool, &["type", "name", "server_label", "tools"])?;
    let name = |name| Ok::<_, LlmError>(known.text(name)?.unwrap_or_default());
    let kind = known.word("type").unwrap_or_default();
    let settings: &[&str] = match &*kind {
        "function" => &["type", "name", "description", "parameters", "strict"],
        "custom" => {
            report.record_field(Feature::CustomTool, name("name")?);
            &["type", "name", "description", "format"]
        }
        "namespace" => {
            report.record_field(Feature::Namespace, name("name")?);
            if let Some(tools) = known.get("tools") {
                each(tools, |tool| survey(tool, report))?;
            }
            &["type", "name", "description", "tools"]
        }
        "mcp" => {
            report.record_field(Feature::ServerTool, format!("mcp: {}", name("server_label")?));
            return Ok(());
        }
        kind => {
            report.record_field(Feature::ServerTool, kind);
            return Ok(());
        }
    };
    set(tool, |name, _| {
        if !settings.contains(&name) {
            let within = if kind == "namespace" { "namespace." } else { "" };
            report.record_field(Feature::ToolSetting, format!("{within}{name}"));
        }
        Ok(())
    })
}

/// Surveys the choice of a tool.
///
/// # Errors
///
/// The model must call a tool that runs at its own provider.
pub(super) fn survey_choice(choice: RawJson<'_>, report: &Report) -> Result<(), LlmError> {
    if !is_object(choice) {
        return Ok(());
    }
    match &*Object::read(choice, &["type"])?.word("type").unwrap_or_default() {
        "function" | "custom" | "allowed_tools" | "" => Ok(()),
        hosted => Err(report.refuse_field(Feature::ForcedServerTool, hosted)),
    }
}
