//! Values: from what was written to what a key takes.

use std::time::Duration;

use super::nearest::nearest;
use super::read::wants;
use super::schema::{References, Shape};
use super::section::{Reference, Value as Typed};
use super::tree::{Node, Value};

/// The highest count.
const COUNT_MAX: u32 = 1_000_000;

/// Why a value will not do, to be read after the key's name.
pub(super) struct Wrong {
    /// Where, if not at the value itself.
    pub(super) at: Option<usize>,
    pub(super) reason: String,
    pub(super) hint: Option<String>,
}

impl Wrong {
    fn at(at: usize, reason: impl Into<String>, hint: Option<String>) -> Self {
        Self { at: Some(at), reason: reason.into(), hint }
    }
}

/// The value of a shape.
pub(super) fn typed(shape: Shape, node: Node) -> Result<Typed, Wrong> {
    let at = node.at;
    let wrong = |value: &Value| Wrong::at(at, format!("is {}, not {}", value.name(), wants(shape)), None);
    match (shape, node.value) {
        (Shape::Text | Shape::Path, Value::Text(text)) => plain(at, text.expose()).map(Typed::Text),
        (Shape::Texts, Value::Text(text)) => Ok(Typed::Texts(vec![plain(at, text.expose())?])),
        (Shape::Texts, Value::List(list)) => {
            let texts = list.into_iter().map(|node| match &node.value {
                Value::Text(text) => plain(node.at, text.expose()),
                other => Err(Wrong::at(node.at, format!("holds {}, not a text", other.name()), None)),
            });
            let texts = texts.collect::<Result<Vec<String>, Wrong>>()?;
            if texts.is_empty() { Err(Wrong::at(at, "is empty", None)) } else { Ok(Typed::Texts(texts)) }
        }
        (Shape::Flag, Value::Flag(flag)) => Ok(Typed::Flag(flag)),
        (Shape::Percent, Value::Number(number)) => {
            let percent = number.parse().ok().filter(|percent: &u8| *percent <= 100);
            percent.map(Typed::Number).ok_or_else(|| Wrong::at(at, format!("is not {}", wants(shape)), None))
        }
        (Shape::Count, Value::Number(number)) => {
            let count = number.parse().ok().filter(|count: &u32| *count <= COUNT_MAX);
            count.map(Typed::Count).ok_or_else(|| Wrong::at(at, format!("is not {}", wants(shape)), None))
        }
        (Shape::Duration, Value::Text(text)) => {
            let found = duration(text.expose());
            found.map(Typed::Duration).ok_or_else(|| Wrong::at(at, format!("is not {}", wants(shape)), None))
        }
        (Shape::Choice(choices), Value::Text(text)) => match choices.iter().find(|choice| **choice == text.expose()) {
            Some(choice) => Ok(Typed::Text((*choice).to_owned())),
            None => {
                let near = nearest(text.expose(), choices.iter().copied()).map(|near| format!("did you mean {near}?"));
                Err(Wrong::at(at, format!("is not {}", wants(shape)), near))
            }
        },
        (Shape::Secret(allowed), value) => reference(Node { at, value }, allowed).map(Typed::Secret),
        (Shape::TextMap, Value::Body(members)) => {
            let pairs = members.into_iter().map(|member| match &member.node.value {
                Value::Text(text) => Ok((plain(member.at, &member.key)?, plain(member.node.at, text.expose())?)),
                other => Err(Wrong::at(member.node.at, format!("holds {}, not a text", other.name()), None)),
            });
            pairs.collect::<Result<_, Wrong>>().map(Typed::TextMap)
        }
        (Shape::SecretMap, Value::Body(members)) => {
            let pairs = members
                .into_iter()
                .map(|member| Ok((plain(member.at, &member.key)?, reference(member.node, References::Local)?)));
            pairs.collect::<Result<_, Wrong>>().map(Typed::SecretMap)
        }
        (_, Value::Call { .. }) => {
            let hint = "references stand for secrets only; other values are written out, or left to their variables";
            Err(Wrong::at(at, format!("is a reference, not {}", wants(shape)), Some(hint.into())))
        }
        (_, other) => Err(wrong(&other)),
    }
}

fn plain(at: usize, text: &str) -> Result<String, Wrong> {
    match text {
        "" => Err(Wrong::at(at, "is empty", None)),
        text => Ok(text.to_owned()),
    }
}

/// A number and a unit.
pub(super) fn duration(text: &str) -> Option<Duration> {
    let at = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(at);
    let number: u64 = number.parse().ok()?;
    let seconds = match unit {
        "ms" => return Some(Duration::from_millis(number)),
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        "w" => 604_800,
        _ => return None,
    };
    number.checked_mul(seconds).map(Duration::from_secs)
}

const FUNCTIONS: [&str; 5] = ["env", "file", "kv", "creds", "aws"];

fn reference(node: Node, allowed: References) -> Result<Reference, Wrong> {
    let at = node.at;
    let (name, arguments) = match node.value {
        Value::Text(text) if allowed != References::Aws => {
            plain(at, text.expose())?;
            return Ok(Reference::Literal(text));
        }
        Value::Call { name, arguments } => (name, arguments),
        other => return Err(Wrong::at(at, format!("is {}, not {}", other.name(), forms(allowed)), None)),
    };
    let mut texts = Vec::new();
    for argument in arguments {
        match argument.value {
            Value::Text(text) => texts.push(plain(argument.at, text.expose())?),
            other => return Err(Wrong::at(argument.at, format!("holds {}, not a text", other.name()), None)),
        }
    }
    let usage = |form: &str| Wrong::at(at, format!("is not of the form {form}"), None);
    let mut texts = texts.into_iter();
    let found = match (name.as_str(), texts.next(), texts.next(), texts.next()) {
        ("env", Some(name), None, _) => Reference::Env(name),
        ("env", ..) => return Err(usage("env(\"VARIABLE\")")),
        ("file", Some(path), None, _) => Reference::File(path.into()),
        ("file", ..) => return Err(usage("file(\"/path\")")),
        ("kv", Some(path), Some(field), None) => Reference::Kv { path, field },
        ("kv", ..) => return Err(usage("kv(\"mount/path\", \"field\")")),
        ("creds", Some(path), None, _) => Reference::Creds(path),
        ("creds", ..) => return Err(usage("creds(\"engine/creds/role\")")),
        ("aws", Some(path), None, _) => Reference::Aws(path),
        ("aws", ..) => return Err(usage("aws(\"aws/creds/role\")")),
        (other, ..) => {
            let near = nearest(other, FUNCTIONS).map(|near| format!("did you mean {near}?"));
            return Err(Wrong::at(at, format!("calls {other}, which is none of {}", FUNCTIONS.join(", ")), near));
        }
    };
    match may(&found, allowed) {
        true => Ok(found),
        false => Err(Wrong::at(at, format!("is {name}(…), not {}", forms(allowed)), None)),
    }
}

fn may(reference: &Reference, allowed: References) -> bool {
    match reference {
        Reference::Literal(_) | Reference::Env(_) | Reference::File(_) => allowed != References::Aws,
        Reference::Kv { .. } => matches!(allowed, References::Vault | References::Engine),
        Reference::Creds(_) => allowed == References::Engine,
        Reference::Aws(_) => allowed == References::Aws,
    }
}

fn forms(allowed: References) -> &'static str {
    match allowed {
        References::Local => "env(…), file(…) or a text",
        References::Vault => "env(…), file(…), kv(…) or a text",
        References::Engine => "env(…), file(…), kv(…), creds(…) or a text",
        References::Aws => "aws(…)",
    }
}
