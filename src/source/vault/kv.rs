//! Secrets in key-value stores of version 1 and 2 (facts 1.8).

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::super::error::Operation;
use super::super::secret::Secret;
use super::super::{ServiceKind, SourceError, lock};
use super::api::{Call, Reply};
use super::error::{SessionError, denied};
use super::path;
use super::session::Inner;
use crate::snapshot::printable::printable;

/// The fields of a secret.
#[derive(Debug, Clone)]
pub struct Secrets {
    path: String,
    fields: BTreeMap<String, Field>,
}

impl Secrets {
    /// A field's text; numbers and truth values are taken as they are written.
    ///
    /// # Errors
    /// [`SessionError::NoField`] naming the path, the field, and the fields that there are; [`SessionError::NotText`].
    pub fn get(&self, field: &str) -> Result<&Secret, SourceError> {
        let (path, name) = (self.path.clone(), field.to_owned());
        match self.fields.get(field) {
            Some(Field::Text(secret)) => Ok(secret),
            Some(Field::Other) => Err(SessionError::NotText { path, field: name }.into()),
            None => {
                Err(SessionError::NoField { path, field: name, fields: self.names().map(Into::into).collect() }.into())
            }
        }
    }

    /// The names of its fields, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.fields.keys().map(String::as_str)
    }
}

/// A field's value.
#[derive(Debug, Clone)]
enum Field {
    Text(Secret),
    /// A list, an object, or null.
    Other,
}

impl<'de> Deserialize<'de> for Field {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(FieldVisitor)
    }
}

struct FieldVisitor;

impl<'de> Visitor<'de> for FieldVisitor {
    type Value = Field;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_str<E>(self, text: &str) -> Result<Field, E> {
        Ok(Field::Text(Secret::from(text)))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Field, E> {
        Ok(Field::Text(Secret::new(value.to_string())))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Field, E> {
        Ok(Field::Text(Secret::new(value.to_string())))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Field, E> {
        Ok(Field::Text(Secret::new(value.to_string())))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Field, E> {
        Ok(Field::Text(Secret::new(value.to_string())))
    }

    fn visit_unit<E>(self) -> Result<Field, E> {
        Ok(Field::Other)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Field, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Field::Other)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Field, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Field::Other)
    }
}

/// What is mounted at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Mount {
    /// Version 1, or a Vault that does not know the question.
    V1,
    /// Version 2.
    V2,
}

#[derive(Deserialize)]
struct Answered<T> {
    data: T,
}

#[derive(Deserialize)]
struct MountData {
    /// `secret/`
    path: String,
    r#type: String,
    options: Option<MountOptions>,
}

#[derive(Deserialize)]
struct MountOptions {
    version: Option<String>,
}

/// A secret of version 2, with what is known of a deleted one.
#[derive(Deserialize)]
struct Versioned {
    data: Option<BTreeMap<String, Field>>,
    metadata: Metadata,
}

#[derive(Deserialize)]
struct Metadata {
    version: u64,
    #[serde(default)]
    deletion_time: String,
    #[serde(default)]
    destroyed: bool,
}

type Fields = BTreeMap<String, Field>;

impl Inner {
    pub(super) async fn secrets(self: &Arc<Self>, text: &str) -> Result<Secrets, SourceError> {
        let (path, query) = path::with_query(text)?;
        let (mount, kind) = self.mount(&path).await?;
        let Some(below) = path.strip_prefix(mount.as_str()).filter(|below| !below.is_empty()) else {
            let (service, name) = (ServiceKind::Vault, format!("the path {text}"));
            return Err(SourceError::Setting { service, name, reason: "it is a mount, and no secret in it".into() });
        };
        let of_api = match kind {
            Mount::V1 => path.clone(),
            Mount::V2 => format!("{mount}data/{below}"),
        };
        let mut call = Call::get(Operation::Secret, format!("/v1/{of_api}{query}"));
        call.takes_404 = true;
        let reply = self.send(call).await.map_err(|error| denied(error, &of_api, "read"))?;
        let fields = match kind {
            Mount::V2 => versioned(&reply, text)?,
            Mount::V1 if reply.status == 404 => None,
            Mount::V1 => reply.parse::<Answered<Option<Fields>>>()?.data,
        };
        let path = text.to_owned();
        match fields {
            Some(fields) => Ok(Secrets { path, fields }),
            None => Err(SessionError::NoSecret { address: reply.address, path }.into()),
        }
    }

    /// The mount of a path, with a slash at its end, and its version; asked for once.
    async fn mount(self: &Arc<Self>, path: &str) -> Result<(String, Mount), SourceError> {
        let known = lock(&self.mounts).iter().find(|(mount, _)| path.starts_with(mount.as_str())).map(owned);
        if let Some(known) = known {
            return Ok(known);
        }
        let mut call = Call::get(Operation::Look, format!("/v1/sys/internal/ui/mounts/{path}"));
        call.takes_404 = true;
        let reply = self.send(call).await.map_err(|error| denied(error, path, "read"))?;
        if reply.status == 404 {
            // As Vault's own client has it: a server from before the question. A secret has the path that is asked for.
            return Ok((String::new(), Mount::V1));
        }
        let MountData { path: mount, r#type, options } = reply.parse::<Answered<MountData>>()?.data;
        let version = options.and_then(|options| options.version);
        let kind = match (r#type.as_str(), version.as_deref()) {
            ("kv", Some("2")) => Mount::V2,
            ("kv" | "generic" | "cubbyhole", _) => Mount::V1,
            _ => {
                let (mount, kind) = (printable(mount.as_bytes()), printable(r#type.as_bytes()));
                return Err(SessionError::NotKv { mount, kind }.into());
            }
        };
        let mount = format!("{}/", path::checked(&mount)?);
        if !format!("{path}/").starts_with(&mount) {
            return Err(reply.nonsense("it names a mount that the path is not in"));
        }
        lock(&self.mounts).insert(mount.clone(), kind.clone());
        Ok((mount, kind))
    }
}

fn owned((mount, kind): (&String, &Mount)) -> (String, Mount) {
    (mount.clone(), kind.clone())
}

/// The fields; none if nothing is there.
fn versioned(reply: &Reply, path: &str) -> Result<Option<Fields>, SourceError> {
    let found = match reply.parse::<Answered<Versioned>>() {
        Ok(found) => found.data,
        // `{"errors":[]}`, or only a warning.
        Err(_) if reply.status == 404 => return Ok(None),
        Err(error) => return Err(error),
    };
    let Metadata { version, deletion_time, destroyed } = found.metadata;
    match found.data {
        Some(fields) => Ok(Some(fields)),
        None => {
            let deletion_time = printable(deletion_time.as_bytes());
            let how = if destroyed { "destroyed".into() } else { format!("deleted at {deletion_time}") };
            Err(SessionError::Deleted { path: path.to_owned(), version, how }.into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_texts_or_what_can_be_written_as_one() {
        let json = r#"{"a":"hidden","b":3,"c":true,"d":null,"e":{"f":[1]},"g":[1,"2"],"h":-1,"i":1.5}"#;
        let secrets = Secrets { path: "p".into(), fields: serde_json::from_str(json).expect("fields") };
        for (field, text) in [("a", "hidden"), ("b", "3"), ("c", "true"), ("h", "-1"), ("i", "1.5")] {
            assert_eq!(secrets.get(field).expect(field).expose(), text);
        }
        for field in ["d", "e", "g"] {
            assert!(secrets.get(field).expect_err(field).to_string().contains("is not a text"));
        }
        let error = secrets.get("z").expect_err("missing").to_string();
        assert_eq!(error, "the secret p has no field z; it has a, b, c, d, e, g, h, i");
        assert!(!format!("{secrets:?}").contains("hidden"));
        let many: BTreeMap<String, Field> = (0..25).map(|i| (format!("\u{1b}{i:02}"), Field::Other)).collect();
        let error = Secrets { path: "p".into(), fields: many }.get("z").expect_err("missing").to_string();
        assert!(error.contains("it has .00, .01, ") && error.ends_with(".19, and 5 more"), "{error}");
    }
}
