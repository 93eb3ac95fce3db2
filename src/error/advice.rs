//! What to do about an error, as the end of its sentence.

use std::io::{self, ErrorKind};

use crate::error::{AddressErrors, Phase};
use crate::system::refusals::remedy_for_socket;

/// About a name that has no address. An address with a zone is looked up for its interface alone.
pub(super) fn of_look_up(host: &str) -> String {
    // Behind the name may stand who redirected there.
    match host.split(' ').next().and_then(|name| name.split_once('%')) {
        Some((_, interface)) => {
            format!(
                "; check that this machine has a network interface with the name or the number {interface}"
            )
        }
        None => "; check the name, and that this machine is online".into(),
    }
}

/// About a connection that failed like this.
pub(super) fn of_connect(host: &str, error: &io::Error) -> &'static str {
    // What the application said, or what is said about a setting, stands for itself.
    if error.get_ref().is_some_and(|inner| !inner.is::<AddressErrors>()) {
        return "";
    }
    let is_path = host.starts_with("unix:/");
    match error.kind() {
        ErrorKind::ConnectionRefused if is_path => "; check that the server runs and listens there",
        ErrorKind::ConnectionRefused => "; check the port, and that something listens there",
        ErrorKind::NotFound if is_path => "; check the path, and that the server runs",
        ErrorKind::PermissionDenied if is_path => "; this program's user needs the right to write there",
        ErrorKind::PermissionDenied => "; check the firewall of this machine",
        ErrorKind::TimedOut => FIREWALL,
        ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => {
            "; check the address, and the network of this machine"
        }
        _ => remedy_for_socket(error),
    }
}

const FIREWALL: &str = "; check the address, and that no firewall drops the packets";

/// About an attempt whose time was over in this phase. `why` is what is known of it.
pub(super) fn of_timeout(host: &str, phase: Phase, why: Option<&io::Error>) -> &'static str {
    let of_system = why.is_none_or(|why| !of_connect(host, why).is_empty());
    match phase {
        Phase::Start => "; check that on_thread_start returns soon",
        Phase::Fetch => "; if it needs so long, raise connect_timeout",
        Phase::Resolve => "; check that this machine reaches its DNS server",
        Phase::Connect if host.starts_with("unix:/") => "; check that the server accepts connections",
        Phase::Connect if of_system => FIREWALL,
        Phase::Connect => "",
        Phase::Proxy => "; check the scheme of its URL: http, https, socks5 or socks5h",
        Phase::Tls => "; check that the server speaks TLS there",
        Phase::Upgrade => "; check that a WebSocket server listens there",
    }
}

/// About a server that answers the upgrade with this status.
pub(super) fn of_status(status: u16) -> &'static str {
    match status {
        200..=299 => "; check that the URL is that of a WebSocket",
        401 => "; check the credentials",
        403 => "; check the credentials, and the headers, such as Origin",
        404 => "; check the path of the URL",
        407 => "; the proxy in between wants a login: set it by ConnectionConfig::proxy",
        _ => "",
    }
}
