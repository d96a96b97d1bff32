//! A small TCP balancer on the machines' network, in front of their API servers: what a site has as a balancer or a virtual address, so that
//! a cluster's endpoint outlives each of its machines. It is this very program once more, in the network's namespace.

use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};
use sha2::{Digest as _, Sha256};

use super::machine::repository;

/// Where it listens: the network's gateway.
pub const ENDPOINT: &str = "10.77.0.1:6443";
/// Tells this program that it shall be the balancer, and in front of whom.
pub const SERVERS: &str = "EDGEBOOT_TEST_BALANCER";

/// It runs as long as this lives.
#[derive(Debug)]
pub struct Balancer(Child);

impl Balancer {
    /// In front of these servers; one of the machines must have been switched on, for that makes the network.
    pub fn before(servers: &[&str]) -> Result<Balancer> {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &network()?]).arg(std::env::current_exe()?).env(SERVERS, servers.join(","));
        Ok(Balancer(command.spawn().context("starting the balancer")?))
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        // It may have ended by itself; nobody needs its last words.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The network's namespace, as image/machine names it.
fn network() -> Result<String> {
    let folder = repository().join("target/test-machines").canonicalize()?;
    let digest = hex::encode(Sha256::digest(folder.to_string_lossy().as_bytes()));
    Ok(format!("edgeboot-{}", &digest[..6]))
}

/// Serves until it is ended. Each connection goes to the next server that takes it.
pub fn serve(servers: &str) -> Result<()> {
    let servers: Vec<SocketAddr> = servers.split(',').map(str::parse).collect::<Result<_, _>>()?;
    let listener = TcpListener::bind(ENDPOINT).context(ENDPOINT)?;
    for (turn, client) in listener.incoming().enumerate() {
        let (client, servers) = (client?, servers.clone());
        thread::spawn(move || forward(&client, servers.iter().cycle().skip(turn % servers.len()).take(servers.len())));
    }
    Ok(())
}

/// Both ways, until one side has enough. Who finds no server is hung up on.
fn forward<'a>(client: &TcpStream, mut servers: impl Iterator<Item = &'a SocketAddr>) {
    let Some(server) = servers.find_map(|server| TcpStream::connect_timeout(server, Duration::from_millis(500)).ok()) else {
        return;
    };
    let pipe = |mut from: &TcpStream, mut to: &TcpStream| {
        // Whatever ended it, the other way ends, too.
        let _ = io::copy(&mut from, &mut to);
        let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
    };
    thread::scope(|scope| {
        scope.spawn(|| pipe(client, &server));
        pipe(&server, client);
    });
}
