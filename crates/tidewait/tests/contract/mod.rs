//! What a program printed, held against the committed schema.

use serde_json::Value;

/// Fails with every place at which `value` breaks the schema, whose text this is.
pub fn holds(value: &Value, schema: &str) {
    let schema: Value = serde_json::from_str(schema).unwrap();
    let errors: Vec<String> = jsonschema::validator_for(&schema)
        .unwrap()
        .iter_errors(value)
        .map(|error| format!("{error} at {}", error.instance_path()))
        .collect();
    assert_eq!(errors, Vec::<String>::new(), "{value}");
}
