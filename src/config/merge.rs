//! The environment and a block become one.

use super::schema::{Key, Kind, Shape, Variable};
use super::section::{Origin, Reference, Section, Setting, Value};
use crate::source::Secret;

/// Looks a variable up.
pub type Lookup<'l> = &'l dyn Fn(&str) -> Option<String>;

/// Who wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precedence {
    /// Variables beat the block: the only block of its kind.
    Environment,
    /// The block beats variables, which fill in what it does not say: one of several, without an address.
    Block,
    /// Variables do not count: one of several, with an address of its own. They are about another cluster.
    BlockOnly,
}

impl Precedence {
    /// That of a block, one of so many of its kind.
    pub fn of(section: &Section, blocks_of_its_kind: usize) -> Self {
        match (blocks_of_its_kind, section.setting("address")) {
            (0 | 1, _) => Self::Environment,
            (_, Some(_)) => Self::BlockOnly,
            (_, None) => Self::Block,
        }
    }
}

/// The block with what the environment says. Keys of one group all come from one of the two.
pub fn merge(block: &Section, lookup: Lookup<'_>, precedence: Precedence) -> Section {
    let mut merged = Section { sees_environment: precedence != Precedence::BlockOnly, ..block.clone() };
    if precedence == Precedence::BlockOnly {
        return merged;
    }
    let environment = environment(block.kind, lookup);
    let is_in_group = |section: &Section, key: &Key| {
        let same = |other: &&'static Key| other.name == key.name || !key.group.is_empty() && other.group == key.group;
        block.kind.keys().filter(same).any(|other| section.settings.contains_key(other.name))
    };
    for key in block.kind.keys() {
        let replaces = match precedence {
            Precedence::Environment => is_in_group(&environment, key),
            _ => !is_in_group(block, key) && is_in_group(&environment, key),
        };
        if replaces {
            merged.settings.remove(key.name);
            if let Some(setting) = environment.settings.get(key.name) {
                merged.settings.insert(key.name, setting.clone());
            }
        }
    }
    merged
}

/// What the variables alone say.
fn environment(kind: Kind, lookup: Lookup<'_>) -> Section {
    let mut section = Section::empty(kind);
    for key in kind.keys() {
        let found = key.variables.iter().find_map(|variable| {
            let text = lookup(variable.name()).filter(|text| !text.is_empty())?;
            Some((*variable, text))
        });
        if let Some((variable, text)) = found {
            let origin = Origin::Variable(variable.name().to_owned());
            section.settings.insert(key.name, Setting { value: value(key, variable, text), origin });
        }
    }
    // Whoever names a way to log in means it; a token may have been put there by Nomad.
    let has_login = section.settings.contains_key("auth");
    section.settings.retain(|name, _| match *name {
        "token" => !has_login,
        name if name.starts_with("auth.") => has_login,
        _ => true,
    });
    section
}

fn value(key: &Key, variable: Variable, text: String) -> Value {
    match (key.shape, variable) {
        (_, Variable::File(_)) => Value::Secret(Reference::File(text.into())),
        (_, Variable::Creds(_)) => Value::Secret(Reference::Creds(text)),
        (Shape::Secret(_), _) => Value::Secret(Reference::Literal(Secret::from(text.trim()))),
        _ => Value::Raw(text),
    }
}

impl Section {
    /// What the readers of variables find: the settings under their variables' names; of the environment only what is
    /// no setting of its own. Secrets are left out, they are read when they are used.
    pub fn variable(&self, name: &str, lookup: Lookup<'_>) -> Option<String> {
        let has = |key: &Key| key.variables.iter().any(|variable| variable.name() == name);
        if !self.kind.keys().any(has) {
            return lookup(name).filter(|_| self.sees_environment);
        }
        for (key, setting) in self.settings() {
            match &setting.origin {
                Origin::Variable(variable) => {
                    if let (true, Value::Raw(text)) = (variable == name, &setting.value) {
                        return Some(text.clone());
                    }
                }
                _ => {
                    let last = self.kind.key(key).and_then(|key| key.variables.last());
                    if let Some(last) = last.filter(|last| last.name() == name) {
                        return rendered(&setting.value, *last);
                    }
                }
            }
        }
        None
    }

    /// The key that a variable of this name stands for.
    pub fn key_of_variable(&self, name: &str) -> Option<&'static str> {
        let has = |key: &&'static Key| key.variables.iter().any(|variable| variable.name() == name);
        self.kind.keys().filter(has).map(|key| key.name).find(|key| self.settings.contains_key(key))
    }
}

/// A value of the file in its variable's form.
fn rendered(value: &Value, variable: Variable) -> Option<String> {
    Some(match value {
        Value::Text(text) | Value::Raw(text) => text.clone(),
        Value::Texts(texts) => texts.join(","),
        Value::Flag(flag) => (*flag != matches!(variable, Variable::Not(_))).to_string(),
        Value::Number(number) => number.to_string(),
        Value::Count(count) => count.to_string(),
        Value::Duration(duration) => format!("{}ms", duration.as_millis()),
        Value::TextMap(pairs) => {
            pairs.iter().map(|(from, to)| format!("{from}={to}")).collect::<Vec<String>>().join(",")
        }
        Value::Secret(_) | Value::SecretMap(_) => return None,
    })
}
