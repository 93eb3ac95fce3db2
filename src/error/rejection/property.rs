//! Whatever a refusal repeats of the request, none of its secrets is printed.

use std::sync::Arc;

use data_encoding::BASE64;
use proptest::prelude::*;

use super::*;
use crate::error::Error;

fn encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect::<Vec<_>>().concat()
}

/// A part as a server may repeat it.
fn written(part: &str, how: u8) -> String {
    match how {
        0 => part.to_owned(),
        1 => encoded(part),
        2 => encoded(part).replace('%', "%25"),
        3 => part.to_ascii_uppercase(),
        _ => serde_json::to_string(part).unwrap().trim_matches('"').to_owned(),
    }
}

proptest! {
    /// Digits and letters that occur in no other text, and characters with a meaning in a URL, a header or JSON.
    #[test]
    fn a_refusal_repeats_no_secret_in_any_mixture(
        query in "[0-9]{4}[ä/+&%\\\\]?[0-9]{4}",
        password in "[0-9]{4}[:@ü%]?[0-9]{4}",
        cookie in "[0-9]{4}[/%]?[0-9]{4}",
        token in "[0-9]{4}[~._+/-]?[0-9]{4}={0,2}",
        value in "[0-9]{4}[ ,;=\"\\\\%]?[0-9]{4}",
        mixture in prop::collection::vec((0_usize..6, 0_u8..5, "[a-z :,\"%\\\\]{0,3}"), 1..12),
        place in 0_usize..4,
    ) {
        let url = format!("ws://bob:{}@h/?a=1&q={}", encoded(&password), encoded(&query));
        let cookies = format!("a=1; sid={cookie}; b=2");
        let bearer = format!("Bearer {token}");
        let headers = [("Cookie", &cookies), ("Authorization", &bearer), ("X-Key", &value)];
        let headers = headers.map(|(name, value)| (name.to_owned(), value.clone()));
        let basic = BASE64.encode(format!("bob:{password}").as_bytes());
        let parts = [&query, &password, &cookie, &token, &value, &basic];
        let mut said = String::new();
        for (part, how, between) in &mixture {
            said += between;
            said += &written(parts[*part], *how);
        }
        let mut rejection = Rejection::new(400, "", Vec::new());
        match place {
            0 => rejection.reason.clone_from(&said),
            1 => rejection.body = said.clone().into_bytes(),
            2 => rejection.headers.push(("Location".into(), said.clone())),
            _ => rejection.headers.push((said.clone(), String::new())),
        }
        rejection.secrets = Secrets::of(&url, &headers, &[]);
        let error = Error::UpgradeRejected(Arc::new(rejection.clone()));
        let told = format!("{error} {error:?} {rejection}");
        for (part, how, _) in &mixture {
            let part = parts[*part].trim_end_matches('=');
            prop_assert!(!told.contains(&written(part, *how)), "{part} of {said} in {told}");
            prop_assert!(!told.contains(part), "{part} of {said} in {told}");
        }
    }
}
