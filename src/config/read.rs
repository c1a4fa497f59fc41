//! From members to blocks: every key must be known, and its value of the shape that it takes.

use std::path::Path;
use std::sync::Arc;

use super::error::{ConfigError, Place};
use super::nearest::nearest;
use super::schema::{Key, Kind, LOGINS, Shape};
use super::section::{Origin, Reference, Section, Setting, Value as Typed};
use super::tree::{Label, Member, Node, SyntaxError, Value};
use super::values;

/// A file that is read.
pub(super) struct Reader<'t> {
    pub(super) path: Arc<Path>,
    pub(super) text: &'t str,
    pub(super) warnings: Vec<String>,
}

/// A block, whatever it was written in.
struct Block {
    label: Option<Label>,
    at: usize,
    members: Vec<Member>,
}

/// Most blocks: many more than clusters that one host backs up.
const BLOCKS_MAX: usize = 1000;
/// The names of sub-blocks.
const SUB_BLOCKS: [&str; 7] = ["tls", "auth", "s3", "lock", "consul_service", "schedule", "retention"];

impl Reader<'_> {
    pub(super) fn error(&self, at: usize, what: impl Into<String>, hint: Option<String>) -> ConfigError {
        let place = Place::of(self.path.to_path_buf(), self.text, at);
        ConfigError::At { place, what: what.into(), hint }
    }

    pub(super) fn syntax(&self, error: SyntaxError) -> ConfigError {
        let place = Place::of(self.path.to_path_buf(), self.text, error.at).without_excerpt();
        ConfigError::At { place, what: error.reason, hint: None }
    }

    fn line(&self, at: usize) -> usize {
        Place::of(self.path.to_path_buf(), self.text, at).line
    }

    fn origin(&self, at: usize) -> Origin {
        Origin::File { path: Arc::clone(&self.path), line: self.line(at) }
    }

    /// All blocks of a file.
    pub(super) fn sections(&mut self, members: Vec<Member>) -> Result<Vec<Section>, ConfigError> {
        let mut sections = Vec::new();
        for member in members {
            let Some(kind) = Kind::ALL.into_iter().find(|kind| kind.name() == member.key) else {
                let names = Kind::ALL.map(Kind::name);
                return Err(self.unknown("block", &member.key, member.at, "a configuration", &names));
            };
            for block in self.blocks(kind, member)? {
                if sections.len() == BLOCKS_MAX {
                    return Err(self.error(block.at, format!("there are more than {BLOCKS_MAX} blocks"), None));
                }
                sections.push(self.section(kind, block)?);
            }
        }
        Ok(sections)
    }

    fn unknown(&self, what: &str, key: &str, at: usize, of: &str, known: &[&str]) -> ConfigError {
        let near = nearest(key, known.iter().copied()).map(|near| format!("did you mean {near}? "));
        let hint = format!("{}known are: {}", near.unwrap_or_default(), known.join(", "));
        self.error(at, format!("{of} has no {what} {key:?}"), Some(hint))
    }

    /// A block, or several: JSON writes labels as keys, and blocks of one kind as a list.
    fn blocks(&self, kind: Kind, member: Member) -> Result<Vec<Block>, ConfigError> {
        let Member { key, at, mut labels, node } = member;
        if labels.len() > 1 {
            return Err(self.error(at, format!("a {key} block has at most one label"), None));
        }
        let label = labels.pop();
        let blocks = match node.value {
            Value::List(list) if label.is_none() => {
                let mut blocks = Vec::new();
                for node in list {
                    blocks.extend(self.blocks(kind, Member { key: key.clone(), at: node.at, labels: vec![], node })?);
                }
                return Ok(blocks);
            }
            Value::Body(members) if label.is_none() && are_labelled(kind, &members) => {
                let mut blocks = Vec::new();
                for Member { key: label, at: label_at, node, .. } in members {
                    let labels = vec![Label { text: label, at: label_at }];
                    blocks.extend(self.blocks(kind, Member { key: key.clone(), at: label_at, labels, node })?);
                }
                return Ok(blocks);
            }
            Value::Body(members) => vec![Block { label, at, members }],
            other => return Err(self.error(node.at, format!("{key} is {}, not a block", other.name()), None)),
        };
        for block in &blocks {
            match (&block.label, kind) {
                (Some(label), Kind::Repository | Kind::Agent) => {
                    return Err(self.error(label.at, format!("there is one {key}: it has no label"), None));
                }
                (None, Kind::File) => {
                    return Err(self.error(at, "a file block needs a label: the source's name", None));
                }
                _ => {}
            }
        }
        Ok(blocks)
    }

    fn section(&mut self, kind: Kind, block: Block) -> Result<Section, ConfigError> {
        let Block { label, at, members } = block;
        let label = label.map(|label| label.text);
        let mut section = Section { label, origin: Some(self.origin(at)), ..Section::empty(kind) };
        for member in members {
            if SUB_BLOCKS.contains(&member.key.as_str()) && sub_keys(kind, &member.key).next().is_some() {
                self.sub_block(&mut section, member)?;
            } else {
                self.member(&mut section, "", member)?;
            }
        }
        if let (Some(_), Some(auth)) = (section.setting("token"), section.setting("auth")) {
            let what = format!("{} has both a token and an auth block (at {})", section.title(), auth.origin);
            return Err(self.error(at, what, Some("keep one of them".into())));
        }
        Ok(section)
    }

    fn sub_block(&mut self, section: &mut Section, member: Member) -> Result<(), ConfigError> {
        let Member { key, at, mut labels, node } = member;
        let Value::Body(mut members) = node.value else {
            return Err(self.error(node.at, format!("{key} is {}, not a block", node.value.name()), None));
        };
        if section.settings().any(|(name, _)| prefix(name) == key) {
            return Err(self.error(at, format!("{key} is given twice"), None));
        }
        if key != "auth" {
            if let Some(label) = labels.first() {
                return Err(self.error(label.at, format!("a {key} block has no label"), None));
            }
            return members.into_iter().try_for_each(|member| self.member(section, &key, member));
        }
        // JSON writes the method as the only key.
        if labels.is_empty() && members.len() == 1 {
            let only = members.remove(0);
            labels.push(Label { text: only.key, at: only.at });
            members = match only.node.value {
                Value::Body(members) => members,
                other => return Err(self.error(only.node.at, format!("auth is {}, not a block", other.name()), None)),
            };
        }
        let methods = LOGINS.map(|(name, _)| name);
        let hint = || Some(format!("write auth \"METHOD\" {{ … }} with one of: {}", methods.join(", ")));
        let [label] = labels.as_slice() else {
            return Err(self.error(at, "an auth block has one label, the method", hint()));
        };
        let Some((method, keys)) = LOGINS.into_iter().find(|(name, _)| *name == label.text) else {
            return Err(self.unknown("method", &label.text, label.at, "auth", &methods));
        };
        let setting = Setting { value: Typed::Text(method.into()), origin: self.origin(at) };
        section.settings.insert("auth", setting);
        for member in members {
            if !keys.contains(&member.key.as_str()) {
                return Err(self.unknown("key", &member.key, member.at, &format!("auth {method:?}"), keys));
            }
            self.member(section, "auth", member)?;
        }
        Ok(())
    }

    fn member(&mut self, section: &mut Section, block: &str, member: Member) -> Result<(), ConfigError> {
        let Member { key, at, labels, node } = member;
        let name = if block.is_empty() { key.clone() } else { format!("{block}.{key}") };
        let of = if block.is_empty() { section.title() } else { format!("the {block} block of {}", section.title()) };
        let found = section.kind.key(&name).filter(|_| !key.contains('.'));
        let Some(found) = found else {
            let known: Vec<&str> = known_keys(section.kind, block);
            return Err(self.unknown("key", &key, at, &of, &known));
        };
        if let Some(label) = labels.first() {
            return Err(self.error(label.at, format!("{key} has no label"), None));
        }
        let value = self.value(found, node)?;
        if let Typed::Secret(Reference::Literal(_)) = &value
            && !["s3.access_key_id", "auth.role_id"].contains(&found.name)
        {
            let place = self.origin(at);
            self.warnings.push(format!(
                "{place}: {} of {} is written out: a reference such as env(\"NAME\") or file(\"/path\") keeps it out of \
                 the configuration",
                found.name,
                section.title()
            ));
        }
        if section.settings.contains_key(found.name) {
            return Err(self.error(at, format!("{key} is given twice"), None));
        }
        section.settings.insert(found.name, Setting { value, origin: self.origin(at) });
        Ok(())
    }

    fn value(&self, key: &Key, node: Node) -> Result<Typed, ConfigError> {
        let at = node.at;
        values::typed(key.shape, node).map_err(|wrong| {
            let name = key.name;
            self.error(wrong.at.unwrap_or(at), format!("{name} {}", wrong.reason), wrong.hint)
        })
    }
}

/// Whether the members are blocks with their labels as keys.
fn are_labelled(kind: Kind, members: &[Member]) -> bool {
    let known = known_keys(kind, "");
    let is_label = |member: &Member| {
        matches!(member.node.value, Value::Body(_) | Value::List(_)) && !known.contains(&member.key.as_str())
    };
    kind.is_source() && !members.is_empty() && members.iter().all(is_label)
}

fn prefix(name: &str) -> &str {
    name.split('.').next().unwrap_or(name)
}

fn sub_keys(kind: Kind, block: &str) -> impl Iterator<Item = &'static str> {
    kind.keys().filter_map(move |key| key.name.split_once('.').filter(|(first, _)| *first == block).map(|(_, key)| key))
}

/// The keys that may stand in a block or sub-block.
fn known_keys(kind: Kind, block: &str) -> Vec<&'static str> {
    if !block.is_empty() {
        return sub_keys(kind, block).collect();
    }
    let mut names: Vec<&'static str> = kind.keys().map(|key| prefix(key.name)).collect();
    names.dedup();
    names
}

/// What a shape wants, for messages.
pub(super) fn wants(shape: Shape) -> String {
    match shape {
        Shape::Text => "a text".into(),
        Shape::Path => "a path".into(),
        Shape::Texts => "a text or a list of texts".into(),
        Shape::Flag => "true or false".into(),
        Shape::Percent => "a whole number from 0 to 100".into(),
        Shape::Count => "a whole number from 0 to 1000000".into(),
        Shape::Duration => "a time like \"30s\", \"15m\", \"12h\", \"90d\" or \"2w\"".into(),
        Shape::Choice(choices) => format!("one of: {}", choices.join(", ")),
        Shape::Secret(_) => "a reference to a secret, or a text".into(),
        Shape::TextMap => "a map of texts: { \"from\" = \"to\" }".into(),
        Shape::SecretMap => "a map: { \"name\" = env(\"X\") }".into(),
    }
}
