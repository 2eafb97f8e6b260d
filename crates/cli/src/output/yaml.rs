//! YAML, made from the same JSON as everything else, so that the two never differ.

use serde::Serialize;
use serde_transcode::Transcoder;

/// A record as a YAML document.
pub(crate) fn text(record: &impl Serialize) -> String {
    let json = serde_json::to_string(record).expect("records have string keys");
    let mut reader = serde_json::Deserializer::from_str(&json);
    let yaml = serde_saphyr::to_string(&Transcoder::new(&mut reader));
    // JSON is YAML too, should a number be beyond what the writer takes.
    yaml.unwrap_or_else(|_| json + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_that_look_like_something_else_are_quoted() {
        let record =
            serde_json::json!([{"a": "yes", "b": "1", "c": "\u{1b}[31m", "d": [], "e": 1.5}]);
        assert_eq!(
            text(&record),
            "- a: \"yes\"\n  b: \"1\"\n  c: \"\\e[31m\"\n  d: []\n  e: 1.5\n"
        );
    }
}
