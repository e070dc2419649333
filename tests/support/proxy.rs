//! A way to a server that breaks on command: late, held back, one-way, cut, or answered by somebody
//! else.
//!
//! What the client sends is followed packet by packet, so that a fault can strike at the n-th
//! command of a connection: a packet numbered 0 begins one. What the server sends is passed on as
//! it comes.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Nothing is held back for longer, whatever a test forgot.
const HELD_MAX: Duration = Duration::from_secs(60);

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    ToServer,
    ToClient,
}

/// What happens to bytes on their way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Traffic {
    /// They go on at once.
    Free,
    /// They go on so much later.
    Late(Duration),
    /// They go on one by one, so long after each other.
    Dripping(Duration),
    /// They wait until the way is free again, and then go on.
    Held,
    /// They vanish, and nobody is told.
    Lost,
    /// So many go on, then the connection is cut.
    CutAfter(usize),
}

/// What happens to one command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strike {
    /// The server never sees it, and the connection is cut.
    CutBefore,
    /// The server answers it, and the connection is cut instead of the answer.
    CutAnswer,
    /// The server never sees it; the client is told this error.
    Error(u16),
    /// The same, of the second of two statements: the first is told to be done.
    SecondError(u16),
    /// The server answers; the answer is held back until [`Proxy::heal`], on this connection.
    HoldAnswer,
}

/// Which command is struck.
#[derive(Clone, Copy, Debug)]
enum Target {
    /// After so many others.
    Nth(usize),
    /// The first one with these bytes in it.
    With(&'static str),
}

impl Target {
    fn is(self, nth: usize, command: &[u8]) -> bool {
        match self {
            Self::Nth(at) => at == nth,
            Self::With(text) => command.windows(text.len()).any(|part| part == text.as_bytes()),
        }
    }
}

struct State {
    to_server: Traffic,
    to_client: Traffic,
    /// What to strike, and how.
    strike: Option<(Target, Strike)>,
    /// Whether it struck.
    has_struck: bool,
    /// Commands since the last [`Proxy::strike_at`].
    commands: usize,
    /// How often all was healed.
    heals: u64,
    /// Bytes that came from the server.
    bytes_to_client: u64,
    streams: Vec<TcpStream>,
    is_over: bool,
}

/// What becomes of the answers on one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Passed,
    Cut,
    /// Until so many heals.
    Held(u64),
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    server: AtomicU16,
}

/// A proxy to a server on this machine; it ends its connections when dropped.
pub struct Proxy {
    shared: Arc<Shared>,
    port: u16,
}

impl Proxy {
    /// Listens on a free port for connections to `server`.
    pub fn to(server: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let port = listener.local_addr().expect("it is bound").port();
        let state = State {
            to_server: Traffic::Free,
            to_client: Traffic::Free,
            strike: None,
            has_struck: false,
            commands: 0,
            heals: 0,
            bytes_to_client: 0,
            streams: Vec::new(),
            is_over: false,
        };
        let (state, server) = (Mutex::new(state), AtomicU16::new(server));
        let shared = Arc::new(Shared { state, changed: Condvar::new(), server });
        let accepting = Arc::clone(&shared);
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if accepting.state().is_over {
                    return;
                }
                connect(&accepting, client);
            }
        });
        Self { shared, port }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Leads to another server from now on; connections that stand stay where they are.
    pub fn lead_to(&self, server: u16) {
        self.shared.server.store(server, Ordering::SeqCst);
    }

    /// Sets what happens to all bytes on a way, those that are held included.
    pub fn set(&self, way: Way, traffic: Traffic) {
        let mut state = self.shared.state();
        match way {
            Way::ToServer => state.to_server = traffic,
            Way::ToClient => state.to_client = traffic,
        }
        self.shared.changed.notify_all();
    }

    /// Everything goes its way again.
    pub fn heal(&self) {
        self.shared.state().heals += 1;
        self.set(Way::ToServer, Traffic::Free);
        self.set(Way::ToClient, Traffic::Free);
    }

    /// Strikes at the `nth` command from now on, counted from 0 over all connections; once.
    pub fn strike_at(&self, nth: usize, strike: Strike) {
        self.strike(Target::Nth(nth), strike);
    }

    /// Strikes at the next command with `text` in it; once.
    pub fn strike_with(&self, text: &'static str, strike: Strike) {
        self.strike(Target::With(text), strike);
    }

    fn strike(&self, target: Target, strike: Strike) {
        let mut state = self.shared.state();
        state.strike = Some((target, strike));
        state.has_struck = false;
        state.commands = 0;
    }

    /// Strikes no more; whether it did.
    pub fn has_struck(&self) -> bool {
        let mut state = self.shared.state();
        state.strike = None;
        state.has_struck
    }

    /// Whether it struck already.
    pub fn is_striking(&self) -> bool {
        self.shared.state().has_struck
    }

    /// How many commands were sent since the last call of [`Proxy::strike_at`].
    pub fn commands(&self) -> usize {
        self.shared.state().commands
    }

    /// How many bytes came from the server so far.
    pub fn bytes_to_client(&self) -> u64 {
        self.shared.state().bytes_to_client
    }

    /// Cuts every connection.
    pub fn cut(&self) {
        self.shared.cut();
    }

    /// Waits until bytes for the client are held back, or were lost.
    pub fn wait_until_struck(&self) {
        let state = self.shared.state();
        let waits = |state: &mut State| !state.has_struck;
        let waited = self.shared.changed.wait_timeout_while(state, HELD_MAX, waits);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        assert!(state.has_struck, "nothing was struck");
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.state().is_over = true;
        self.shared.cut();
        self.shared.changed.notify_all();
        // Wakes whoever accepts.
        drop(TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)));
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn cut(&self) {
        for stream in self.state().streams.drain(..) {
            // It may be closed already.
            drop(stream.shutdown(Shutdown::Both));
        }
    }

    /// Waits for the way to let bytes pass; how many of `bytes` may, and whether that is the end.
    fn pass(&self, way: Way, bytes: usize) -> (usize, bool) {
        let of = |state: &State| match way {
            Way::ToServer => state.to_server,
            Way::ToClient => state.to_client,
        };
        let state = self.state();
        if let Traffic::Late(by) = of(&state) {
            drop(state);
            self.let_pass(by);
            return (bytes, false);
        }
        let held = |state: &mut State| of(state) == Traffic::Held && !state.is_over;
        let waited = self.changed.wait_timeout_while(state, HELD_MAX, held);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        match of(&state) {
            Traffic::Free | Traffic::Late(_) | Traffic::Dripping(_) => (bytes, false),
            Traffic::Held => (0, true),
            Traffic::Lost => (0, false),
            Traffic::CutAfter(left) => {
                let after = Traffic::CutAfter(left.saturating_sub(bytes));
                match way {
                    Way::ToServer => state.to_server = after,
                    Way::ToClient => state.to_client = after,
                }
                (bytes.min(left), bytes >= left)
            }
        }
    }

    fn drips(&self, way: Way) -> Option<Duration> {
        let state = self.state();
        let traffic = match way {
            Way::ToServer => state.to_server,
            Way::ToClient => state.to_client,
        };
        if let Traffic::Dripping(by) = traffic { Some(by) } else { None }
    }

    /// Waits so long, or until the proxy is over.
    fn let_pass(&self, time: Duration) {
        let state = self.state();
        drop(self.changed.wait_timeout_while(state, time, |state| !state.is_over));
    }

    fn wait_for_heals(&self, heals: u64) {
        let state = self.state();
        let waits = |state: &mut State| state.heals < heals && !state.is_over;
        drop(self.changed.wait_timeout_while(state, HELD_MAX, waits));
    }

    /// Counts a command; what strikes it.
    fn command(&self, packet: &[u8]) -> Option<Strike> {
        let mut state = self.state();
        let nth = state.commands;
        state.commands += 1;
        let (target, strike) = state.strike?;
        if !target.is(nth, packet) {
            return None;
        }
        state.strike = None;
        state.has_struck = true;
        self.changed.notify_all();
        Some(strike)
    }
}

fn connect(shared: &Arc<Shared>, client: TcpStream) {
    let server = (Ipv4Addr::LOCALHOST, shared.server.load(Ordering::SeqCst));
    let Ok(server) = TcpStream::connect(server) else { return };
    let (Ok(client_2), Ok(server_2)) = (client.try_clone(), server.try_clone()) else { return };
    let (Ok(client_3), Ok(server_3)) = (client.try_clone(), server.try_clone()) else { return };
    for stream in [&client, &server] {
        drop(stream.set_nodelay(true));
    }
    shared.state().streams.extend([client_3, server_3]);
    let fate = Arc::new(Mutex::new(Fate::Passed));
    let (up, down) = (Arc::clone(shared), Arc::clone(shared));
    let of_answers = Arc::clone(&fate);
    std::thread::spawn(move || {
        let mut link = Link { shared: up, from: client, to: server };
        link.follow_commands(&fate);
        link.close();
    });
    std::thread::spawn(move || {
        let mut link = Link { shared: down, from: server_2, to: client_2 };
        link.pass_on(&of_answers);
        link.close();
    });
}

/// One way of one connection.
struct Link {
    shared: Arc<Shared>,
    from: TcpStream,
    to: TcpStream,
}

impl Link {
    fn close(&self) {
        drop(self.from.shutdown(Shutdown::Both));
        drop(self.to.shutdown(Shutdown::Both));
    }

    /// Passes bytes on as the way allows; `false`: the connection ends.
    fn send(&mut self, way: Way, bytes: &[u8]) -> bool {
        if let Some(by) = self.shared.drips(way) {
            return bytes.iter().all(|byte| {
                self.shared.let_pass(by);
                self.to.write_all(&[*byte]).is_ok()
            });
        }
        let (passing, ends) = self.shared.pass(way, bytes.len());
        self.to.write_all(&bytes[..passing]).is_ok() && !ends
    }

    fn pass_on(&mut self, fate: &Mutex<Fate>) {
        let mut buffer = vec![0; 64 << 10];
        while let Ok(read @ 1..) = self.from.read(&mut buffer) {
            self.shared.state().bytes_to_client += read as u64;
            let fate = *fate.lock().unwrap_or_else(PoisonError::into_inner);
            match fate {
                Fate::Passed => {}
                Fate::Cut => return,
                Fate::Held(heals) => self.shared.wait_for_heals(heals),
            }
            if !self.send(Way::ToClient, &buffer[..read]) {
                return;
            }
        }
    }

    /// Passes on packet by packet.
    fn follow_commands(&mut self, fate: &Mutex<Fate>) {
        let mut header = [0; 4];
        while self.from.read_exact(&mut header).is_ok() {
            let [a, b, c, number] = header;
            let mut packet = header.to_vec();
            packet.resize(4 + u32::from_le_bytes([a, b, c, 0]) as usize, 0);
            if self.from.read_exact(&mut packet[4..]).is_err() {
                return;
            }
            let set = |now| *fate.lock().unwrap_or_else(PoisonError::into_inner) = now;
            let strike = if number == 0 { self.shared.command(&packet) } else { None };
            let goes_on = match strike {
                None => self.send(Way::ToServer, &packet),
                Some(Strike::CutBefore) => false,
                Some(Strike::CutAnswer) => {
                    set(Fate::Cut);
                    self.send(Way::ToServer, &packet)
                }
                Some(Strike::HoldAnswer) => {
                    let heals = self.shared.state().heals + 1;
                    set(Fate::Held(heals));
                    self.send(Way::ToServer, &packet)
                }
                Some(Strike::Error(code)) => self.from.write_all(&error_packet(code, 1)).is_ok(),
                Some(Strike::SecondError(code)) => {
                    let answers = [DONE_WITH_MORE.to_vec(), error_packet(code, 2)].concat();
                    self.from.write_all(&answers).is_ok()
                }
            };
            if !goes_on {
                return;
            }
        }
    }
}

/// The server's way to say that a statement is done, and that another one comes.
const DONE_WITH_MORE: [u8; 11] = [7, 0, 0, 1, 0, 0, 0, 0x0a, 0, 0, 0];

/// The server's way to say that it refuses a command, as the packet of this number.
fn error_packet(code: u16, nth: u8) -> Vec<u8> {
    let mut payload = vec![0xff];
    payload.extend(code.to_le_bytes());
    payload.extend(b"#HY000planted by the proxy");
    let length = u32::try_from(payload.len()).expect("it is short").to_le_bytes();
    let mut packet = vec![length[0], length[1], length[2], nth];
    packet.extend(payload);
    packet
}
