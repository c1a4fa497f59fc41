//! `config`: the settings of this run and where each comes from. Nothing is connected to, and no secret is read.

use super::context::Context;
use super::error::CliError;
use super::{files, human};
use crate::config::schema::Shape;
use crate::config::{Kind, Origin, Section, Setting, Value};
use crate::exit::Exit;
use serde_json::json;

/// A setting that holds.
struct Row {
    section: String,
    key: &'static str,
    value: serde_json::Value,
    origin: String,
}

pub(super) fn run(context: &Context) -> Result<Exit, CliError> {
    let settings = &context.settings;
    let mut rows = section_rows(&settings.repository);
    let blocks: Vec<&Section> = settings.sources().collect();
    rows.extend(blocks.iter().copied().flat_map(section_rows));
    // Without a block, a kind is what the environment says.
    for kind in [Kind::Vault, Kind::Consul, Kind::Nomad] {
        if !blocks.iter().any(|section| section.kind == kind) {
            rows.extend(section_rows(&super::settings::environment(kind)));
        }
    }
    if context.console.is_json() {
        return rows.iter().try_for_each(|row| context.console.object(&object(row))).map(|()| Exit::Done);
    }
    let file = settings.path.as_ref().map_or_else(|| "none".to_owned(), |path| path.display().to_string());
    context.console.say(&format!("configuration file: {file}"));
    let cells = rows.into_iter().map(|row| vec![row.section, row.key.to_owned(), words(&row.value), row.origin]);
    let cells: Vec<Vec<String>> = cells.collect();
    context.console.show(&human::table(&["BLOCK", "KEY", "VALUE", "FROM"], &cells))?;
    Ok(Exit::Done)
}

fn section_rows(section: &Section) -> Vec<Row> {
    let row = |key, value, origin: String| Row { section: section.title(), key, value, origin };
    let mut rows = Vec::new();
    for key in section.kind.keys() {
        if let Some(setting) = section.setting(key.name) {
            rows.push(row(key.name, shown(key.shape, key.name, setting), setting.origin.to_string()));
        } else if let Some(value) = default(section, key.name) {
            rows.push(row(key.name, value, Origin::Default.to_string()));
        }
    }
    rows
}

/// A value without its secrets.
fn shown(shape: Shape, key: &str, setting: &Setting) -> serde_json::Value {
    match (&setting.value, shape) {
        (Value::Secret(reference), _) => json!(reference.to_string()),
        (Value::SecretMap(map), _) => {
            let map = map.iter().map(|(name, reference)| (name.clone(), json!(reference.to_string())));
            serde_json::Value::Object(map.collect())
        }
        (_, Shape::Secret(_) | Shape::SecretMap) => json!("[redacted]"),
        _ if key == "tls.ca_pem" => json!("[PEM]"),
        (Value::Text(text) | Value::Raw(text), _) => json!(without_password(key, text)),
        (Value::Texts(texts), _) if texts.len() == 1 => json!(without_password(key, &texts[0])),
        (Value::Texts(texts), _) => {
            json!(texts.iter().map(|text| without_password(key, text)).collect::<Vec<String>>())
        }
        (Value::Flag(flag), _) => json!(flag),
        (Value::Number(number), _) => json!(number),
        (Value::Count(count), _) => json!(count),
        (Value::Duration(duration), _) => json!(format!("{}s", duration.as_secs_f64())),
        (Value::TextMap(pairs), _) => {
            let pairs = pairs.iter().map(|(from, to)| (without_password(key, from), json!(without_password(key, to))));
            serde_json::Value::Object(pairs.collect())
        }
    }
}

/// Addresses may hold a user and a password, or, though nothing takes them so, a token in the query. What `consul://` asks
/// for is no secret.
fn without_password(key: &str, text: &str) -> String {
    let is_address = ["address", "leader_addresses", "url", "s3.endpoint"].contains(&key);
    if !is_address || !text.contains(['@', '?']) {
        return text.to_owned();
    }
    let one = |text: &str| {
        let is_catalog = text.starts_with("consul://");
        // The last `@`: whatever stands before it may belong to a password.
        let shown = match (text.split_once("://"), text.rsplit_once('@')) {
            (Some((scheme, _)), Some((_, host))) => format!("{scheme}://[redacted]@{host}"),
            (None, Some((_, host))) => format!("[redacted]@{host}"),
            _ => text.to_owned(),
        };
        match shown.split_once('?') {
            Some((address, _)) if !is_catalog => format!("{address}?[redacted]"),
            _ => shown,
        }
    };
    text.split(',').map(one).collect::<Vec<String>>().join(",")
}

/// What holds where nothing is said, as far as it is worth a line.
fn default(section: &Section, key: &str) -> Option<serde_json::Value> {
    Some(match (section.kind, key) {
        (Kind::Repository, "url") => json!(files::data_folder()?.display().to_string()),
        (Kind::Vault, "address") => json!("https://127.0.0.1:8200"),
        (Kind::Consul, "address") => json!("http://127.0.0.1:8500"),
        (Kind::Nomad, "address") => json!("http://127.0.0.1:4646"),
        (Kind::Repository | Kind::Agent, _) => return None,
        (_, "source") => json!(section.source_name()),
        (_, "backup") => json!(section.origin.is_some()),
        _ => return None,
    })
}

fn words(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::String(text) => text.clone(),
        serde_json::Value::Array(list) => list.iter().map(words).collect::<Vec<String>>().join(", "),
        serde_json::Value::Object(map) => {
            map.iter().map(|(name, value)| format!("{name} = {}", words(value))).collect::<Vec<String>>().join(", ")
        }
        other => other.to_string(),
    }
}

fn object(row: &Row) -> serde_json::Value {
    json!({ "type": "setting", "block": row.section, "key": row.key, "value": words(&row.value), "origin": row.origin })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_taken_out_of_addresses() {
        for (text, expected) in [
            ("https://vault:8200", "https://vault:8200"),
            ("https://me:p@ss@vault:8200", "https://[redacted]@vault:8200"),
            ("http://a:1,http://u:p@b:2", "http://a:1,http://[redacted]@b:2"),
            ("u:p@host:1", "[redacted]@host:1"),
            ("https://me:p?ss@vault:8200", "https://[redacted]@vault:8200"),
            ("https://vault:8200?token=s.x", "https://vault:8200?[redacted]"),
            ("https://vault:8200?token=s.x@y", "https://[redacted]@y"),
            ("consul://service/vault?tag=active", "consul://service/vault?tag=active"),
        ] {
            assert_eq!(without_password("address", text), expected);
        }
        assert_eq!(without_password("namespace", "a@b"), "a@b");
    }
}
