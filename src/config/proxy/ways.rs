//! Which way leads to which server: through a proxy, or straight to it.

use std::sync::Arc;

use crate::config::proxy::bypass::Bypass;
use crate::config::proxy::environment::{Lookup, first, names};
use crate::config::proxy::{Proxy, Via};
use crate::config::upgrade::check_proxy_headers;
use crate::endpoint::Endpoint;
use crate::error::Error;

/// What a client's setting and its environment said when it started. By default, every way is straight.
#[derive(Clone, Default)]
pub(crate) struct Ways {
    /// For `wss://`.
    secure: Option<Way>,
    /// For `ws://`.
    plain: Option<Way>,
    /// The lists of servers that are reached without a proxy, each with the name of its variable.
    past: Vec<(Option<String>, Bypass)>,
}

#[derive(Clone)]
struct Way {
    via: Arc<Via>,
    variable: Option<String>,
}

impl Proxy {
    /// Reads the environment, if this is what the setting says.
    pub(crate) fn ways(&self, lookup: Lookup<'_>) -> Result<Ways, Error> {
        self.find(lookup).map_err(|reason| Error::InvalidConfig { setting: "proxy", reason: reason.into() })
    }

    fn find(&self, lookup: Lookup<'_>) -> Result<Ways, String> {
        check_proxy_headers(&self.headers)?;
        let mut past = Vec::new();
        if let Some(list) = &self.past {
            past.push((None, Bypass::parse(list).map_err(|why| format!("in its no_proxy, {why}"))?));
        }
        if let Some(url) = &self.url {
            let way = Some(Way { via: self.via(url)?, variable: None });
            return Ok(Ways { secure: way.clone(), plain: way, past });
        }
        let way = |secure| {
            let Some((variable, url)) = first(&names(secure), lookup)? else { return Ok(None) };
            match self.via(&url) {
                Ok(via) => Ok(Some(Way { via, variable: Some(variable) })),
                Err(why) => Err(format!("the variable {variable}: {why}")),
            }
        };
        let (secure, plain) = (way(true)?, way(false)?);
        if let Some((variable, list)) = first(&["NO_PROXY"], lookup)? {
            let bypass = Bypass::parse(&list).map_err(|why| format!("the variable {variable}: {why}"))?;
            past.push((Some(variable), bypass));
        }
        Ok(Ways { secure, plain, past })
    }
}

impl Ways {
    /// The proxy through which this endpoint is reached. None leads to a Unix socket.
    pub(crate) fn to(&self, endpoint: &Endpoint) -> Option<&Via> {
        let way = self.way(endpoint.secure).filter(|_| endpoint.path.is_none());
        let way = way.filter(|_| self.exempts(endpoint).is_none())?;
        Some(&way.via)
    }

    fn way(&self, secure: bool) -> Option<&Way> {
        if secure { self.secure.as_ref() } else { self.plain.as_ref() }
    }

    /// The list that has this endpoint.
    fn exempts(&self, endpoint: &Endpoint) -> Option<&(Option<String>, Bypass)> {
        self.past.iter().find(|(_, bypass)| bypass.has(endpoint))
    }

    /// The entries of these lists that may mean something else than they match, a sentence each.
    pub(crate) fn doubts(&self) -> impl Iterator<Item = String> {
        self.past.iter().flat_map(|(variable, bypass)| {
            let list = variable.as_deref().unwrap_or("no_proxy");
            bypass.doubts().map(move |doubt| format!("In {list}, {doubt}"))
        })
    }

    /// Which ways these servers are reached and why, a sentence each way.
    pub(crate) fn said(&self, servers: &[Endpoint]) -> Vec<String> {
        let mut ways: Vec<(String, Vec<&Endpoint>)> = Vec::new();
        for server in servers.iter().filter(|server| server.path.is_none()) {
            let way = self.describe(server);
            match ways.iter_mut().find(|(other, _)| *other == way) {
                Some((_, servers)) => servers.push(server),
                None => ways.push((way, vec![server])),
            }
        }
        let sentence = |(way, servers): (String, Vec<&Endpoint>)| {
            let first = servers.first().map(ToString::to_string).unwrap_or_default();
            match servers.len() {
                0 | 1 => way.replace("{}", &first),
                more => way.replace("{}", &format!("{first} and {} more", more - 1)),
            }
        };
        ways.into_iter().map(sentence).collect()
    }

    /// The way to a server, with `{}` in place of its name.
    fn describe(&self, server: &Endpoint) -> String {
        let Some(Way { via, variable }) = self.way(server.secure) else {
            return format!("No proxy for {{}}: none of {} is set", names(server.secure).join(", "));
        };
        let variable = variable.as_deref().unwrap_or("the setting proxy");
        match self.exempts(server) {
            None => format!("Through the proxy {via} to {{}}, by {variable}"),
            Some((past, _)) => {
                let past = past.as_deref().unwrap_or("no_proxy");
                format!("Past the proxy {via} of {variable} to {{}}, by {past}")
            }
        }
    }
}
