//! The check of `gateway.cors`: an origin must have the form in which browsers send it.

/// Returns what is wrong with an origin, and how to write it.
pub(super) fn problem(origin: &str) -> Option<String> {
    match origin {
        "" => return Some("an origin is empty; write it as `https://app.example.com`".to_owned()),
        "*" => {
            return Some(
                "`*` would let every web page call models through its reader's browser; list the origins that may. \
                 Pages of every origin may read `/status` without it"
                    .to_owned(),
            );
        }
        "null" => {
            return Some(
                "`null` is the origin of every sandboxed page and of every file; serve the page from an origin of its own"
                    .to_owned(),
            );
        }
        _ => {}
    }
    let Some((scheme, rest)) = origin.split_once("://").filter(|(scheme, _)| is_scheme(scheme)) else {
        return Some(format!(
            "`{origin}` has no scheme; write `https://{origin}`, or what the browser sends as `Origin`"
        ));
    };
    if rest.contains('*') {
        return Some(format!("`{origin}` has a wildcard, and an origin is one host; list each"));
    }
    if let Some(end) = rest.find(['/', '?', '#']) {
        return Some(format!(
            "`{origin}` goes on behind the host, and an origin ends there; write `{scheme}://{}`",
            &rest[..end]
        ));
    }
    if !is_authority(rest) {
        return Some(format!(
            "`{origin}` is no origin: a scheme, a host in ASCII and perhaps a port, such as `https://app.example.com:8443`"
        ));
    }
    if origin.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Some(format!("browsers send an origin in lower case; write `{}`", origin.to_ascii_lowercase()));
    }
    let usual = match scheme {
        "https" => rest.strip_suffix(":443"),
        "http" => rest.strip_suffix(":80"),
        _ => None,
    };
    usual.map(|host| format!("browsers leave out the scheme's usual port; write `{scheme}://{host}`"))
}

fn is_scheme(scheme: &str) -> bool {
    let mut bytes = scheme.bytes();
    bytes.next().is_some_and(|first| first.is_ascii_alphabetic())
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.'))
}

/// Returns whether the text is a host, perhaps with a port. An IPv6 address stands in brackets.
fn is_authority(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, "")) => (address.parse::<std::net::Ipv6Addr>().is_ok(), None),
        Some((address, rest)) => (address.parse::<std::net::Ipv6Addr>().is_ok(), Some(rest)),
        None => {
            let (host, port) = text.find(':').map_or((text, None), |at| (&text[..at], Some(&text[at..])));
            let named = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
            (!host.is_empty() && host.bytes().all(named), port)
        }
    };
    let is_port = |port: &str| {
        let digits = port.strip_prefix(':').unwrap_or_default();
        digits.bytes().all(|byte| byte.is_ascii_digit()) && digits.parse::<u16>().is_ok_and(|port| port > 0)
    };
    host && port.is_none_or(is_port)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_as_browsers_send_it_is_right() {
        for origin in [
            "https://app.example.com",
            "http://localhost:5173",
            "https://example.com:8443",
            "http://[::1]:3000",
            "https://xn--bcher-kva.example",
            "chrome-extension://abcdefghijklmnop",
            "tauri://localhost",
            "http://example.com:443",
        ] {
            assert_eq!(problem(origin), None, "{origin}");
        }
    }

    #[test]
    fn one_that_no_browser_sends_is_wrong_and_the_message_has_the_right_one() {
        for (origin, words) in [
            ("", "`https://app.example.com`"),
            ("*", "list the origins"),
            ("null", "sandboxed page"),
            ("app.example.com", "write `https://app.example.com`"),
            ("https://app.example.com/", "write `https://app.example.com`"),
            ("https://app.example.com/page?a=b", "write `https://app.example.com`"),
            ("https://*.example.com", "wildcard"),
            ("https://App.Example.com", "write `https://app.example.com`"),
            ("https://app.example.com:443", "write `https://app.example.com`"),
            ("http://app.example.com:80", "write `http://app.example.com`"),
            ("https://bücher.example", "a host in ASCII"),
            ("https://user@example.com", "is no origin"),
            ("https://", "is no origin"),
            ("https://a b", "is no origin"),
            ("https://example.com:", "is no origin"),
            ("https://example.com:0", "is no origin"),
            ("https://example.com:99999", "is no origin"),
            ("https://example.com:+80", "is no origin"),
            ("http://[::1", "is no origin"),
            ("http://[::1]x", "is no origin"),
            ("://example.com", "has no scheme"),
        ] {
            assert!(problem(origin).is_some_and(|problem| problem.contains(words)), "{origin}: {:?}", problem(origin));
        }
    }
}
