//! Host names → addresses, on a thread of its own.
//!
//! The system's resolver can be silent for half a minute and cannot be stopped. On the runtime's blocking pool it
//! would hold up whoever drops the runtime for as long; a detached thread holds up nobody.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// Asks the system.
pub(crate) async fn resolve(host: String, port: u16) -> io::Result<Vec<SocketAddr>> {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    std::thread::Builder::new().name("resolver".to_string()).spawn(move || {
        // Nobody waits any more when the limit has passed.
        let _ = sender.send((host, port).to_socket_addrs().map(Iterator::collect));
    })?;
    receiver.await.map_err(io::Error::other)?
}

/// The same for the HTTP client.
pub(crate) struct SystemResolver;

impl Resolve for SystemResolver {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let addresses = resolve(name.as_str().to_string(), 0).await?;
            let addresses: Addrs = Box::new(addresses.into_iter());
            Ok(addresses)
        })
    }
}
