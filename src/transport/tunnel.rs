//! A stream inside TLS with a proxy.

use std::io::{self, ErrorKind, Read, Write};

use mio::event::{Event, Source};
use mio::{Interest, Registry, Token};

use crate::transport::link::Link;
use crate::transport::stream::Stream;
use crate::transport::wire::Raw;

/// A link to a proxy, as the raw stream of what goes through it.
pub(crate) struct Tunnel<T: Raw = Stream> {
    link: Link<T>,
    /// How many bytes of the last write wait in the link.
    held: usize,
}

/// How many bytes a write takes: one record of TLS (RFC 8446, section 5.1). The proxy can't read a record of which it has
/// only a part. So none of a write has gone on that the system has not taken as a whole.
const AT_ONCE: usize = 16 << 10;

impl<T: Raw> Tunnel<T> {
    pub(crate) fn new(link: Link<T>) -> Self {
        Self { link, held: 0 }
    }
}

impl<T: Raw> Read for Tunnel<T> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.link.read(buffer)
    }
}

impl<T: Raw> Write for Tunnel<T> {
    /// Takes bytes only while the link holds none, so that it is known when the system has taken them.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.flush()?;
        if self.held > 0 {
            return Err(ErrorKind::WouldBlock.into());
        }
        let written = self.link.write(&bytes[..bytes.len().min(AT_ONCE)])?;
        self.held = written;
        if let Err(error) = self.flush() {
            self.held = 0;
            return Err(error);
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.link.flush()?;
        if self.link.wire().is_broken() {
            // A read of the link returns the reason.
            return Err(ErrorKind::BrokenPipe.into());
        }
        if self.link.wire().spilled() == 0 {
            self.held = 0;
        }
        Ok(())
    }
}

impl<T: Raw> Raw for Tunnel<T> {
    fn half_close(&mut self) -> io::Result<()> {
        self.link.half_close();
        Ok(())
    }

    fn hang_up(&mut self) -> io::Result<()> {
        self.link.wire_mut().hang_up()
    }

    fn is_emptied_by_short_reads(&self) -> bool {
        // TLS returns a record a read.
        false
    }

    fn held(&self) -> usize {
        self.held
    }

    fn note(&mut self, event: &Event) {
        self.link.wire_mut().note(event);
    }
}

impl<T: Raw + Source> Source for Tunnel<T> {
    fn register(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        self.link.wire_mut().source().register(registry, token, interests)
    }

    fn reregister(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        self.link.wire_mut().source().reregister(registry, token, interests)
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        self.link.wire_mut().source().deregister(registry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::fake::Fake;
    use crate::transport::wire::Wire;

    fn inside(fake: &Fake) -> Wire<Tunnel<Fake>> {
        Wire::new(Tunnel::new(Link::Plain(Wire::new(fake.clone()))))
    }

    fn give_room(fake: &Fake, room: usize) {
        fake.0.lock().unwrap().room = room;
    }

    #[test]
    fn what_the_link_to_the_proxy_holds_is_not_taken() {
        let fake = Fake::with_room(4);
        let mut wire = inside(&fake);
        wire.write_all(b"abcdef").unwrap();
        wire.write_all(b"ghi").unwrap();
        assert_eq!((wire.taken(), wire.spilled(), wire.handed()), (0, 9, 9), "a write is taken as a whole");
        give_room(&fake, 1);
        wire.flush().unwrap();
        assert_eq!((wire.taken(), wire.spilled()), (0, 9));
        give_room(&fake, 2);
        wire.flush().unwrap();
        assert_eq!((wire.taken(), wire.spilled(), wire.handed()), (6, 3, 9));
        give_room(&fake, 100);
        wire.flush().unwrap();
        assert_eq!((wire.taken(), wire.spilled(), wire.handed()), (9, 0, 9));
        assert_eq!(fake.0.lock().unwrap().written, b"abcdefghi");
    }

    #[test]
    fn what_counts_as_taken_of_a_large_write_are_the_records_that_the_system_has_taken() {
        const RECORD: usize = 1 << 14;
        let fake = Fake::with_room(0);
        let mut wire = inside(&fake);
        wire.write_all(&vec![7; 1 << 20]).unwrap();
        give_room(&fake, 2 * RECORD + 1);
        wire.flush().unwrap();
        assert_eq!((wire.taken(), wire.spilled()), (2 * RECORD as u64, (1 << 20) - 2 * RECORD));
        fake.0.lock().unwrap().write_fails = true;
        wire.flush().unwrap();
        assert_eq!(wire.taken(), 2 * RECORD as u64);
    }

    #[test]
    fn a_large_write_is_taken_as_the_system_makes_room() {
        let fake = Fake::with_room(0);
        let mut wire = inside(&fake);
        wire.write_all(&vec![7; 1 << 20]).unwrap();
        give_room(&fake, usize::MAX);
        wire.flush().unwrap();
        assert_eq!((wire.taken(), wire.spilled()), (1 << 20, 0));
        assert_eq!(fake.0.lock().unwrap().written.len(), 1 << 20);
    }

    #[test]
    fn what_has_come_through_the_proxy_is_read_before_a_failed_write_is_reported() {
        let fake = Fake::default();
        fake.0.lock().unwrap().write_fails = true;
        let mut wire = inside(&fake);
        wire.write_all(b"lost").unwrap();
        wire.flush().unwrap();
        assert_eq!((wire.taken(), wire.is_broken()), (0, true));
        fake.feed("goodbye");
        let mut buffer = [0; 64];
        assert_eq!(wire.read(&mut buffer).unwrap(), 7);
        assert_eq!(wire.read(&mut buffer).unwrap_err().kind(), ErrorKind::BrokenPipe);
    }

    #[test]
    fn what_the_link_to_the_proxy_held_when_it_broke_is_never_taken() {
        let fake = Fake::with_room(2);
        let mut wire = inside(&fake);
        wire.write_all(b"abcd").unwrap();
        fake.0.lock().unwrap().write_fails = true;
        wire.flush().unwrap();
        wire.write_all(b"efg").unwrap();
        assert_eq!((wire.taken(), wire.handed(), wire.is_broken()), (0, 7, true));
    }

    #[test]
    fn a_short_read_through_a_proxy_does_not_mean_that_there_is_no_more() {
        let fake = Fake::default();
        let mut wire = inside(&fake);
        fake.feed("ab");
        let mut buffer = [0; 8];
        assert_eq!(wire.read(&mut buffer).unwrap(), 2);
        assert!(wire.is_readable());
        assert_eq!(wire.read(&mut buffer).unwrap_err().kind(), ErrorKind::WouldBlock);
        assert!(!wire.is_readable());
    }

    #[test]
    fn a_half_close_reaches_the_proxy() {
        let fake = Fake::default();
        inside(&fake).half_close();
        assert!(fake.0.lock().unwrap().half_closed);
    }
}
