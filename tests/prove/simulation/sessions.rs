//! Two SMPP sessions, an ESME's and a message centre's, over a network that delays, cuts octets anywhere, stalls
//! and breaks. Whoever asks is told once what became of each request, and what "it never left" means holds.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use heliograph::smpp::pdu::{Body, Framing, Pdu, Sm, SmResp, frame};
use heliograph::smpp::session::{
    BindMode, CloseReason, Credentials, Event, INTERFACE_VERSION, Role, Session, Settings,
};
use heliograph::smpp::status;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

const RUN_MS: u64 = 600_000;

/// One seed's pairs of sessions, one after the other; what is found wrong.
pub fn simulate(seed: u64) -> (Vec<String>, usize) {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut books = [Book::default(), Book::default()];
    let mut faults = Vec::new();
    for _ in 0..rng.random_range(1..6) {
        let mut pair = Pair::new(&mut rng, &mut books, &mut faults);
        pair.run();
    }
    let [esme, smsc] = &books;
    for (name, book) in [("ESME", esme), ("SMSC", smsc)] {
        if let Some(open) = book.asked.iter().find(|n| !book.told.contains_key(n)) {
            faults.push(format!("nobody tells the {name} of request {open}"));
        }
    }
    (faults, esme.asked.len() + smsc.asked.len())
}

/// What one side knows of its requests, over all connections, and what the other one took.
#[derive(Default)]
struct Book {
    asked: BTreeSet<u64>,
    told: BTreeMap<u64, Told>,
    taken: BTreeSet<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    Answered,
    Expired,
    NeverSent,
    MayHaveArrived,
}

struct Side {
    session: Session<u64>,
    settings: Settings,
    received: Vec<u8>,
    /// On its way to this side: when it is there, and what.
    arriving: VecDeque<(u64, Vec<u8>)>,
    /// Answers that it owes: when, to which request, to which sequence_number.
    owed: BTreeMap<(u64, u32), u64>,
    sent_at: BTreeMap<u64, u64>,
    told_of_end: bool,
}

struct Pair<'a> {
    rng: &'a mut StdRng,
    books: &'a mut [Book; 2],
    faults: &'a mut Vec<String>,
    began: Instant,
    now: u64,
    sides: [Side; 2],
    slow: u64,
    broken: bool,
}

impl<'a> Pair<'a> {
    fn new(rng: &'a mut StdRng, books: &'a mut [Book; 2], faults: &'a mut Vec<String>) -> Pair<'a> {
        let began = Instant::now();
        let credentials = Credentials {
            mode: BindMode::Transceiver,
            system_id: "id".to_owned(),
            password: "pw".to_owned(),
            system_type: String::new(),
            interface_version: INTERFACE_VERSION,
            address_range: String::new(),
            addr_ton: 0,
            addr_npi: 0,
        };
        let mut side = |role: Role| {
            let settings = Settings {
                window: rng.random_range(1..12),
                response: Duration::from_millis(rng.random_range(2_000..20_000)),
                enquire_link: Duration::from_millis(rng.random_range(5_000..40_000)),
                ..Settings::default()
            };
            Side {
                session: Session::new(role, settings, began).expect("a session"),
                settings,
                received: Vec::new(),
                arriving: VecDeque::new(),
                owed: BTreeMap::new(),
                sent_at: BTreeMap::new(),
                told_of_end: false,
            }
        };
        let sides = [side(Role::Esme(credentials)), side(Role::Smsc)];
        let slow = [50, 500, 6_000][rng.random_range(0..3)];
        Pair {
            rng,
            books,
            faults,
            began,
            now: 0,
            sides,
            slow,
            broken: false,
        }
    }

    fn time(&self) -> Instant {
        self.began + Duration::from_millis(self.now)
    }

    fn fault(&mut self, what: String) {
        self.faults.push(format!("at {} ms: {what}", self.now));
    }

    fn run(&mut self) {
        let breaks_at = self.rng.random_range(1_000..RUN_MS);
        let unbinds_at = self.rng.random_range(1_000..RUN_MS);
        while self.sides.iter().any(|s| !s.told_of_end) && self.now < 2 * RUN_MS {
            self.now += self.rng.random_range(1..400);
            if self.now >= breaks_at && !self.broken {
                self.broken = true;
                // What is on the way is lost, from anywhere on.
                for side in &mut self.sides {
                    let kept = self.rng.random_range(0..=side.arriving.len());
                    side.arriving.truncate(kept);
                }
            }
            if self.now >= unbinds_at {
                let now = self.time();
                self.sides[unbinds_at as usize % 2].session.unbind(now);
            }
            for side in 0..2 {
                self.ask(side);
                self.answer(side);
                self.write(side);
                self.read(side);
                self.time_out(side);
                self.end(side);
            }
        }
        if self.sides.iter().any(|s| !s.told_of_end) {
            self.fault("a session does not end".to_owned());
        }
    }

    fn ask(&mut self, side: usize) {
        let wanted = match self.rng.random_range(0..10) {
            0..5 => 0,
            5..9 => 1,
            _ => 20,
        };
        let now = self.time();
        for _ in 0..wanted {
            let n = self.books[side].asked.len() as u64;
            let text = n.to_string();
            let sm = Sm {
                short_message: text.as_bytes(),
                ..Sm::default()
            };
            let body = match side {
                0 => Body::SubmitSm(sm),
                _ => Body::DeliverSm(sm),
            };
            let this = &mut self.sides[side];
            let free = this.session.window_free();
            let asked = this.session.request(now, body, n);
            let window = this.settings.window;
            if asked.is_ok() {
                this.sent_at.insert(n, self.now);
                self.books[side].asked.insert(n);
            }
            let in_flight = self.sides[side].session.in_flight();
            if in_flight > window {
                self.fault(format!("{in_flight} requests in a window of {window}"));
            }
            if asked.is_ok() != (free > 0) {
                self.fault(format!("{free} free in the window, and {asked:?}"));
            }
        }
    }

    fn answer(&mut self, side: usize) {
        let now = self.time();
        while let Some((&(at, sequence_number), &n)) = self.sides[side].owed.first_key_value() {
            if at > self.now {
                break;
            }
            self.sides[side].owed.remove(&(at, sequence_number));
            let id = n.to_string();
            let resp = SmResp {
                message_id: id.as_bytes(),
                ..SmResp::default()
            };
            let body = match side {
                0 => Body::DeliverSmResp(resp),
                _ => Body::SubmitSmResp(resp),
            };
            let response = Pdu::response(sequence_number, status::ESME_ROK, body);
            self.sides[side].session.respond(now, &response);
        }
        let this = &mut self.sides[side];
        if this.session.is_leaving() && this.owed.is_empty() {
            this.session.let_go();
        }
    }

    /// Some of what the session wants written, in pieces, in order.
    fn write(&mut self, side: usize) {
        let waiting = self.sides[side].session.output().len();
        if waiting == 0 || self.broken {
            return;
        }
        let part = self.rng.random_range(0..=waiting);
        let octets = self.sides[side].session.output()[..part].to_vec();
        self.sides[side].session.wrote(part);
        let there = self.now + self.rng.random_range(1..self.slow);
        let arriving = &mut self.sides[1 - side].arriving;
        let there = there.max(arriving.back().map_or(0, |(at, _)| *at));
        arriving.push_back((there, octets));
    }

    fn read(&mut self, side: usize) {
        while let Some((at, _)) = self.sides[side].arriving.front() {
            if *at > self.now {
                return;
            }
            let Some((_, octets)) = self.sides[side].arriving.pop_front() else {
                return;
            };
            self.sides[side].received.extend(octets);
            while let Framing::Frame(length) = frame(&self.sides[side].received) {
                let pdu: Vec<u8> = self.sides[side].received.drain(..length).collect();
                self.take(side, &pdu);
            }
        }
        let now = self.time();
        let this = &mut self.sides[side];
        let ended = this.session.closed().is_some() || this.session.is_leaving();
        if self.broken && this.arriving.is_empty() && !ended {
            this.session.peer_closed(now);
        }
    }

    fn take(&mut self, side: usize, pdu: &[u8]) {
        let now = self.time();
        match self.sides[side].session.handle(now, pdu) {
            Event::BindRequest {
                sequence_number,
                mode,
                bind,
            } => {
                let version = bind.interface_version;
                let session = &mut self.sides[side].session;
                session.accept_bind(now, sequence_number, mode, version, b"smsc");
            }
            Event::Request {
                sequence_number,
                body: Body::SubmitSm(sm) | Body::DeliverSm(sm),
            } => {
                let Some(n) = number(sm.short_message) else {
                    return self.fault("a request that nobody sent".to_owned());
                };
                let patience = self.sides[side].settings.response.as_millis();
                let patience = u64::try_from(patience).unwrap_or(0) * 2;
                let at = self.now + self.rng.random_range(0..patience);
                self.sides[side].owed.insert((at, sequence_number), n);
                if !self.books[1 - side].taken.insert(n) {
                    self.fault(format!("request {n} arrives twice"));
                }
            }
            Event::Answer {
                token,
                command_status,
                body,
            } => {
                let of = match body {
                    Body::SubmitSmResp(resp) | Body::DeliverSmResp(resp) => number(resp.message_id),
                    _ => None,
                };
                let unbinding = command_status != status::ESME_ROK;
                if of != Some(token) && !unbinding {
                    self.fault(format!("request {token} has the answer to {of:?}"));
                }
                self.tell(side, token, Told::Answered);
            }
            Event::None
            | Event::Bound
            | Event::UnbindRequest
            | Event::Notice { .. }
            | Event::Request { .. } => {}
        }
    }

    fn tell(&mut self, side: usize, n: u64, what: Told) {
        if let Some(before) = self.books[side].told.insert(n, what) {
            self.fault(format!("of request {n} it is told {before:?} and {what:?}"));
        }
        let taken = self.books[side].taken.contains(&n);
        match what {
            Told::NeverSent if taken => {
                self.fault(format!("request {n} never left, and has arrived"));
            }
            Told::Expired => {
                let waited = self.sides[side].sent_at.get(&n).map(|at| self.now - at);
                let response = self.sides[side].settings.response.as_millis();
                if waited.is_some_and(|w| u128::from(w) < response) {
                    self.fault(format!("request {n} expired after {waited:?} ms"));
                }
            }
            Told::Answered | Told::NeverSent | Told::MayHaveArrived => {}
        }
    }

    fn time_out(&mut self, side: usize) {
        let now = self.time();
        let mut expired = Vec::new();
        let session = &mut self.sides[side].session;
        if session.next_timeout().is_some_and(|at| at <= now) {
            session.handle_timeout(now, &mut expired);
        }
        expired.sort_unstable();
        for n in expired {
            self.tell(side, n, Told::Expired);
        }
    }

    fn end(&mut self, side: usize) {
        let this = &mut self.sides[side];
        let Some(reason) = this.session.closed() else {
            return;
        };
        if this.told_of_end {
            return;
        }
        this.told_of_end = true;
        let mut left = this.session.abandon();
        left.sort_unstable();
        for (n, written) in left {
            let what = match written {
                true => Told::MayHaveArrived,
                false => Told::NeverSent,
            };
            self.tell(side, n, what);
        }
        let quick = u128::from(self.slow) * 2 + 1_000;
        let patient = self.sides[side].settings.response.as_millis() > quick;
        if reason == CloseReason::EnquireLinkTimeout && patient && !self.broken {
            self.fault("a live link is given up".to_owned());
        }
        // What it wrote before it ended still arrives, and then the end of it.
        let rest = self.sides[side].session.output().to_vec();
        self.sides[side].session.wrote(rest.len());
        if !self.broken {
            let arriving = &mut self.sides[1 - side].arriving;
            let there = arriving.back().map_or(self.now, |(at, _)| *at);
            arriving.push_back((there, rest));
            self.broken = true;
        }
    }
}

fn number(octets: &[u8]) -> Option<u64> {
    std::str::from_utf8(octets).ok()?.parse().ok()
}
