//! One server or a list of them.

use crate::config::{ConnectionConfig, invalid};
use crate::endpoint::Endpoint;
use crate::error::Error;

/// The most servers in a list. A protocol's list may come from a server, which must not fill the memory.
const MOST_SERVERS: usize = 1024;

impl ConnectionConfig {
    /// Adds further servers to the list, after [`url`](field@Self::url): see [`servers`](field@Self::servers).
    ///
    /// ```
    /// use tautline::{ConnectionConfig, ServerOrder};
    ///
    /// let config = ConnectionConfig::new("wss://one.example/feed")
    ///     .servers(["wss://two.example/feed", "wss://three.example/feed"])
    ///     .server_order(ServerOrder::Random);
    /// // The same list, all at once:
    /// let urls = ["wss://one.example/feed", "wss://two.example/feed", "wss://three.example/feed"];
    /// let same = ConnectionConfig::from(urls).server_order(ServerOrder::Random);
    /// assert_eq!((config.url, config.servers), (same.url, same.servers));
    /// ```
    pub fn servers<U: Into<String>>(mut self, urls: impl IntoIterator<Item = U>) -> Self {
        self.servers.get_or_insert_default().extend(urls.into_iter().map(Into::into));
        self
    }

    fn of_list(urls: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let mut urls = urls.into_iter().map(Into::into);
        let Some(first) = urls.next() else {
            // The check says that the list is empty.
            return Self::new("").servers([""; 0]);
        };
        let others: Vec<String> = urls.collect();
        let config = Self::new(first);
        if others.is_empty() { config } else { config.servers(others) }
    }

    /// The URLs of all servers, without those that are there already.
    ///
    /// # Errors
    /// A URL can't be used, or the list is empty or too long.
    pub(crate) fn server_list(&self) -> Result<Vec<String>, Error> {
        match &self.servers {
            None => Endpoint::parse(&self.url).map(|_| vec![self.url.clone()]),
            Some(others) if others.is_empty() => {
                invalid("servers", "the list is empty; name at least one server, or leave the setting out")
            }
            Some(others) => {
                let urls = std::iter::once(&self.url).chain(others).cloned().collect();
                checked_servers(urls).or_else(|reason| invalid("servers", reason))
            }
        }
    }
}

impl From<&str> for ConnectionConfig {
    fn from(url: &str) -> Self {
        Self::new(url)
    }
}

impl From<String> for ConnectionConfig {
    fn from(url: String) -> Self {
        Self::new(url)
    }
}

impl From<&String> for ConnectionConfig {
    fn from(url: &String) -> Self {
        Self::new(url)
    }
}

impl From<&Self> for ConnectionConfig {
    fn from(config: &Self) -> Self {
        config.clone()
    }
}

/// A list of servers; the first is [`url`](ConnectionConfig::url), the others are
/// [`servers`](field@ConnectionConfig::servers). `connect` and `start` refuse an empty one.
impl<U: Into<String>> From<Vec<U>> for ConnectionConfig {
    fn from(urls: Vec<U>) -> Self {
        Self::of_list(urls)
    }
}

/// As from a [`Vec`].
impl<U: Into<String>, const N: usize> From<[U; N]> for ConnectionConfig {
    fn from(urls: [U; N]) -> Self {
        Self::of_list(urls)
    }
}

/// A list of URLs, without those that lead where an earlier one does.
///
/// # Errors
/// What is wrong with the list. Each URL that can't be used is named by its place.
pub(crate) fn checked_servers(urls: Vec<String>) -> Result<Vec<String>, String> {
    let count = urls.len();
    if count == 0 {
        return Err("the list is empty; name at least one server".into());
    }
    if count > MOST_SERVERS {
        return Err(format!("the list has {count} servers; at most {MOST_SERVERS} are allowed"));
    }
    let (mut list, mut endpoints, mut wrong) = (Vec::new(), Vec::new(), Vec::new());
    for (at, url) in urls.into_iter().enumerate() {
        match Endpoint::parse(&url) {
            Ok(endpoint) if endpoints.contains(&endpoint) => {}
            Ok(endpoint) => {
                endpoints.push(endpoint);
                list.push(url);
            }
            Err(Error::InvalidUrl { reason }) => {
                wrong.push(format!("the URL of server {} of {count}: {reason}", at + 1));
            }
            Err(error) => wrong.push(format!("server {} of {count}: {error}", at + 1)),
        }
    }
    if wrong.is_empty() { Ok(list) } else { Err(wrong.join("; ")) }
}
