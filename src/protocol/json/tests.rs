use serde_json::json;

use super::*;

#[test]
fn a_refusal_is_cut_behind_its_secrets_and_not_in_one() {
    let secrets = Secrets::of_login(&json!({"p": "hunter2-hunter2"}));
    for pad in 150..200 {
        let mut session = JsonSession { secrets: secrets.clone(), ..JsonSession::new().refused(|_| true) };
        let said = json!(["x".repeat(pad), "hunter2-hunter2"]);
        let Some(Err(error)) = session.judge_login(&said) else { panic!("{said} is a refusal") };
        assert!(!error.to_string().contains("hu"), "{error}");
    }
}
