//! A login in JSON.

use tautline::{JsonSession, Value};

use super::text_or_file;

#[derive(clap::Args)]
#[command(next_help_heading = "Session")]
#[expect(clippy::struct_field_names, reason = "their names are those of the options")]
pub(super) struct Login {
    /// Logs in first (@FILE: with what it holds); the rest waits
    #[arg(long, value_name = "JSON", requires = "accepted")]
    login: Option<String>,
    /// The answer with this field accepts it, as Data.Success=true
    #[arg(long, value_name = "FIELD=VALUE", requires = "login", value_parser = field)]
    accepted: Option<Field>,
    /// The answer with this field refuses it
    #[arg(long, value_name = "FIELD=VALUE", requires = "login", value_parser = field)]
    refused: Option<Field>,
}

/// A field of an object, with the names that lead to it, and its value.
#[derive(Clone)]
struct Field {
    names: Vec<String>,
    value: Value,
    text: String,
}

impl Login {
    pub(super) fn session(self) -> Result<Option<JsonSession>, String> {
        let (Some(login), Some(accepted)) = (self.login, self.accepted) else { return Ok(None) };
        let login = text_or_file(&login)?;
        // The text itself may be a secret.
        let login =
            serde_json::from_str(&login).map_err(|error| format!("--login: it is no JSON: {error}"))?;
        let session = JsonSession::new().login(login).accepted(move |answer| accepted.is_in(answer));
        Ok(Some(match self.refused {
            Some(refused) => session.refused(move |answer| refused.is_in(answer)),
            None => session,
        }))
    }
}

impl Field {
    fn is_in(&self, answer: &Value) -> bool {
        let found = self.names.iter().try_fold(answer, |value, name| value.get(name));
        found.is_some_and(|found| *found == self.value || found.as_str() == Some(&self.text))
    }
}

fn field(text: &str) -> Result<Field, &'static str> {
    let (names, value) = text.split_once('=').ok_or("it is no FIELD=VALUE")?;
    let names: Vec<_> = names.split('.').map(str::to_owned).collect();
    if names.iter().any(String::is_empty) {
        return Err("a name is empty");
    }
    Ok(Field { names, value: value.parse().unwrap_or(Value::Null), text: value.to_owned() })
}
