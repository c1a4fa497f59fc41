//! What holds for a run: flags beat the environment, and the environment beats the configuration file.

use super::args::{Addressing, Global};
use super::error::CliError;
use super::files;
use crate::config::{self, Config, Kind, Origin, Precedence, Reference, Section, Setting, Value};
use hah_vault_format::SourceName;
use std::path::{Path, PathBuf};

/// Names of the configuration file in its folder.
const NAMES: [&str; 2] = ["config.hcl", "config.json"];
/// Where it is for everybody.
const SYSTEM: &str = "/etc/hah-vault";

/// All settings of a run.
#[derive(Debug)]
pub(super) struct Settings {
    /// The file's blocks, with what the environment says.
    pub config: Config,
    /// The repository's, with flags too.
    pub repository: Section,
    /// The configuration file.
    pub path: Option<PathBuf>,
}

/// A variable of the process; one that is empty, or no text, is as good as none.
pub(super) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

impl Settings {
    /// Reads the configuration. `is_flag` tells of an option whether it was typed.
    pub(super) fn open(global: &Global, is_flag: &dyn Fn(&str) -> bool) -> Result<Self, CliError> {
        let path = match global.config.as_ref().filter(|path| !path.as_os_str().is_empty()) {
            Some(path) => Some(path.clone()),
            None => default_path(),
        };
        let mut file = match &path {
            Some(path) => Config::read(path)?,
            None => Config::default(),
        };
        if let Some(path) = path.as_ref().filter(|path| !file.warnings.is_empty() && files::is_for_everybody(path)) {
            file.warnings.push(format!("everybody can read {}: run chmod 600 on it", path.display()));
        }
        let config = file.merged(&variable);
        config::links::check(&config.sections)?;
        let block = file.of(Kind::Repository).next().cloned().unwrap_or_else(|| Section::empty(Kind::Repository));
        let repository = repository(&block, global, is_flag);
        Ok(Self { config, repository, path })
    }

    /// Without a file, flags or variables.
    #[cfg(test)]
    pub(super) fn none() -> Self {
        Self { config: Config::default(), repository: Section::empty(Kind::Repository), path: None }
    }

    /// The block of a source: a configured one, or vault, consul and nomad as the environment has them.
    pub(super) fn source(&self, name: &str) -> Option<Section> {
        let configured = self.sources().find(|section| section.source_name() == name).cloned();
        configured.or_else(|| {
            let kind = [Kind::Vault, Kind::Consul, Kind::Nomad].into_iter().find(|kind| kind.name() == name)?;
            Some(environment(kind))
        })
    }

    /// All configured sources.
    pub(super) fn sources(&self) -> impl Iterator<Item = &Section> {
        self.config.sections.iter().filter(|section| section.kind.is_source())
    }

    /// Those that a backup without names takes.
    pub(super) fn backed_up(&self) -> Vec<SourceName> {
        let sources = self.sources().filter(|section| section.is_backed_up());
        sources.filter_map(|section| section.source_name().parse().ok()).collect()
    }

    /// The Vault that has a block's secrets.
    pub(super) fn vault_of(&self, section: &Section) -> Result<Section, CliError> {
        let found = config::links::vault_of(section, &self.config.sections)?;
        Ok(found.cloned().unwrap_or_else(|| environment(Kind::Vault)))
    }

    /// The Consul whose catalog has a block's addresses.
    pub(super) fn catalog_of(&self, section: &Section) -> Result<Section, CliError> {
        let found = config::links::catalog_of(section, &self.config.sections)?;
        Ok(found.cloned().unwrap_or_else(|| environment(Kind::Consul)))
    }
}

/// What the environment alone says of a kind.
pub(super) fn environment(kind: Kind) -> Section {
    config::merge(&Section::empty(kind), &variable, Precedence::Environment)
}

fn default_path() -> Option<PathBuf> {
    let folders = [files::config_folder(), Some(Path::new(SYSTEM).to_owned())];
    let candidates = folders.into_iter().flatten().flat_map(|folder| NAMES.map(|name| folder.join(name)));
    candidates.into_iter().find(|path| path.exists())
}

fn repository(block: &Section, global: &Global, is_flag: &dyn Fn(&str) -> bool) -> Section {
    let url = global.repo.as_deref().filter(|url| !url.is_empty()).or(block.text("url"));
    let is_r2 = url.is_some_and(|url| url.starts_with("r2://"));
    // The account decides where R2 is, and these may be meant for other tools.
    let is_others = |name: &str| is_r2 && (name.starts_with("AWS_ENDPOINT_URL") || name.ends_with("_REGION"));
    let lookup = |name: &str| variable(name).filter(|_| !is_others(name));
    let mut merged = config::merge(block, &lookup, Precedence::Environment);
    let mut flag = |name: &'static str, key: &'static str, value: Option<Value>| {
        if let Some(value) = value.filter(|_| is_flag(&name[2..].replace('-', "_"))) {
            merged.set(key, Setting { value, origin: Origin::Flag(name) });
        }
    };
    let text = |value: &Option<String>| value.clone().filter(|text| !text.is_empty()).map(Value::Text);
    let texts = |paths: &[PathBuf]| {
        let paths: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
        (!paths.is_empty()).then_some(Value::Texts(paths))
    };
    flag("--repo", "url", text(&global.repo));
    let key_file = global.writer_key_file.clone().filter(|path| !path.as_os_str().is_empty());
    flag("--writer-key-file", "writer_key", key_file.map(|path| Value::Secret(Reference::File(path))));
    flag("--identity", "identities", texts(&global.identity));
    flag("--key-file", "key_files", texts(&global.key_file));
    let s3 = &global.s3;
    flag("--s3-endpoint", "s3.endpoint", text(&s3.s3_endpoint));
    flag("--s3-region", "s3.region", text(&s3.s3_region));
    flag("--s3-profile", "s3.profile", text(&s3.s3_profile));
    let addressing = s3.s3_addressing.map(|style| if style == Addressing::Path { "path" } else { "virtual" });
    flag("--s3-addressing", "s3.addressing", addressing.map(|style| Value::Text(style.into())));
    flag("--s3-ca-bundle", "s3.ca_bundle", s3.s3_ca_bundle.as_ref().map(|p| Value::Text(p.display().to_string())));
    merged
}
