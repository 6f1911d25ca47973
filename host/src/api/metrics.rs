//! Counters of the HTTP side, and all figures of the server in Prometheus' text format. Label values
//! are names from the configuration and closed lists; no text and no number of a person.

use std::fmt::{Display, Write as _};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use axum::http::StatusCode;

use super::Api;
use crate::domain::Lane;
use crate::plugin::{AccountUsage, BreakerState, EntryStats, Who};
use crate::store::StoreStats;
use crate::telemetry;

/// Upper bounds of the submission histogram in microseconds; the last bucket is beyond them all.
const SUBMIT_BOUNDS_US: [u64; 10] = [
    500, 1_000, 2_000, 5_000, 10_000, 25_000, 50_000, 100_000, 500_000, 2_000_000,
];

/// What the API answered, and how long accepted submissions took.
#[derive(Debug, Default)]
pub struct HttpStats {
    /// By hundreds of the status.
    answers: [AtomicU64; 6],
    submit_us: [AtomicU64; SUBMIT_BOUNDS_US.len() + 1],
    submit_us_sum: AtomicU64,
}

impl HttpStats {
    pub fn answered(&self, status: StatusCode) {
        if let Some(count) = self.answers.get(usize::from(status.as_u16() / 100)) {
            count.fetch_add(1, Relaxed);
        }
    }

    pub fn submitted(&self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = SUBMIT_BOUNDS_US.partition_point(|bound| *bound < micros);
        if let Some(count) = self.submit_us.get(bucket) {
            count.fetch_add(1, Relaxed);
        }
        self.submit_us_sum.fetch_add(micros, Relaxed);
    }
}

/// The whole of `/metrics`.
pub fn exposition(api: &Api) -> String {
    let mut page = Page(String::with_capacity(8 << 10));
    http(&mut page, api);
    store(
        &mut page,
        &api.pipeline.store.stats(),
        api.pipeline.store.health().accepting,
    );
    keys(&mut page, api);
    keys(&mut page, api);
    queues(&mut page, api);
    carriers(&mut page, api);
    inbound(&mut page, api);
    phones(&mut page, api);
    plugins(&mut page, api);
    observers(&mut page, api);
    numbers(&mut page, api);
    (api.more_metrics)(&mut page.0);
    page.0
}

fn numbers(page: &mut Page, api: &Api) {
    let numbers = &api.pipeline.numbers;
    let tables = ["networks", "ported"];
    page.head(
        "heliograph_number_rows",
        "gauge",
        "Rows of the tables of numbers",
    );
    for (table, (rows, _)) in tables.iter().zip(numbers.table_sizes()) {
        page.line("heliograph_number_rows", &[("table", table)], rows);
    }
    page.head(
        "heliograph_number_octets",
        "gauge",
        "Memory of the tables of numbers",
    );
    for (table, (_, octets)) in tables.iter().zip(numbers.table_sizes()) {
        page.line("heliograph_number_octets", &[("table", table)], octets);
    }
    page.head(
        "heliograph_number_reloads_total",
        "counter",
        "Times the tables were read again",
    );
    for (result, count) in ["refused", "taken"].iter().zip(numbers.reloads()) {
        page.line(
            "heliograph_number_reloads_total",
            &[("result", result)],
            count,
        );
    }
}

fn http(page: &mut Page, api: &Api) {
    page.head(
        "heliograph_uptime_seconds",
        "gauge",
        "Since the server started",
    );
    page.line(
        "heliograph_uptime_seconds",
        &[],
        api.started.elapsed().as_secs(),
    );
    page.head(
        "heliograph_panics_total",
        "counter",
        "Panics: each a fault of Heliograph's own",
    );
    page.line("heliograph_panics_total", &[], telemetry::panics());
    page.head(
        "heliograph_clock_ahead_seconds",
        "gauge",
        "The system's clock less the time that is used: not 0 for a while after it was moved",
    );
    page.line(
        "heliograph_clock_ahead_seconds",
        &[],
        api.pipeline.clock.ahead_ms() as f64 / 1_000.0,
    );
    let gate = api.pipeline.gate();
    page.head(
        "heliograph_submissions_under_way",
        "gauge",
        "Submissions without an answer yet, over HTTP and SMPP",
    );
    page.line("heliograph_submissions_under_way", &[], gate.under_way);
    page.head(
        "heliograph_submissions_limit",
        "gauge",
        "How many may be under way at once: it falls where they take longer than 100 ms",
    );
    page.line("heliograph_submissions_limit", &[], gate.limit);
    page.head(
        "heliograph_submissions_shed_total",
        "counter",
        "Submissions refused because too many were under way",
    );
    page.line("heliograph_submissions_shed_total", &[], gate.refused);
    page.head(
        "heliograph_http_answers_total",
        "counter",
        "Answers by hundreds of their status",
    );
    for (class, count) in api.stats.answers.iter().enumerate().skip(2) {
        let class = format!("{class}xx");
        page.line(
            "heliograph_http_answers_total",
            &[("status", &class)],
            count.load(Relaxed),
        );
    }
    let edge = &api.edge;
    page.head("heliograph_http_connections", "gauge", "Open connections");
    page.line("heliograph_http_connections", &[], edge.open.load(Relaxed));
    let counters = [
        ("accepted", &edge.accepted),
        ("refused_total", &edge.refused_total),
        ("refused_per_ip", &edge.refused_per_ip),
        ("made_room", &edge.made_room),
        ("timed_out", &edge.timed_out),
        ("handshake_failed", &edge.handshakes_failed),
        ("accept_error", &edge.accept_errors),
    ];
    page.head(
        "heliograph_http_connections_total",
        "counter",
        "Connections by what became of them",
    );
    for (event, count) in counters {
        page.line(
            "heliograph_http_connections_total",
            &[("event", event)],
            count.load(Relaxed),
        );
    }
    let counts: Vec<u64> = api
        .stats
        .submit_us
        .iter()
        .map(|c| c.load(Relaxed))
        .collect();
    let sum = api.stats.submit_us_sum.load(Relaxed);
    let help = "Accepted submissions, from their head to their answer";
    page.histogram(
        "heliograph_submit_seconds",
        help,
        &SUBMIT_BOUNDS_US,
        &counts,
        sum,
    );
}

fn store(page: &mut Page, stats: &StoreStats, accepting: bool) {
    let help = "Commits of the store, their fdatasync included";
    page.histogram(
        "heliograph_store_commit_seconds",
        help,
        &StoreStats::SYNC_BOUNDS_US,
        &stats.sync_us,
        stats.sync_us_sum,
    );
    let counters = [
        (
            "heliograph_store_commands_total",
            "Commands in those commits",
            stats.committed_commands,
        ),
        (
            "heliograph_messages_accepted_total",
            "Messages made durable",
            stats.accepted,
        ),
        (
            "heliograph_store_busy_total",
            "Submissions refused because the store's queue was full",
            stats.refused_busy,
        ),
        (
            "heliograph_receipts_dropped_total",
            "Receipts without a message, dropped at the limit",
            stats.orphans_dropped,
        ),
        (
            "heliograph_recency_dropped_total",
            "Frequency counts dropped at the limit",
            stats.recency_dropped,
        ),
    ];
    for (name, help, value) in counters {
        page.head(name, "counter", help);
        page.line(name, &[], value);
    }
    let gauges = [
        (
            "heliograph_store_accepting",
            "1 where submissions are taken",
            u64::from(accepting),
        ),
        (
            "heliograph_messages_live",
            "Messages that are not settled",
            stats.live,
        ),
        (
            "heliograph_messages_leased",
            "Messages being sent just now",
            stats.leased,
        ),
        (
            "heliograph_receipts_awaited",
            "Segments that wait for a receipt",
            stats.awaiting,
        ),
        (
            "heliograph_receipts_orphaned",
            "Receipts that wait for their message",
            stats.orphans,
        ),
        (
            "heliograph_webhooks_owed",
            "Webhooks in the outbox",
            stats.outbox,
        ),
        ("heliograph_webhooks_dead", "Webhooks given up", stats.dead),
        (
            "heliograph_store_journal_bytes",
            "Journal that is not yet in the trees",
            stats.journal_octets,
        ),
        (
            "heliograph_store_disk_bytes",
            "Octets on disk",
            stats.disk_octets,
        ),
        (
            "heliograph_store_days",
            "Days that have records",
            stats.days,
        ),
        (
            "heliograph_store_oldest_timestamp_seconds",
            "Beginning of the oldest day that has records",
            stats.oldest_day * 86_400,
        ),
        (
            "heliograph_store_unreadable_records",
            "Records that were met and cannot be read; they are left alone",
            stats.unreadable,
        ),
    ];
    for (name, help, value) in gauges {
        page.head(name, "gauge", help);
        page.line(name, &[], value);
    }
    const DROPPED: &str = "heliograph_store_days_dropped_total";
    page.head(DROPPED, "counter", "Days whose retention has ended");
    page.line(DROPPED, &[], stats.days_dropped);
    const CHECKPOINTS: &str = "heliograph_store_checkpoints_total";
    let help = "Checkpoints: a start reads the database's log from the last one on";
    page.head(CHECKPOINTS, "counter", help);
    page.line(CHECKPOINTS, &[], stats.checkpoints);
}

/// What the recording kept of the decisions, and what a shadow saw of them.
fn observers(page: &mut Page, api: &Api) {
    let observers = &api.pipeline.observers;
    let mut figures = Vec::new();
    if let Some(recorder) = observers.recorder() {
        let stats = recorder.stats();
        figures.extend([
            (
                "heliograph_recording_decisions_total",
                "Decisions taken for replay",
                stats.recorded,
            ),
            (
                "heliograph_recording_dropped_total",
                "Decisions that the disk had no time or room for",
                stats.dropped,
            ),
            (
                "heliograph_recording_octets_total",
                "Octets of recordings written",
                stats.octets,
            ),
        ]);
    }
    if let Some(shadow) = observers.shadow() {
        let report = shadow.report();
        figures.extend([
            (
                "heliograph_shadow_shown_total",
                "Decisions that the shadow was shown",
                report.shown,
            ),
            (
                "heliograph_shadow_not_shown_total",
                "Decisions that the shadow had no time for",
                report.not_shown,
            ),
            (
                "heliograph_shadow_different_total",
                "Decisions that the shadow would make otherwise",
                report.tally.different,
            ),
        ]);
    }
    for (name, help, value) in figures {
        page.head(name, "counter", help);
        page.line(name, &[], value);
    }
}

fn keys(page: &mut Page, api: &Api) {
    const ACTS: &str = "heliograph_audit_failures_total";
    page.head(
        ACTS,
        "counter",
        "Acts that the audit log does not have, because it could not be written",
    );
    page.line(
        ACTS,
        &[],
        api.audit.as_ref().map_or(0, |log| log.failures()),
    );
    const KEYS: &str = "heliograph_store_key_needed";
    let help = "Whether something on disk is, or may be, sealed under the key";
    page.head(KEYS, "gauge", help);
    for key in api.pipeline.store.key_uses() {
        let seals = if key.seals { "true" } else { "false" };
        page.line(
            KEYS,
            &[("key", &key.id), ("seals", seals)],
            u8::from(key.needed),
        );
    }
}

fn queues(page: &mut Page, api: &Api) {
    page.head("heliograph_queued", "gauge", "Messages that wait, by lane");
    for (lane, waiting) in api.pipeline.store.queues() {
        match lane {
            Lane::Decide => page.line("heliograph_queued", &[("lane", "decide")], waiting),
            Lane::Carrier(id) => {
                page.line(
                    "heliograph_queued",
                    &[("lane", "carrier"), ("carrier", id.as_str())],
                    waiting,
                );
            }
        }
    }
}

/// Mobile-originated messages, and those that wait for their parts.
fn inbound(page: &mut Page, api: &Api) {
    const COUNTS: &str = "heliograph_inbound_total";
    let figures = api.pipeline.inbound_counts.read();
    let (counts, gauge) = figures.split_at(figures.len() - 1);
    page.head(COUNTS, "counter", "Mobile-originated messages and parts");
    for (what, count) in counts {
        page.line(COUNTS, &[("what", what)], count);
    }
    page.head(
        "heliograph_inbound_incomplete",
        "gauge",
        "Mobile-originated messages that wait for their parts",
    );
    for (_, count) in gauge {
        page.line("heliograph_inbound_incomplete", &[], count);
    }
}

/// Phones that are back, and ESMEs that wait to hear of it.
fn phones(page: &mut Page, api: &Api) {
    const COUNTS: &str = "heliograph_phones_total";
    let phones = &api.pipeline.phones;
    page.head(COUNTS, "counter", "Phones that carriers said are back");
    for (what, count) in [
        ("hurried", &phones.counts.hurried),
        ("returned_dropped", &phones.counts.returned_dropped),
        ("wishes_dropped", &phones.counts.wishes_dropped),
    ] {
        page.line(COUNTS, &[("what", what)], count.load(Relaxed));
    }
    page.head(
        "heliograph_phones",
        "gauge",
        "What is kept of phones that are away: wishes of ESMEs to hear when they are back",
    );
    page.line("heliograph_phones", &[("what", "wishes")], phones.wishes());
}

fn carriers(page: &mut Page, api: &Api) {
    let reports = api.pipeline.carriers.reports();
    page.head(
        "heliograph_carrier_connected",
        "gauge",
        "1 where a session is bound",
    );
    for report in &reports {
        let labels = [("carrier", report.view.id.as_str())];
        page.line(
            "heliograph_carrier_connected",
            &labels,
            u8::from(report.view.connected),
        );
    }
    page.head(
        "heliograph_carrier_in_flight",
        "gauge",
        "Messages handed over and not answered",
    );
    for report in &reports {
        page.line(
            "heliograph_carrier_in_flight",
            &[("carrier", report.view.id.as_str())],
            report.view.in_flight,
        );
    }
    page.head(
        "heliograph_receipts_total",
        "counter",
        "Receipts and ids of responses, by what they were",
    );
    for report in &reports {
        for (what, count) in &report.receipts.counts {
            let labels = [("carrier", report.view.id.as_str()), ("what", what)];
            page.line("heliograph_receipts_total", &labels, count);
        }
    }
    page.head(
        "heliograph_receipt_id_form_info",
        "gauge",
        "In which form a carrier's ids come back, where its receipts have taught that",
    );
    for report in &reports {
        if let Some(form) = report.receipts.learned_form {
            let labels = [("carrier", report.view.id.as_str()), ("form", form.name())];
            page.line("heliograph_receipt_id_form_info", &labels, 1);
        }
    }
    page.head(
        "heliograph_carrier_delivered_ratio",
        "gauge",
        "Delivered among the last receipts",
    );
    for report in &reports {
        if let Some(ratio) = report.view.delivered_ratio {
            page.line(
                "heliograph_carrier_delivered_ratio",
                &[("carrier", report.view.id.as_str())],
                ratio,
            );
        }
    }
}

/// What a metric of the entries' counters is called, and how it is read.
type Figure = (
    &'static str,
    &'static str,
    &'static str,
    fn(&EntryStats) -> f64,
);

const PLUGIN_FIGURES: [Figure; 8] = [
    (
        "heliograph_plugin_calls_total",
        "counter",
        "Calls since the server started, whatever set the plugin was in",
        |s| s.calls as f64,
    ),
    (
        "heliograph_plugin_cpu_seconds_total",
        "counter",
        "Time in which a thread worked for the plugin",
        |s| s.cpu_nanos as f64 / 1e9,
    ),
    (
        "heliograph_plugin_instances_total",
        "counter",
        "Instances made beside those that a new set begins with",
        |s| s.instances_made as f64,
    ),
    (
        "heliograph_plugin_memory_bytes",
        "gauge",
        "The most memory that one instance had",
        |s| s.memory_high_water_bytes as f64,
    ),
    (
        "heliograph_plugin_log_lines_total",
        "counter",
        "Log lines written",
        |s| s.log_lines as f64,
    ),
    (
        "heliograph_plugin_log_lines_dropped_total",
        "counter",
        "Log lines over the plugin's rate",
        |s| s.log_lines_dropped as f64,
    ),
    (
        "heliograph_plugin_breaker_opened_total",
        "counter",
        "Times that the plugin was taken out for a while",
        |s| s.breaker_opened as f64,
    ),
    (
        "heliograph_plugin_breaker_closed_total",
        "counter",
        "Times that it answered again",
        |s| s.breaker_closed as f64,
    ),
];

/// Counts of one kind, by name.
type Counts = fn(&EntryStats) -> &[(&'static str, u64)];

fn plugins(page: &mut Page, api: &Api) {
    let set = api.pipeline.policy.active();
    page.head("heliograph_policy_info", "gauge", "The policy set in force");
    page.line(
        "heliograph_policy_info",
        &[("set", &set.id().to_string())],
        1,
    );
    let ledger = api.pipeline.policy.ledger();
    let totals = ledger.totals();
    for (name, kind, help, figure) in PLUGIN_FIGURES {
        page.head(name, kind, help);
        for (who, stats) in &totals {
            page.line(name, &labels_of(who), figure(stats));
        }
    }
    let kinds: [(&str, &str, &str, Counts); 3] = [
        (
            "heliograph_plugin_answers_total",
            "outcome",
            "Answers by outcome",
            |s| &s.outcomes,
        ),
        (
            "heliograph_plugin_faults_total",
            "kind",
            "Calls that gave no answer, by kind",
            |s| &s.faults,
        ),
        (
            "heliograph_plugin_host_calls_total",
            "kind",
            "Calls of the host, by kind",
            |s| &s.host_calls,
        ),
    ];
    for (name, label, help, counts) in kinds {
        page.head(name, "counter", help);
        for (who, stats) in &totals {
            for (kind, count) in counts(stats) {
                let mut labels = labels_of(who);
                labels.push((label, kind));
                page.line(name, &labels, count);
            }
        }
    }
    call_seconds(page, &totals);
    page.head(
        "heliograph_plugin_breaker_open",
        "gauge",
        "1 where the plugin is skipped for a while",
    );
    let entries = set.all().iter().flat_map(|e| [Some(e), e.previous()]);
    for entry in entries.flatten() {
        let open = match entry.breaker() {
            BreakerState::Closed => 0,
            BreakerState::Open | BreakerState::Probing => 1,
        };
        let who = entry.who();
        page.line("heliograph_plugin_breaker_open", &labels_of(&who), open);
    }
    accounts(page, &ledger.usages());
}

fn call_seconds(page: &mut Page, totals: &[(Who, EntryStats)]) {
    const NAME: &str = "heliograph_plugin_call_seconds";
    page.head(NAME, "summary", "Time in the plugin and at its border");
    for (who, stats) in totals {
        for (quantile, nanos) in [("0.5", stats.p50_nanos), ("0.99", stats.p99_nanos)] {
            let mut labels = labels_of(who);
            labels.push(("quantile", quantile));
            page.line(NAME, &labels, nanos as f64 / 1e9);
        }
        let labels = labels_of(who);
        let total = stats.total_nanos as f64 / 1e9;
        page.line(&format!("{NAME}_sum"), &labels, total);
        page.line(&format!("{NAME}_count"), &labels, stats.calls);
    }
}

type UsageFigure = fn(&AccountUsage) -> f64;

fn accounts(page: &mut Page, usages: &[AccountUsage]) {
    let figures: [(&str, &str, UsageFigure); 3] = [
        (
            "heliograph_account_plugin_cpu_seconds_total",
            "Time in which a thread worked for the account's own plugins",
            |u| u.cpu_nanos as f64 / 1e9,
        ),
        (
            "heliograph_account_plugin_calls_total",
            "Calls of the account's own plugins",
            |u| u.calls as f64,
        ),
        (
            "heliograph_account_plugin_refused_total",
            "Calls not made because the account's quota was used up",
            |u| u.refused as f64,
        ),
    ];
    for (name, help, figure) in figures {
        page.head(name, "counter", help);
        for usage in usages {
            page.line(name, &[("account", &usage.account)], figure(usage));
        }
    }
}

/// `plugin` is the entry's name in the policy, `component` what the plugin calls itself.
fn labels_of(who: &Who) -> Vec<(&'static str, &str)> {
    let mut labels = vec![
        ("plugin", who.entry.as_str()),
        ("component", who.plugin.as_str()),
        ("version", who.version.as_str()),
        ("hook", who.hook.name()),
    ];
    if let Some(account) = &who.account {
        labels.push(("account", account));
    }
    if who.previous {
        labels.push(("previous", "true"));
    }
    labels
}

/// A page of Prometheus' text format. Writing to a string cannot fail.
struct Page(String);

impl Page {
    fn head(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP {name} {help}.\n# TYPE {name} {kind}");
    }

    fn line(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        self.0.push_str(name);
        for (i, (label, text)) in labels.iter().enumerate() {
            let text = text
                .replace('\\', "\\\\")
                .replace('"', "\\\"")
                .replace('\n', "\\n");
            let open = if i == 0 { '{' } else { ',' };
            let _ = write!(self.0, "{open}{label}=\"{text}\"");
        }
        if !labels.is_empty() {
            self.0.push('}');
        }
        let _ = writeln!(self.0, " {value}");
    }

    /// `counts` has one bucket more than `bounds_us`: what is beyond them all.
    fn histogram(
        &mut self,
        name: &str,
        help: &str,
        bounds_us: &[u64],
        counts: &[u64],
        sum_us: u64,
    ) {
        self.head(name, "histogram", help);
        let mut total = 0;
        for (i, count) in counts.iter().enumerate() {
            total += count;
            let bound = bounds_us
                .get(i)
                .map_or("+Inf".to_owned(), |us| (*us as f64 / 1e6).to_string());
            self.line(&format!("{name}_bucket"), &[("le", &bound)], total);
        }
        self.line(&format!("{name}_sum"), &[], sum_us as f64 / 1e6);
        self.line(&format!("{name}_count"), &[], total);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_counts_upwards_to_infinity() {
        let stats = HttpStats::default();
        for ms in [0, 1, 3, 9_000] {
            stats.submitted(Duration::from_millis(ms));
        }
        let counts: Vec<u64> = stats.submit_us.iter().map(|c| c.load(Relaxed)).collect();
        let mut page = Page(String::new());
        page.histogram(
            "x",
            "help",
            &SUBMIT_BOUNDS_US,
            &counts,
            stats.submit_us_sum.load(Relaxed),
        );
        assert!(page.0.contains("x_bucket{le=\"0.0005\"} 1\n"), "{}", page.0);
        assert!(page.0.contains("x_bucket{le=\"0.001\"} 2\n"), "{}", page.0);
        assert!(page.0.contains("x_bucket{le=\"0.005\"} 3\n"), "{}", page.0);
        assert!(
            page.0
                .contains("x_bucket{le=\"+Inf\"} 4\nx_sum 9.004\nx_count 4\n"),
            "{}",
            page.0
        );
    }

    #[test]
    fn labels_are_escaped() {
        let mut page = Page(String::new());
        page.line("x", &[("a", "q\"\\\n")], 1);
        assert_eq!(page.0, "x{a=\"q\\\"\\\\\\n\"} 1\n");
    }
}
