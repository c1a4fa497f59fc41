//! What `gc` and the agent keep: what the configuration says, or the default policy.

use super::error::CliError;
use super::settings::Settings;
use crate::archive::retention::Policy;
use crate::config::{Kind, Section};
use hah_vault_format::SourceName;
use std::collections::BTreeMap;
use std::time::Duration;

/// Policies of all sources.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Retention {
    /// Of sources that have none of their own.
    pub policy: Policy,
    /// Of single sources.
    pub policies: BTreeMap<SourceName, Policy>,
}

impl Retention {
    /// The `retention` of each source, and that of the agent block for the others.
    pub(super) fn of(settings: &Settings) -> Result<Self, CliError> {
        let block = settings.config.of(Kind::Agent).next().map(policy).transpose()?.flatten();
        let mut policies = BTreeMap::new();
        for section in settings.sources() {
            if let (Ok(name), Some(policy)) = (section.source_name().parse(), policy(section)?) {
                policies.insert(name, policy);
            }
        }
        Ok(Self { policy: block.unwrap_or_default(), policies })
    }

    /// One policy for all.
    pub(super) fn one(policy: Policy) -> Self {
        Self { policy, policies: BTreeMap::new() }
    }
}

fn wrong(section: &Section, key: &str, what: impl std::fmt::Display) -> CliError {
    let text = format!("{}: {key} of {}: {what}", section.origin_of(key), section.title());
    CliError::usage(text, "see deploy/config.hcl")
}

/// The retention of a block; none if it says nothing of it.
fn policy(section: &Section) -> Result<Option<Policy>, CliError> {
    let said = section.settings().filter(|(key, _)| key.starts_with("retention.")).count();
    if said == 0 {
        return Ok(None);
    }
    if section.flag("retention.keep_all") == Some(true) {
        return match said {
            1 => Ok(Some(Policy::everything())),
            _ => Err(wrong(section, "retention.keep_all", "nothing else stands beside it")),
        };
    }
    let count = |key: &str| section.count(key).unwrap_or(0);
    let mut keep_tags = Vec::new();
    for tag in section.texts("retention.keep_tags") {
        keep_tags.push(tag.parse().map_err(|error| wrong(section, "retention.keep_tags", error))?);
    }
    Ok(Some(Policy {
        keep_last: count("retention.keep_last"),
        keep_within: section.duration("retention.keep_within").unwrap_or(Duration::ZERO),
        keep_hourly: count("retention.keep_hourly"),
        keep_daily: count("retention.keep_daily"),
        keep_weekly: count("retention.keep_weekly"),
        keep_monthly: count("retention.keep_monthly"),
        keep_yearly: count("retention.keep_yearly"),
        keep_tags,
    }))
}
