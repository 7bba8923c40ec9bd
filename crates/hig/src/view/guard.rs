//! Who may ask: only pages that this server itself has served.
//!
//! A page of another site may send requests to this machine, and a name that points here (DNS rebinding) makes them
//! look like this server's own. So the header `Host` must be this server's address, and `Origin`, where a browser sends
//! it, must be the same. An address that other machines reach needs a token too, which is the first part of the path.

use std::net::{IpAddr, SocketAddr};

use super::http::{Refusal, Request};
use crate::failure::Failure;

/// What is checked of every request.
pub(super) struct Guard {
    /// Values of `Host` that are this server's; none where only the token tells.
    hosts: Option<Vec<String>>,
    /// 32 hexadecimal digits.
    token: Option<String>,
}

impl Guard {
    /// Of a server that only this machine reaches.
    pub(super) fn local(address: SocketAddr) -> Self {
        let port = address.port();
        let names = ["127.0.0.1", "localhost", "[::1]"].map(|name| format!("{name}:{port}"));
        Self { hosts: Some(names.to_vec()), token: None }
    }

    /// Of one that others reach, by any of this machine's names.
    pub(super) fn with_token() -> Result<Self, Failure> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes)
            .map_err(|error| Failure::new(format!("cannot draw a token for --view-host: {error}")))?;
        Ok(Self { hosts: None, token: Some(bytes.iter().map(|byte| format!("{byte:02x}")).collect()) })
    }

    /// The address to open.
    pub(super) fn address(&self, of: SocketAddr) -> String {
        let name = match of.ip() {
            ip if ip.is_unspecified() => sysinfo::System::host_name().unwrap_or_else(|| ip.to_string()),
            IpAddr::V4(ip) => ip.to_string(),
            IpAddr::V6(ip) => format!("[{ip}]"),
        };
        let token = self.token.as_ref().map_or_else(String::new, |token| format!("{token}/"));
        format!("http://{name}:{}/{token}", of.port())
    }

    /// The path that is asked for, behind the token.
    pub(super) fn admit<'a>(&self, request: &'a Request) -> Result<&'a str, Refusal> {
        let Some(host) = request.header("host")? else { return Err((400, "no Host header")) };
        if self.hosts.as_ref().is_some_and(|own| !own.iter().any(|own| own.eq_ignore_ascii_case(host))) {
            return Err((403, "this view is opened by the address that the program names"));
        }
        let own =
            |origin: &str| origin.strip_prefix("http://").is_some_and(|of| of.eq_ignore_ascii_case(host));
        if request.header("origin")?.is_some_and(|origin| !own(origin)) {
            return Err((403, "requests come from this view's own page"));
        }
        let path = request.target.split('?').next().unwrap_or_default();
        let path = path.strip_prefix('/').ok_or((400, "no path"))?;
        let Some(token) = &self.token else { return Ok(path) };
        let (given, path) = match path.split_once('/') {
            Some((given, path)) => (given, Ok(path)),
            None => (path, Err((404, "the address ends with a slash"))),
        };
        if same(given.as_bytes(), token.as_bytes()) {
            path
        } else {
            Err((403, "the address needs its token"))
        }
    }
}

/// Equality, in a time that tells nothing of where two texts of the same length differ.
fn same(given: &[u8], token: &[u8]) -> bool {
    let differing = given.iter().zip(token).fold(0, |all, (a, b)| std::hint::black_box(all | (a ^ b)));
    given.len() == token.len() && differing == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(target: &str, headers: &[(&str, &str)]) -> Request {
        let headers = headers.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
        Request { method: "GET".to_owned(), target: target.to_owned(), headers, body: Vec::new() }
    }

    #[test]
    fn only_the_servers_own_page_is_admitted() {
        let guard = Guard::local(([127, 0, 0, 1], 8800).into());
        let status = |headers: &[(&str, &str)]| {
            guard.admit(&request("/rows?run=0", headers)).map(str::to_owned).map_err(|(code, _)| code)
        };
        let host = ("Host", "127.0.0.1:8800");
        assert_eq!(status(&[host]), Ok("rows".to_owned()));
        assert_eq!(
            status(&[("host", "LOCALHOST:8800"), ("Origin", "http://localhost:8800")]),
            Ok("rows".to_owned())
        );
        assert_eq!(status(&[]), Err(400));
        assert_eq!(status(&[host, host]), Err(400));
        for other in [
            "evil.example",
            "evil.example:8800",
            "127.0.0.1",
            "127.0.0.1:8801",
            "127.0.0.1:8800.evil.example",
        ] {
            assert_eq!(status(&[("Host", other)]), Err(403), "{other}");
        }
        for origin in ["null", "http://evil.example", "https://127.0.0.1:8800", "http://127.0.0.1:88000", ""]
        {
            assert_eq!(status(&[host, ("Origin", origin)]), Err(403), "{origin}");
        }
    }

    #[test]
    fn an_address_that_others_reach_needs_its_token() {
        let guard = Guard::with_token().unwrap();
        let token = guard.token.clone().unwrap();
        let admit =
            |target: &str| guard.admit(&request(target, &[("Host", "cluster:8800")])).map(str::to_owned);
        assert_eq!(admit(&format!("/{token}/rows?run=0")).unwrap(), "rows");
        assert_eq!(admit(&format!("/{token}/")).unwrap(), "");
        assert_eq!(admit(&format!("/{token}")).unwrap_err().0, 404);
        let mut other = token.clone().into_bytes();
        other[31] ^= 1;
        let other = String::from_utf8(other).unwrap();
        for target in [
            "/",
            "/rows",
            "//",
            &format!("/{other}/"),
            &format!("/{}/", &token[..31]),
            &format!("/{token}0/"),
        ] {
            assert_eq!(admit(target).unwrap_err().0, 403, "{target}");
        }
        assert_ne!(token, Guard::with_token().unwrap().token.unwrap());
    }
}
