//! JSON. It is checked by serde_json first; the walk after it only finds out where everything is.

use super::tree::{Member, Node, SyntaxError, Value};
use crate::source::Secret;

/// Functions that may stand for a secret, written `{"env": "X"}` here.
const CALLS: [&str; 5] = ["env", "file", "kv", "creds", "aws"];

/// Reads a file: one object.
pub(super) fn parse(text: &str) -> Result<Vec<Member>, SyntaxError> {
    if let Err(error) = serde_json::from_str::<serde::de::IgnoredAny>(text) {
        let at = offset(text, error.line(), error.column());
        let what = if error.is_eof() { "it ends too early" } else { "there is a mistake here" };
        return Err(SyntaxError { at, reason: format!("this is not JSON: {what}") });
    }
    let mut walk = Walk { text, at: 0 };
    match walk.node().value {
        Value::Body(members) => Ok(members),
        _ => Err(SyntaxError { at: 0, reason: "this is not a JSON object".into() }),
    }
}

fn offset(text: &str, line: usize, column: usize) -> usize {
    let before: usize = text.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum();
    (before + column.saturating_sub(1)).min(text.len())
}

/// Walks JSON that is known to be right; nesting is bounded by serde_json (128).
struct Walk<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Walk<'t> {
    fn rest(&self) -> &'t str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn blank(&mut self) {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start_matches([' ', '\t', '\n', '\r']).len();
    }

    fn next_is(&mut self, byte: char) -> bool {
        self.blank();
        let is = self.rest().starts_with(byte);
        self.at += usize::from(is);
        is
    }

    fn node(&mut self) -> Node {
        self.blank();
        let at = self.at;
        let value = match self.rest().bytes().next() {
            Some(b'{') => self.body(),
            Some(b'[') => self.list(),
            Some(b'"') => Value::Text(Secret::new(self.string())),
            _ => self.word(),
        };
        Node { at, value }
    }

    /// The raw text of a scalar.
    fn scalar(&mut self) -> &'t str {
        let rest = self.rest();
        let len = rest.find([',', '}', ']', ' ', '\t', '\n', '\r']).unwrap_or(rest.len()).max(1).min(rest.len());
        self.at += len;
        rest.get(..len).unwrap_or_default()
    }

    fn word(&mut self) -> Value {
        match self.scalar() {
            "null" | "" => Value::Null,
            "true" => Value::Flag(true),
            "false" => Value::Flag(false),
            number => Value::Number(number.to_owned()),
        }
    }

    fn string(&mut self) -> String {
        let rest = self.rest();
        let mut escaped = false;
        let end = rest.bytes().skip(1).position(|byte| {
            let is_end = byte == b'"' && !escaped;
            escaped = byte == b'\\' && !escaped;
            is_end
        });
        let len = end.map_or(rest.len(), |end| end + 2);
        self.at += len;
        serde_json::from_str(rest.get(..len).unwrap_or_default()).unwrap_or_default()
    }

    fn list(&mut self) -> Value {
        self.at += 1;
        let mut list = Vec::new();
        while !self.next_is(']') && self.at < self.text.len() {
            list.push(self.node());
            self.next_is(',');
        }
        Value::List(list)
    }

    fn body(&mut self) -> Value {
        self.at += 1;
        let mut members = Vec::new();
        while !self.next_is('}') && self.at < self.text.len() {
            self.blank();
            let at = self.at;
            let key = self.string();
            self.next_is(':');
            members.push(Member { key, at, labels: Vec::new(), node: self.node() });
            self.next_is(',');
        }
        call(members)
    }
}

/// `{"env": "X"}` is `env("X")`, `{"kv": ["path", "field"]}` is `kv("path", "field")`.
fn call(mut members: Vec<Member>) -> Value {
    let is_call = |member: &Member| {
        CALLS.contains(&member.key.as_str()) && matches!(member.node.value, Value::Text(_) | Value::List(_))
    };
    match members.pop() {
        Some(only) if members.is_empty() && is_call(&only) => {
            let arguments = match only.node {
                Node { value: Value::List(list), .. } => list,
                node => vec![node],
            };
            Value::Call { name: only.key, arguments }
        }
        Some(last) => {
            members.push(last);
            Value::Body(members)
        }
        None => Value::Body(members),
    }
}
