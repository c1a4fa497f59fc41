//! What blocks say about each other: names, which Vault has a block's secrets, which Consul has the catalog.

use hah_vault_format::SourceName;

use super::error::ConfigError;
use super::schema::Kind;
use super::section::{Origin, Reference, Section};

/// The beginning of an address that Consul's catalog knows.
const CATALOG: &str = "consul://";

fn wrong(section: &Section, key: &str, what: String, hint: impl Into<String>) -> ConfigError {
    ConfigError::Setting { origin: section.origin_of(key), what, hint: Some(hint.into()) }
}

/// Checks everything that concerns more than one block.
///
/// # Errors
/// Names that are none or are taken, blocks that are not there, secrets that need each other.
pub fn check(sections: &[Section]) -> Result<(), ConfigError> {
    names(sections)?;
    for section in sections {
        if section.references().any(|(_, reference)| reference.needs_vault())
            || section.setting("secrets_from").is_some()
            || section.setting("kv").is_some()
        {
            vault_of(section, sections)?;
        }
        if is_in_catalog(section) || section.setting("catalog").is_some() {
            catalog_of(section, sections)?;
        }
        cycle(section, sections)?;
        credentials(section)?;
    }
    Ok(())
}

fn names(sections: &[Section]) -> Result<(), ConfigError> {
    for (number, section) in sections.iter().enumerate() {
        let earlier = sections.iter().take(number);
        if !section.kind.is_source() {
            if let Some(other) = earlier.clone().find(|other| other.kind == section.kind) {
                let what = format!("there is a {} block already, at {}", section.kind.name(), other.origin_of(""));
                return Err(wrong(section, "", what, "keep one of them"));
            }
            continue;
        }
        let name = section.source_name();
        if let Err(error) = name.parse::<SourceName>() {
            let hint =
                "a source's name has lower-case letters, digits and hyphens: say another one with source = \"…\"";
            return Err(wrong(section, "source", error.to_string(), hint));
        }
        let title = section.title();
        for other in earlier.filter(|other| other.kind.is_source()) {
            if other.title() == title {
                let what = format!("there is a {title} already, at {}", other.origin_of(""));
                return Err(wrong(section, "", what, "give each its own label"));
            }
            if other.source_name() == name {
                let what = format!("{} already makes the source {name}, at {}", other.title(), other.origin_of(""));
                return Err(wrong(section, "source", what, "give one of them another name with source = \"…\""));
            }
        }
    }
    Ok(())
}

/// The Vault that has a block's secrets; none if it is the environment's.
///
/// # Errors
/// It is not there, or there are several and none is named.
pub fn vault_of<'s>(section: &Section, sections: &'s [Section]) -> Result<Option<&'s Section>, ConfigError> {
    let reader = section.references().find(|(_, reference)| reference.needs_vault());
    let key = reader.map_or("secrets_from", |(key, _)| key);
    linked(section, key, "secrets_from", Kind::Vault, sections)
}

/// The Consul whose catalog has a block's addresses; none if it is the environment's.
///
/// # Errors
/// As [`vault_of`].
pub fn catalog_of<'s>(section: &Section, sections: &'s [Section]) -> Result<Option<&'s Section>, ConfigError> {
    linked(section, "address", "catalog", Kind::Consul, sections)
}

fn linked<'s>(
    section: &Section,
    reader: &str,
    link: &str,
    kind: Kind,
    sections: &'s [Section],
) -> Result<Option<&'s Section>, ConfigError> {
    let mut blocks = sections.iter().filter(|other| other.kind == kind);
    let labels = || {
        let titles: Vec<String> = sections.iter().filter(|other| other.kind == kind).map(Section::title).collect();
        if titles.is_empty() { "there is none".to_owned() } else { format!("there are: {}", titles.join(", ")) }
    };
    if let Some(label) = section.text(link) {
        let found = blocks.find(|other| other.label.as_deref() == Some(label));
        let what = || format!("{link} names {} {label:?}, which is not there", kind.name());
        return found.map(Some).ok_or_else(|| wrong(section, link, what(), labels()));
    }
    match (blocks.next(), blocks.next()) {
        (only, None) => Ok(only),
        _ => {
            let what = format!("{reader} of {} does not say which {} is meant", section.title(), kind.name());
            Err(wrong(section, reader, what, format!("add {link} = \"LABEL\"; {}", labels())))
        }
    }
}

/// Whether its address is looked up in a catalog.
pub fn is_in_catalog(section: &Section) -> bool {
    section.kind != Kind::Consul && section.texts("address").iter().any(|address| address.starts_with(CATALOG))
}

/// The token with which a Consul's catalog is asked needs Vault. One that a variable says does not: then the token that
/// is there without Vault is used.
fn catalog_needs_vault(consul: &Section) -> bool {
    let is_ours = |origin: &Origin| matches!(origin, Origin::File { .. });
    consul.setting("catalog_token").is_none()
        && consul.secret("token").is_some_and(Reference::needs_vault)
        && consul.setting("token").is_some_and(|setting| is_ours(&setting.origin))
}

/// A Vault that is found through a Consul whose token comes from that Vault.
fn cycle(section: &Section, sections: &[Section]) -> Result<(), ConfigError> {
    if section.kind != Kind::Vault {
        return Ok(());
    }
    let mut at = section;
    for _ in 0..=sections.len() {
        if !is_in_catalog(at) {
            return Ok(());
        }
        let Some(consul) = catalog_of(at, sections)?.filter(|consul| catalog_needs_vault(consul)) else {
            return Ok(());
        };
        let Some(vault) = vault_of(consul, sections)? else { return Ok(()) };
        at = vault;
        if at == section {
            let what = format!(
                "{} is found in the catalog of {}, whose token comes from {}: each needs the other first",
                section.title(),
                consul.title(),
                section.title()
            );
            let hint = format!(
                "give {} a catalog_token that is there without Vault (\"anonymous\" if that may read the catalog), or \
                 write the address of {}",
                consul.title(),
                section.title()
            );
            return Err(wrong(section, "address", what, hint));
        }
    }
    Ok(())
}

/// S3 keys come in twos, or from one place.
fn credentials(section: &Section) -> Result<(), ConfigError> {
    let has = |key: &str| section.setting(key).is_some();
    let (id, secret) = (has("s3.access_key_id"), has("s3.secret_access_key"));
    let given = if id { "s3.access_key_id" } else { "s3.secret_access_key" };
    if id != secret {
        let what = "access_key_id and secret_access_key are of no use without each other".to_owned();
        return Err(wrong(section, given, what, "give both, or none"));
    }
    if has("s3.credentials") && (id || has("s3.session_token")) {
        let what = "credentials stands in the place of the three keys, and they are given too".to_owned();
        return Err(wrong(section, "s3.credentials", what, "keep one of them"));
    }
    Ok(())
}
