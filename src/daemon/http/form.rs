//! What is asked in a query or a form: names and values, each name at most once unless it may be
//! repeated. `application/x-www-form-urlencoded`, as the URL standard has it.

use std::borrow::Cow;

use crate::claims::{AUDIENCE_BYTES_MAX, Requirement, SCOPE_BYTES_MAX, SCOPES_MAX};
use crate::token::KIND_BYTES_MAX;

/// The requirement of a query: `kind`, `audience`, each once, and `scope`, scopes parted by
/// spaces. Whatever else stands there is refused, since a requirement that was misspelt must not
/// be no requirement.
pub(super) fn requirement(query: &str) -> Result<Requirement, String> {
    let mut asked = Requirement::any();
    for (name, value) in pairs(query.as_bytes())? {
        let place = match &*name {
            "scope" => {
                add_scopes(&mut asked, &value)?;
                continue;
            }
            "kind" => &mut asked.kind,
            "audience" => &mut asked.audience,
            _ => return Err(format!("no parameter `{}`: scope, audience or kind", shown(&name))),
        };
        let bytes_max = if name == "kind" { KIND_BYTES_MAX } else { AUDIENCE_BYTES_MAX };
        if place.is_some() || value.is_empty() || value.len() > bytes_max {
            return Err(format!("`{name}` stands twice, is empty or too long"));
        }
        *place = Some(value.into_owned());
    }
    Ok(asked)
}

fn add_scopes(asked: &mut Requirement, value: &str) -> Result<(), String> {
    let before = asked.scopes.len();
    for scope in value.split(' ').filter(|scope| !scope.is_empty()) {
        if scope.len() > SCOPE_BYTES_MAX || asked.scopes.len() == SCOPES_MAX {
            return Err(format!("`scope`: more than {SCOPES_MAX}, or longer than a scope"));
        }
        asked.scopes.push(scope.to_owned());
    }
    if asked.scopes.len() == before {
        return Err("`scope` is empty".to_owned());
    }
    Ok(())
}

/// The value of `name`, which stands there once.
pub(super) fn single(form: &[u8], name: &str) -> Result<String, String> {
    let mut found = None;
    for (key, value) in pairs(form)? {
        if key == name && found.replace(value.into_owned()).is_some() {
            return Err(format!("`{name}` stands twice"));
        }
    }
    found.filter(|value| !value.is_empty()).ok_or_else(|| format!("`{name}` is missing"))
}

/// A name and its value.
type Pair<'a> = (Cow<'a, str>, Cow<'a, str>);

/// All pairs; an error where a name or a value is not UTF-8.
fn pairs(form: &[u8]) -> Result<Vec<Pair<'_>>, String> {
    let pairs: Vec<Pair<'_>> = form_urlencoded::parse(form).collect();
    // The library puts this in the place of what is not UTF-8; in no field of ours has it a place.
    let is_broken = |text: &str| text.contains(char::REPLACEMENT_CHARACTER);
    if pairs.iter().any(|(name, value)| is_broken(name) || is_broken(value)) {
        return Err("not UTF-8".to_owned());
    }
    Ok(pairs)
}

/// Enough of a name to find it, and no line break.
fn shown(name: &str) -> String {
    name.chars().take(32).flat_map(char::escape_default).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_requirement_is_read_whole_or_refused() {
        let asked = requirement("scope=a:read+b&audience=api&kind=live&scope=c").unwrap();
        assert_eq!(asked.scopes, ["a:read", "b", "c"]);
        assert_eq!(asked.kind.as_deref(), Some("live"));
        assert_eq!(asked.audience.as_deref(), Some("api"));
        assert_eq!(requirement("").unwrap(), Requirement::any());
        for wrong in [
            "scopes=a",
            "scope=",
            "scope",
            "scope=+",
            "kind=live&kind=test",
            "kind=",
            "audience",
            "kind=longerthan8",
            "token=x",
            "scope=%ff",
            "%ff=a",
            "a",
        ] {
            requirement(wrong).unwrap_err();
        }
        let many = vec!["s"; SCOPES_MAX + 1].join("+");
        requirement(&format!("scope={many}")).unwrap_err();
    }

    #[test]
    fn a_field_of_a_form_stands_there_once() {
        assert_eq!(single(b"token=a%2Bb&token_type_hint=x", "token").unwrap(), "a+b");
        for wrong in [&b""[..], b"token=", b"token", b"tokens=a", b"token=a&token=a", b"token=%80"]
        {
            single(wrong, "token").unwrap_err();
        }
    }
}
