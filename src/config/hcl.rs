//! HCL.

use hcl_edit::Span;
use hcl_edit::expr::{Expression, Object, ObjectKey};
use hcl_edit::structure::{Block, Body, Structure};
use hcl_edit::template::{Element, Template};

use super::tree::{Label, Member, Node, SyntaxError, Value};
use crate::source::Secret;

/// How deeply anything may be nested: nothing of use is deeper than four, and the parser recurses.
const NESTING_MAX: usize = 64;

/// Reads a file.
pub(super) fn parse(text: &str) -> Result<Vec<Member>, SyntaxError> {
    refuse_deep(text)?;
    match hcl_edit::parser::parse_body(text) {
        Ok(body) => Ok(members(&body)),
        Err(error) => {
            Err(SyntaxError { at: error.location().offset(), reason: format!("this is not HCL: {}", error.message()) })
        }
    }
}

/// Counts opening brackets, also those in texts and comments: it need not be exact.
fn refuse_deep(text: &str) -> Result<(), SyntaxError> {
    let mut depth = 0_usize;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > NESTING_MAX {
            return Err(SyntaxError { at, reason: "it is nested too deeply".into() });
        }
    }
    Ok(())
}

fn start(of: &impl Span) -> usize {
    of.span().map_or(0, |span| span.start)
}

fn members(body: &Body) -> Vec<Member> {
    body.iter().map(member).collect()
}

fn member(structure: &Structure) -> Member {
    match structure {
        Structure::Attribute(attribute) => Member {
            key: attribute.key.as_str().to_owned(),
            at: start(&attribute.key),
            labels: Vec::new(),
            node: node(&attribute.value),
        },
        Structure::Block(block) => block_member(block),
    }
}

fn block_member(block: &Block) -> Member {
    let at = start(&block.ident);
    let labels = block.labels.iter().map(|label| Label { text: label.as_str().to_owned(), at: start(label) });
    let node = Node { at, value: Value::Body(members(&block.body)) };
    Member { key: block.ident.as_str().to_owned(), at, labels: labels.collect(), node }
}

fn node(expression: &Expression) -> Node {
    Node { at: start(expression), value: value(expression) }
}

fn value(expression: &Expression) -> Value {
    match expression {
        Expression::Null(_) => Value::Null,
        Expression::Bool(flag) => Value::Flag(*flag.value()),
        Expression::Number(number) => Value::Number(number.value().to_string()),
        Expression::String(text) => Value::Text(Secret::from(text.value().as_str())),
        Expression::Array(list) => Value::List(list.iter().map(node).collect()),
        Expression::Object(object) => Value::Body(object_members(object)),
        Expression::Parenthesis(inner) => value(inner.inner()),
        Expression::StringTemplate(template) => string_template(template),
        Expression::HeredocTemplate(heredoc) => {
            let mut heredoc = heredoc.clone();
            heredoc.dedent();
            literal(&heredoc.template)
        }
        Expression::FuncCall(call) if !call.name.is_namespaced() => {
            Value::Call { name: call.name.name.as_str().to_owned(), arguments: call.args.iter().map(node).collect() }
        }
        Expression::Variable(_) | Expression::Traversal(_) => Value::Other("a bare word: texts stand in quotes"),
        _ => Value::Other("an expression, and none is computed here"),
    }
}

fn object_members(object: &Object) -> Vec<Member> {
    let member = |(key, value): (&ObjectKey, &hcl_edit::expr::ObjectValue)| {
        let (at, key) = match key {
            ObjectKey::Ident(ident) => (start(ident), ident.as_str().to_owned()),
            ObjectKey::Expression(key) => (start(key), key.as_str().unwrap_or_default().to_owned()),
        };
        Member { key, at, labels: Vec::new(), node: node(value.expr()) }
    };
    object.iter().map(member).collect()
}

/// `"${env("X")}"` is `env("X")`.
fn string_template(template: &hcl_edit::template::StringTemplate) -> Value {
    let mut elements = template.iter();
    match (elements.next(), elements.next()) {
        (Some(Element::Interpolation(inner)), None) => value(&inner.expr),
        _ => Value::Other("a template; write $${ for a plain ${"),
    }
}

fn literal(template: &Template) -> Value {
    let mut text = String::new();
    for element in template.iter() {
        match element {
            Element::Literal(part) => text.push_str(part),
            _ => return Value::Other("a template; write $${ for a plain ${"),
        }
    }
    Value::Text(Secret::new(text))
}
