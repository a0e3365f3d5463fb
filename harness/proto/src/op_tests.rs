use super::*;

#[test]
fn what_a_device_is_asked_about_lies_beside_the_word() {
    let text = r#"{"do":"hmm-read","map":"m","offset":0,"length":"8K","device":1}"#;
    let op: Op = serde_json::from_str(text).unwrap();
    assert_eq!(op.word(), "hmm-read");
    assert_eq!(op.device_range().unwrap().length, Some(Size(8192)));
    let again: Op = serde_json::from_str(&serde_json::to_string(&op).unwrap()).unwrap();
    assert_eq!(again, op);
    for wrong in [
        r#"{"do":"hmm-read","map":"m","lenght":"8K"}"#,
        r#"{"do":"hmm-read"}"#,
    ] {
        assert!(serde_json::from_str::<Op>(wrong).is_err(), "{wrong}");
    }
}
