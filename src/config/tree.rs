//! What HCL and JSON have in common: members with values, each with its place.

use crate::source::Secret;

/// A value, and the byte at which it begins.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) at: usize,
    pub(super) value: Value,
}

/// A value. Texts may be secrets.
#[derive(Debug)]
pub(super) enum Value {
    Null,
    Flag(bool),
    Number(String),
    Text(Secret),
    List(Vec<Node>),
    Body(Vec<Member>),
    Call {
        name: String,
        arguments: Vec<Node>,
    },
    /// What has no meaning here, in words.
    Other(&'static str),
}

/// `key = value`, or `key "label" { … }`.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) key: String,
    pub(super) at: usize,
    pub(super) labels: Vec<Label>,
    pub(super) node: Node,
}

/// A block's label.
#[derive(Debug, Clone)]
pub(super) struct Label {
    pub(super) text: String,
    pub(super) at: usize,
}

/// The text is not HCL, or not JSON.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct SyntaxError {
    pub(super) at: usize,
    /// In words that repeat nothing of it.
    pub(super) reason: String,
}

impl Value {
    /// What it is, for messages about what it should be.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Flag(_) => "true or false",
            Self::Number(_) => "a number",
            Self::Text(_) => "a text",
            Self::List(_) => "a list",
            Self::Body(_) => "a block",
            Self::Call { .. } => "a reference",
            Self::Other(name) => name,
        }
    }
}
