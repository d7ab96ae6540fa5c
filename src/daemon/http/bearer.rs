//! The token in a request's head: RFC 6750, 2.1, or a field that the configuration names. Never in
//! a query, which ends up in logs.

use http::HeaderMap;
use http::header::{AUTHORIZATION, HeaderName};

/// What a head says about a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Presented<'a> {
    /// A token, or what is shown as one.
    Token(&'a [u8]),
    /// None.
    Nothing,
    /// Two at once, or a field that cannot be read as one.
    Confused,
}

/// The token of `Authorization`; without that field, the one of `own`.
pub(super) fn presented<'a>(headers: &'a HeaderMap, own: Option<&HeaderName>) -> Presented<'a> {
    let found = single(headers, &AUTHORIZATION);
    match (found, own) {
        (Presented::Token(value), _) => credentials(value),
        (Presented::Nothing, Some(own)) => single(headers, own),
        (other, _) => other,
    }
}

fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Presented<'a> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Presented::Nothing,
        (Some(value), None) if !value.is_empty() => Presented::Token(value.as_bytes()),
        _ => Presented::Confused,
    }
}

/// `Bearer`, in any case, at least one space, and what follows.
fn credentials(value: &[u8]) -> Presented<'_> {
    const SCHEME: &[u8] = b"Bearer";
    let Some((scheme, rest)) = value.split_at_checked(SCHEME.len()) else {
        return Presented::Nothing;
    };
    if !scheme.eq_ignore_ascii_case(SCHEME) {
        // Another scheme is no token of ours.
        return Presented::Nothing;
    }
    let token = rest.trim_ascii();
    if rest.first() != Some(&b' ') || token.is_empty() || token.contains(&b' ') {
        return Presented::Confused;
    }
    Presented::Token(token)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn of(fields: &[(&'static str, &str)], own: Option<&'static str>) -> String {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            let value = HeaderValue::from_str(value).unwrap();
            headers.append(HeaderName::from_static(name), value);
        }
        let own = own.map(HeaderName::from_static);
        match presented(&headers, own.as_ref()) {
            Presented::Token(token) => String::from_utf8(token.to_vec()).unwrap(),
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn one_bearer_token_is_found_in_any_case_and_nothing_else_is() {
        let cases = [
            ("Bearer abc", "abc"),
            ("bearer abc", "abc"),
            ("BEARER   abc ", "abc"),
            ("Bearer", "Confused"),
            ("Bearer ", "Confused"),
            ("Bearerabc", "Confused"),
            ("Bearer a b", "Confused"),
            ("Basic YTpi", "Nothing"),
            ("B", "Nothing"),
            ("", "Confused"),
        ];
        for (value, expected) in cases {
            assert_eq!(of(&[("authorization", value)], None), expected, "{value:?}");
        }
        assert_eq!(of(&[], None), "Nothing");
        let twice = [("authorization", "Bearer a"), ("authorization", "Bearer b")];
        assert_eq!(of(&twice, None), "Confused");
    }

    #[test]
    fn a_field_of_its_own_counts_only_without_authorization() {
        let own = Some("x-api-key");
        assert_eq!(of(&[("x-api-key", "abc")], own), "abc");
        assert_eq!(of(&[("x-api-key", "abc")], None), "Nothing");
        assert_eq!(of(&[("x-api-key", "abc"), ("authorization", "Bearer d")], own), "d");
        assert_eq!(of(&[("x-api-key", "abc"), ("authorization", "Bearer ")], own), "Confused");
        assert_eq!(of(&[("x-api-key", "a"), ("x-api-key", "b")], own), "Confused");
    }
}
