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
/// Tells it how to fail: two numbers.
const FAULTS: &str = "EDGEBOOT_TEST_BALANCER_FAULTS";
/// How long a connection waits that is delayed: longer than one that is patient for a moment, shorter than any total deadline.
const DELAY: Duration = Duration::from_secs(2);

/// What goes wrong before all goes well: so many connections are reset, and so many after them are delayed.
#[derive(Debug, Clone, Copy, Default)]
pub struct Faults {
    /// Hung up on with a reset, as soon as they have said something.
    pub resets: usize,
    /// Forwarded late.
    pub delays: usize,
}

/// It runs as long as this lives.
#[derive(Debug)]
pub struct Balancer(Child);

impl Balancer {
    /// In front of these servers; one of the machines must have been switched on, for that makes the network.
    pub fn before(servers: &[&str]) -> Result<Balancer> {
        Balancer::failing_before(servers, Faults::default())
    }
    /// The same, failing at first.
    pub fn failing_before(servers: &[&str], faults: Faults) -> Result<Balancer> {
        let mut command = in_network()?;
        command.env(SERVERS, servers.join(",")).env(FAULTS, format!("{} {}", faults.resets, faults.delays));
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

/// This program once more, on the machines' network: what it is to be there its environment says.
pub fn in_network() -> Result<Command> {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", &network()?]).arg(std::env::current_exe()?);
    Ok(command)
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
    let faults = std::env::var(FAULTS).unwrap_or_default();
    let mut faults = faults.split(' ').map(|number| number.parse().unwrap_or(0));
    let Faults { resets, delays } = Faults { resets: faults.next().unwrap_or(0), delays: faults.next().unwrap_or(0) };
    for (turn, client) in listener.incoming().enumerate() {
        let (client, servers) = (client?, servers.clone());
        thread::spawn(move || {
            if turn < resets {
                return reset(&client);
            }
            if turn < resets + delays {
                thread::sleep(DELAY);
            }
            forward(&client, servers.iter().cycle().skip(turn % servers.len()).take(servers.len()));
        });
    }
    Ok(())
}

/// A connection that is closed with something unread is reset.
fn reset(client: &TcpStream) {
    // Whether or not anything came: what follows is the same.
    let _ = client.peek(&mut [0]);
}

/// Both ways, until one side has enough. Who finds no server is hung up on.
pub fn forward<'a>(client: &TcpStream, mut servers: impl Iterator<Item = &'a SocketAddr>) {
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
