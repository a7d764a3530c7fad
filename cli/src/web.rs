//! Which services a browser can open.

use protocol::Label;

/// The scheme of the address under which a browser finds a service, by its name or port; `None` if it is nothing for one.
pub(crate) fn scheme(service: &Label) -> Option<&'static str> {
    match service.as_str() {
        "http" | "web" | "www" | "80" | "3000" | "5000" | "8000" | "8008" | "8080" | "8888" => {
            Some("http")
        }
        "https" | "443" | "8443" => Some("https"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_ports_of_the_web_have_a_scheme() {
        let scheme = |text: &str| scheme(&text.parse().unwrap());
        assert_eq!(scheme("web"), Some("http"));
        assert_eq!(scheme("8443"), Some("https"));
        assert_eq!(scheme("ssh"), None);
        assert_eq!(scheme("22"), None);
    }
}
