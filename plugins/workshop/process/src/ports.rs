//! Ports of this machine for services.

use std::collections::BTreeSet;
use std::hash::{BuildHasher, RandomState};
use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use echo_sdk::service::ServiceError;

/// Where free ports are looked for: below those that systems give to outgoing connections, so that
/// nobody's connection takes a port between its choice and the moment when its service listens.
const CHOICE: Range<u16> = 20_000..32_768;

/// The ports that services of this host hold.
#[derive(Debug, Default, Clone)]
pub(crate) struct PortPool(Arc<Mutex<BTreeSet<u16>>>);

/// A port that belongs to one service until it is dropped.
#[derive(Debug)]
pub(crate) struct HeldPort {
    pub(crate) number: u16,
    pool: PortPool,
}

impl PortPool {
    /// Takes a port: this one, or a free one for 0.
    pub(crate) fn take(&self, name: &str, number: u16) -> Result<HeldPort, ServiceError> {
        let number = match number {
            0 => self.take_free().ok_or_else(|| {
                ServiceError::Unavailable(format!("no port of this machine is free for `{name}`"))
            })?,
            fixed => self.take_fixed(fixed).ok_or_else(|| {
                ServiceError::Unavailable(format!(
                    "port {fixed} for `{name}` is taken on this machine; free it, or name the port \
                     without a number to get a free one"
                ))
            })?,
        };
        Ok(HeldPort { number, pool: self.clone() })
    }

    fn take_free(&self) -> Option<u16> {
        let mut held = self.held();
        let size = CHOICE.end - CHOICE.start;
        // Hosts that run side by side begin at different places, so they hardly meet.
        let begin = (RandomState::new().hash_one(size) % u64::from(size)) as u16;
        let mut candidates = (0..size).map(|step| CHOICE.start + (begin + step) % size);
        let found = candidates.find(|port| !held.contains(port) && is_free(*port))?;
        held.insert(found);
        Some(found)
    }

    fn take_fixed(&self, port: u16) -> Option<u16> {
        let mut held = self.held();
        (is_free(port) && held.insert(port)).then_some(port)
    }

    fn held(&self) -> MutexGuard<'_, BTreeSet<u16>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for HeldPort {
    fn drop(&mut self) {
        self.pool.held().remove(&self.number);
    }
}

/// Whether nobody listens there, on any address of this machine.
fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_service_gets_a_port_of_its_own() {
        let pool = PortPool::default();
        let ports: Vec<_> = (0..50).map(|_| pool.take("p", 0).unwrap()).collect();
        let numbers: BTreeSet<_> = ports.iter().map(|port| port.number).collect();
        assert_eq!(numbers.len(), 50);
        assert!(numbers.iter().all(|number| CHOICE.contains(number)));
        let first = ports[0].number;
        assert!(pool.take("p", first).is_err(), "it is held");
        drop(ports);
        assert!(pool.take("p", first).is_ok(), "it was given back");
    }

    #[test]
    fn a_port_that_somebody_listens_on_is_not_given() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let number = listener.local_addr().unwrap().port();
        let error = PortPool::default().take("http", number).unwrap_err().to_string();
        assert!(error.contains(&format!("port {number} for `http` is taken")), "{error}");
    }
}
