//! What happens in a day, every day at the same hours: carriers that flap, throttle, go away and fall silent, a
//! webhook target and a receiver that are gone for hours, policies swapped, plugins uploaded, certificates
//! replaced; and, on the first day alone, a restart in order and a `kill -9`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::{Duration, Instant};

use heliograph::carrier::simulator::{Mo, Settings};
use tokio_rustls::rustls::pki_types::ServerName;

use super::traffic::Clients;
use super::{FLAPPING, SESSIONS, WINDOW};
use crate::guests::Guest;
use crate::tls::{Certificates, certificates};
use crate::{ADMIN_KEY, Rig, bearer};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    Certificate,
    Policy(usize),
    Rollback,
    Upload,
    Flap,
    Throttle(bool),
    Away(bool),
    Silent(bool),
    Webhooks(bool),
    Receiver(bool),
    Texts,
    Terminate,
    Kill,
}

const TERMINATE_AT: f64 = 10.0;
const KILL_AT: f64 = 19.0;

/// Whether the server is about to be away, or is.
fn is_restart_near(first_day: bool, hour: f64) -> bool {
    let near = |at: f64| (at - 2.0..=at).contains(&hour);
    first_day && (near(TERMINATE_AT) || near(KILL_AT))
}

/// By hour, in order.
fn acts(first_day: bool) -> Vec<(f64, Act)> {
    let mut acts = vec![
        (1.0, Act::Certificate),
        (3.0, Act::Policy(1)),
        (4.0, Act::Upload),
        (9.0, Act::Throttle(true)),
        (11.0, Act::Throttle(false)),
        (12.0, Act::Away(true)),
        (15.0, Act::Away(false)),
        (15.5, Act::Policy(0)),
        (16.0, Act::Silent(true)),
        (16.5, Act::Silent(false)),
        (17.0, Act::Rollback),
        (18.0, Act::Webhooks(false)),
        (20.0, Act::Receiver(false)),
        (21.0, Act::Webhooks(true)),
        (22.5, Act::Receiver(true)),
        (23.0, Act::Policy(0)),
    ];
    acts.extend((0..12).map(|n| (6.0 + f64::from(n) / 4.0, Act::Flap)));
    acts.extend((0..24).map(|n| (f64::from(n) + 0.4, Act::Texts)));
    if first_day {
        acts.extend([(TERMINATE_AT, Act::Terminate), (KILL_AT, Act::Kill)]);
    }
    acts.sort_by(|a, b| a.0.total_cmp(&b.0));
    acts
}

/// What the programme has done that explains copies at carriers.
#[derive(Default)]
pub struct Done {
    pub acts: usize,
    /// Segments that may have been in a window that broke.
    pub in_windows: usize,
    pub texts: u64,
}

pub struct Programme {
    pub clients: Arc<Clients>,
    pub policies: [String; 2],
    pub tls: String,
    /// The flapping carrier when it is well.
    pub well: Settings,
    /// What it takes in a second while it throttles: less than it is sent. Much less would be an outage of many hours,
    /// because a rate is found anew by the time of the machine.
    pub throttled: u32,
    /// The server's process, for who looks at it.
    pub pid: Arc<AtomicU32>,
    pub done: Done,
}

impl Programme {
    /// All acts of `days` days, each at its time; returns at the end of the last.
    pub async fn run(&mut self, rig: &mut Rig, day: Duration, days: u32) {
        let began = Instant::now();
        for n in 0..days {
            for (hour, act) in acts(n == 0) {
                let at = day.mul_f64(f64::from(n) + hour / 24.0);
                tokio::time::sleep(at.saturating_sub(began.elapsed())).await;
                // What nobody hears of is only known to be so a day after its validity.
                let left = f64::from(days) - f64::from(n) - hour / 24.0;
                let mute = left > 1.4 && !is_restart_near(n == 0, hour);
                self.clients.mute.store(mute, Relaxed);
                self.act(rig, n as usize, act).await;
                self.done.acts += 1;
            }
        }
        tokio::time::sleep((day * days).saturating_sub(began.elapsed())).await;
    }

    async fn act(&mut self, rig: &mut Rig, day: usize, act: Act) {
        let flapping = &rig.simulators[FLAPPING];
        let well = self.well.clone();
        match act {
            Act::Certificate => self.certificate(rig).await,
            Act::Policy(n) => rig.write_policy(&self.policies[n]),
            Act::Rollback => {
                self.expect(rig, "POST", "/v1/policy/rollback", None, &[200])
                    .await
            }
            Act::Upload => {
                // A few that come again, as they do where somebody goes back and forth.
                let guest = Guest {
                    data: vec![u8::try_from(day % 3).unwrap_or(0)],
                    ..Guest::default()
                };
                let bytes = Some(guest.build());
                self.expect(rig, "POST", "/v1/plugins", bytes, &[200, 201])
                    .await;
            }
            Act::Flap => self.done.in_windows += flapping.drop_connections() * WINDOW,
            Act::Throttle(on) => {
                let throughput = if on { self.throttled } else { 0 };
                self.change(rig, Settings { throughput, ..well });
            }
            Act::Away(on) => {
                // ESME_RBINDFAIL.
                let bind_status = if on { 0x0D } else { 0 };
                self.change(
                    rig,
                    Settings {
                        bind_status,
                        ..well
                    },
                );
                if on {
                    self.done.in_windows += rig.simulators[FLAPPING].drop_connections() * WINDOW;
                }
            }
            Act::Silent(stalled) => {
                self.change(rig, Settings { stalled, ..well });
                self.done.in_windows += usize::from(stalled) * SESSIONS * WINDOW;
            }
            Act::Webhooks(there) => self.clients.books.away.store(!there, Relaxed),
            Act::Receiver(there) => self.clients.receiver_away.store(!there, Relaxed),
            Act::Texts => {
                let mo = Mo {
                    from: "447700900123".to_owned(),
                    to: "60777".to_owned(),
                    text: format!("text {}", self.done.texts),
                    ..Mo::default()
                };
                // Nobody is bound where the server is just away.
                self.done.texts += u64::from(rig.simulators[0].inject(&mo).is_ok());
            }
            Act::Terminate => {
                let status = rig.terminate().await;
                if !status.success() {
                    self.clients.books.fault(format!("SIGTERM: {status}"));
                }
                rig.launch().await;
                self.pid.store(rig.pid(), Relaxed);
            }
            Act::Kill => {
                rig.kill().await;
                self.done.in_windows += rig.simulators.len() * SESSIONS * WINDOW;
                rig.launch().await;
                self.pid.store(rig.pid(), Relaxed);
            }
        }
    }

    fn change(&self, rig: &Rig, settings: Settings) {
        let changed = rig.simulators[FLAPPING].change(settings);
        changed.expect("settings that can be");
    }

    async fn expect(
        &self,
        rig: &Rig,
        method: &str,
        path: &str,
        body: Option<Vec<u8>>,
        good: &[u16],
    ) {
        let key = bearer(ADMIN_KEY);
        let mut headers = vec![("authorization", key.as_str())];
        if body.is_some() {
            headers.push(("content-type", "application/wasm"));
        }
        let answered = rig.try_call(method, path, body, &headers).await;
        if !answered
            .as_ref()
            .is_ok_and(|(status, _)| good.contains(status))
        {
            let what = format!("{method} {path}: {answered:?}");
            self.clients.books.fault(what);
        }
    }

    /// A new pair of files is in use soon, without a restart.
    async fn certificate(&self, rig: &Rig) {
        let made = certificates(|_| {});
        write_certificate(rig, &made);
        rig.signal("-HUP").await;
        let end = Instant::now() + Duration::from_secs(20);
        while !trusts(&self.tls, &made).await {
            if Instant::now() >= end {
                let what = "a replaced certificate is not in use";
                return self.clients.books.fault(what.to_owned());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

pub const CERTIFICATE: &str = "http.crt";
pub const CERTIFICATE_KEY: &str = "http.key";

fn write_certificate(rig: &Rig, made: &Certificates) {
    for (name, pem) in [
        (CERTIFICATE_KEY, &made.key_pem),
        (CERTIFICATE, &made.certificate_pem),
    ] {
        std::fs::write(rig.dir.path().join(name), pem).expect("a file");
    }
}

async fn trusts(address: &str, made: &Certificates) -> bool {
    let Ok(stream) = tokio::net::TcpStream::connect(address).await else {
        return false;
    };
    let name = ServerName::try_from("localhost").expect("a name");
    made.connector().connect(name, stream).await.is_ok()
}
