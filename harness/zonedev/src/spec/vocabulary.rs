//! The operations as their schema describes them, for people who write cases.

use proto::Op;
use serde_json::Value;

/// An operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// What `do` says.
    pub word: String,
    /// What it does.
    pub about: String,
    /// Its keys, those that must be there first.
    pub keys: Vec<Key>,
}

/// A key of an operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// Its name.
    pub name: String,
    /// Whether it must be there.
    pub needed: bool,
    /// What it is where it is not there, if that is a plain value and not `false`.
    pub default: Option<String>,
    /// What it takes: a sort of value.
    pub takes: String,
    /// The words that it takes, each with its meaning; empty where it takes more than words.
    pub words: Vec<(String, String)>,
    /// What it says.
    pub about: String,
}

/// All operations, in the order in which [`Op`] has them.
pub fn operations() -> Vec<Operation> {
    let schema = schemars::schema_for!(Op).to_value();
    let all = schema["oneOf"].as_array().map_or(&[][..], Vec::as_slice);
    all.iter().map(|one| operation(one, &schema)).collect()
}

fn operation(of: &Value, schema: &Value) -> Operation {
    let needed = |name: &str| {
        let all = of["required"].as_array();
        all.is_some_and(|all| all.iter().any(|n| n == name))
    };
    let properties = of["properties"].as_object();
    let mut keys: Vec<Key> = (properties.into_iter().flatten())
        .filter(|(name, _)| *name != "do")
        .map(|(name, value)| {
            let (takes, words) = takes(value, schema);
            Key {
                name: name.clone(),
                needed: needed(name),
                default: match &value["default"] {
                    Value::String(text) => Some(text.clone()),
                    Value::Number(n) => Some(n.to_string()),
                    _ => None,
                },
                takes,
                words,
                about: about(value),
            }
        })
        .collect();
    keys.sort_by_key(|key| !key.needed);
    Operation {
        word: text(&of["properties"]["do"]["const"]),
        about: about(of),
        keys,
    }
}

fn text(of: &Value) -> String {
    of.as_str().unwrap_or_default().to_owned()
}

/// A description on one line.
fn about(of: &Value) -> String {
    let text = text(&of["description"]);
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// What a value's schema takes: in a word, and the words where it takes only those.
fn takes(value: &Value, schema: &Value) -> (String, Vec<(String, String)>) {
    if let Some(name) = value["$ref"].as_str() {
        let name = name.rsplit('/').next().unwrap_or_default();
        let of = &schema["$defs"][name];
        let words = words(of);
        if !words.is_empty() {
            return ("one of".to_owned(), words);
        }
        return match name {
            "Size" => ("size, such as 64K or 2M".to_owned(), words),
            _ => takes(of, schema),
        };
    }
    // An optional one: what it takes, or null, which TOML does not have.
    if let Some(any) = value["anyOf"].as_array()
        && let Some(some) = any.iter().find(|v| v["type"] != "null")
    {
        return takes(some, schema);
    }
    let sort = match &value["type"] {
        Value::Array(several) => several.iter().find(|t| *t != "null").map(text),
        one => one.as_str().map(str::to_owned),
    };
    let word = match sort.as_deref() {
        Some("string") => "text",
        Some("integer" | "number") => "number",
        Some("boolean") => "true",
        Some("array") => "list",
        Some("object") => "table",
        _ => "value",
    };
    (word.to_owned(), words(value))
}

fn words(of: &Value) -> Vec<(String, String)> {
    if let Some(all) = of["oneOf"].as_array() {
        let named = all.iter().flat_map(|v| match v["const"].as_str() {
            Some(word) => vec![(word.to_owned(), about(v))],
            None => words(v),
        });
        return named.collect();
    }
    let plain = of["enum"].as_array().map_or(&[][..], Vec::as_slice);
    plain.iter().map(|w| (text(w), String::new())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operation_and_key_is_described() {
        let all = operations();
        assert!(all.len() > 60, "{}", all.len());
        for op in &all {
            assert!(!op.word.is_empty() && op.about.len() > 5, "{op:?}");
            for key in &op.keys {
                assert!(key.about.len() >= 4, "{}: {key:?}", op.word);
                assert_ne!(key.takes, "value", "{}: {key:?}", op.word);
            }
        }
    }

    #[test]
    fn words_are_told_with_their_meaning() {
        let all = operations();
        let pin = all.iter().find(|op| op.word == "pin").unwrap();
        let how = pin.keys.iter().find(|k| k.name == "how").unwrap();
        assert!(how.needed);
        let (word, meaning) = &how.words[0];
        assert_eq!(word, "vmsplice");
        assert!(meaning.starts_with("vmsplice(2) of the range"), "{meaning}");
        let length = pin.keys.iter().find(|k| k.name == "length").unwrap();
        assert_eq!(length.takes, "size, such as 64K or 2M");
    }
}
