//! What looks like a secret when nothing else says that it is one.

/// Endings of names that announce a secret.
const TELLING: [&str; 16] = [
    "apikey",
    "auth",
    "authorization",
    "bearer",
    "cookie",
    "credential",
    "credentials",
    "jwt",
    "key",
    "otp",
    "passphrase",
    "passwd",
    "password",
    "pwd",
    "secret",
    "token",
];

/// The longest word, number, or word with a number.
const LONGEST_WORD: usize = 20;

/// Whether a name announces a secret: `token`, `access_token`, `apiKey`.
pub(super) fn tells(name: &str) -> bool {
    let name: String = name.chars().filter(char::is_ascii_alphanumeric).collect();
    let name = name.to_ascii_lowercase();
    TELLING.iter().any(|end| name.ends_with(end)) || ["pass", "pin", "pw"].contains(&&*name)
}

/// Whether a text looks machine-generated: some piece of it is not a word, a number, or one followed by the other.
/// `graphql-transport-ws`, `v12.stomp`, `room42` and `2024-05-01` do not; a key, a hash, a JWT and a UUID do.
pub(super) fn looks_random(text: &str) -> bool {
    let is_random = |piece: &str| {
        let digits: Vec<_> = piece.bytes().map(|byte| byte.is_ascii_digit()).collect();
        let longest = match digits.windows(2).filter(|pair| pair[0] != pair[1]).count() {
            0 | 1 => LONGEST_WORD,
            // Such as `base64url`.
            2 => 12,
            // Such as `a1b2c3`.
            _ => 7,
        };
        piece.len() > longest
    };
    is_uuid(text) || text.split(|c: char| !c.is_ascii_alphanumeric()).any(is_random)
}

fn is_uuid(text: &str) -> bool {
    let lengths = text.split('-').map(str::len);
    lengths.eq([8, 4, 4, 4, 12]) && text.bytes().all(|byte| byte == b'-' || byte.is_ascii_hexdigit())
}

/// Whether a text in a login may be shown: it consists of words. Only its name tells that a word is a password.
pub(super) fn is_harmless_in_login(text: &str) -> bool {
    text.chars().all(|c| c.is_ascii_alphabetic() || "_-./: ".contains(c)) && !looks_random(text)
}

/// Where the secrets in each subprotocol name begin: some servers take a token as a subprotocol. A secret follows a
/// name that announces it (`bearer.…`, or `access_token` and then the token as the next name), or looks random.
pub(super) fn secrets_in_subprotocols(names: &[String]) -> impl Iterator<Item = (&str, Vec<usize>)> {
    names.iter().enumerate().map(|(at, name)| {
        let starts = || name.match_indices('.').map(|(dot, _)| dot + 1);
        let is_announced = at > 0 && tells(&names[at - 1]);
        let whole = is_announced.then_some(0);
        let announced = starts().find(|start| tells(&name[..start - 1]));
        let random = [0].into_iter().chain(starts()).find(|start| {
            let piece = &name[*start..];
            looks_random(piece.split('.').next().unwrap_or_default())
        });
        (name.as_str(), [whole, announced, random].into_iter().flatten().collect())
    })
}
