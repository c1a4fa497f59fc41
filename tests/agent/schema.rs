//! The OpenAPI document, and a check of answers against it: the part of JSON Schema that it uses.

use hah_vault::agent::api::OPENAPI;
use serde_json::Value;

/// The document.
pub fn document() -> Value {
    serde_json::from_str(OPENAPI).unwrap()
}

fn resolve<'d>(document: &'d Value, schema: &'d Value) -> &'d Value {
    match schema["$ref"].as_str() {
        Some(path) => document.pointer(path.trim_start_matches('#')).unwrap_or_else(|| panic!("{path} is missing")),
        None => schema,
    }
}

fn is_of_type(value: &Value, name: &str) -> bool {
    match name {
        "null" => value.is_null(),
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "boolean" => value.is_boolean(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("type {other} is not known to the tests"),
    }
}

/// What is wrong with a value, by a schema.
pub fn faults(document: &Value, schema: &Value, value: &Value, at: &str, found: &mut Vec<String>) {
    let schema = resolve(document, schema);
    if let Some(choices) = schema["oneOf"].as_array() {
        let fits = choices.iter().filter(|choice| {
            let mut faulty = Vec::new();
            faults(document, choice, value, at, &mut faulty);
            faulty.is_empty()
        });
        if fits.count() != 1 {
            found.push(format!("{at}: {value} fits not exactly one choice"));
        }
        return;
    }
    let types: Vec<&str> = match &schema["type"] {
        Value::String(name) => vec![name.as_str()],
        Value::Array(names) => names.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    if !types.is_empty() && !types.iter().any(|name| is_of_type(value, name)) {
        return found.push(format!("{at}: {value} is not {types:?}"));
    }
    if schema["enum"].as_array().is_some_and(|values| !values.contains(value)) {
        found.push(format!("{at}: {value} is not one of {}", schema["enum"]));
    }
    if let (Some("date-time"), Some(text)) = (schema["format"].as_str(), value.as_str())
        && hah_vault::agent::Moment::try_from(text.to_owned()).is_err()
    {
        found.push(format!("{at}: {text} is no time"));
    }
    if let Value::Object(fields) = value {
        for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            if !fields.contains_key(name) {
                found.push(format!("{at}: {name} is missing"));
            }
        }
        for (name, field) in fields {
            match schema["properties"].get(name) {
                Some(schema) => faults(document, schema, field, &format!("{at}.{name}"), found),
                None if schema["additionalProperties"] == false => found.push(format!("{at}: {name} is not described")),
                None => {}
            }
        }
    }
    for (number, item) in value.as_array().into_iter().flatten().enumerate() {
        faults(document, &schema["items"], item, &format!("{at}[{number}]"), found);
    }
}

/// Panics unless an answer is one that the document describes.
pub fn check_answer(method: &str, path: &str, status: u16, kind: &str, body: &Value) {
    let document = document();
    let operation = &document["paths"][path][method.to_lowercase()];
    assert!(operation.is_object(), "{method} {path} is not described");
    let response = resolve(&document, &operation["responses"][status.to_string()]);
    assert!(response.is_object(), "{method} {path}: status {status} is not described");
    if response["content"].is_null() {
        return assert!(body.is_null(), "{method} {path}: a body of {status}");
    }
    let schema = &response["content"][kind]["schema"];
    assert!(schema.is_object(), "{method} {path}: {status} as {kind} is not described");
    let mut found = Vec::new();
    faults(&document, schema, body, "body", &mut found);
    assert_eq!(found, Vec::<String>::new(), "{method} {path}: {body}");
}

#[test]
fn every_reference_of_the_document_leads_somewhere() {
    fn walk(document: &Value, value: &Value) {
        if value["$ref"].is_string() {
            resolve(document, value);
        }
        match value {
            Value::Object(fields) => fields.values().for_each(|value| walk(document, value)),
            Value::Array(items) => items.iter().for_each(|value| walk(document, value)),
            _ => {}
        }
    }
    let document = document();
    walk(&document, &document);
}

#[test]
fn the_check_of_answers_finds_what_is_wrong() {
    let document = document();
    let schema = serde_json::json!({"$ref": "#/components/schemas/Storage"});
    let good = serde_json::json!({"objects": 1, "bytes": 2, "budget_bytes": null, "measured": "2026-11-22T14:00:00Z"});
    let count = |value: &Value| {
        let mut found = Vec::new();
        faults(&document, &schema, value, "", &mut found);
        found.len()
    };
    assert_eq!(count(&good), 0);
    for (field, value) in
        [("objects", Value::from("1")), ("measured", Value::from("yesterday")), ("more", Value::from(1))]
    {
        let mut bad = good.clone();
        bad[field] = value;
        assert_eq!(count(&bad), 1, "{bad}");
    }
    let mut bad = good;
    bad.as_object_mut().unwrap().remove("bytes");
    assert_eq!(count(&bad), 1);
}
