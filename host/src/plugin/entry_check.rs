//! What of one entry can be held against its component once that is loaded: hooks it does not serve,
//! imports it was not granted, a configuration its schema refuses, a fail mode its hook cannot have.

use super::contract::Capability;
use super::load::{Loaded, digest_text};
use super::set::{At, EntrySummary, PolicySet};
use super::spec::{Fail, PluginSpec};
use super::spec_check::Problem;
use super::upgrade::{Build, Upgrade};
use crate::domain::Hook;

const SCHEMA_PROBLEMS_MAX: usize = 10;
const SCHEMA_PROBLEM_CHARS_MAX: usize = 300;

/// A carrier serves everybody's messages: no account's plugin may carry those of another.
pub(super) fn not_an_accounts(spec: &PluginSpec, hooks: &[Hook], at: At<'_>) -> Option<Problem> {
    let adapter = !spec.accounts.is_empty() && hooks.contains(&Hook::CarrierAdapter);
    adapter.then(|| {
        at(
            "/accounts",
            "a carrier-adapter cannot be an account's own: a carrier takes everybody's messages. Name the other hooks in `hooks`".into(),
        )
    })
}

/// The hooks that an entry serves, in the order of the path.
pub(super) fn hooks_of(
    spec: &PluginSpec,
    loaded: &Loaded,
    at: At<'_>,
) -> (Vec<Hook>, Vec<Problem>) {
    let Some(named) = &spec.hooks else {
        return (loaded.hooks.clone(), Vec::new());
    };
    let mut hooks: Vec<Hook> = named.iter().filter_map(|n| Hook::from_name(n)).collect();
    hooks.sort_unstable();
    let exported: Vec<_> = loaded.hooks.iter().map(|h| h.name()).collect();
    let problems = named
        .iter()
        .enumerate()
        .filter(|(_, n)| !exported.contains(&n.as_str()));
    let problems = problems
        .map(|(n, name)| {
            let exports = exported.join(", ");
            at(
                &format!("/hooks/{n}"),
                format!("the component does not export {name}; it exports {exports}"),
            )
        })
        .collect();
    (hooks, problems)
}

pub(super) fn ungranted(
    spec: &PluginSpec,
    loaded: &Loaded,
    hooks: &[Hook],
    previous: Option<&PolicySet>,
    at: At<'_>,
) -> Vec<Problem> {
    let mut problems = Vec::new();
    let in_force = previous.and_then(|p| p.summary().plugins.iter().find(|e| e.name == spec.name));
    let upgrade = in_force.and_then(|before| upgrade(before, spec, loaded));
    for capability in &loaded.imports {
        let granted = granted(spec).contains(capability);
        if !granted {
            let name = capability.name();
            let why = upgrade.as_ref().map_or(String::new(), |u| format!(". {u}"));
            let mut problem = at(
                &format!("/grants/{name}"),
                format!(
                    "the component imports {name}, which is not granted: grant it here, or use another plugin{why}"
                ),
            );
            problem.upgrade = upgrade.clone().map(Box::new);
            problems.push(problem);
        }
    }
    if spec.grants.http.is_some()
        && let Some(pure) = hooks.iter().find(|h| **h != Hook::CarrierAdapter)
    {
        problems.push(at(
            "/grants/http",
            format!(
                "cannot be granted to {}: decision hooks do no I/O, carrier adapters alone do",
                pure.name()
            ),
        ));
    }
    problems
}

/// How the entry's new component differs in what it wants from the one in force; none where it is
/// the same component.
fn upgrade(before: &EntrySummary, spec: &PluginSpec, loaded: &Loaded) -> Option<Upgrade> {
    let names = |capabilities: &[Capability]| -> Vec<&'static str> {
        capabilities.iter().map(|c| c.name()).collect()
    };
    let now = Build {
        version: loaded.manifest.version.clone(),
        digest: digest_text(&loaded.digest),
        imports: names(&loaded.imports),
    };
    let before = Build {
        version: before.version.clone(),
        digest: before.digest.clone(),
        imports: before.imports.clone(),
    };
    Upgrade::of(&spec.name, before, now, names(&granted(spec)))
}

pub(super) fn granted(spec: &PluginSpec) -> Vec<Capability> {
    let grants = &spec.grants;
    Capability::ALL
        .into_iter()
        .filter(|capability| match capability {
            Capability::Logging => true,
            Capability::State => grants.state.is_some(),
            Capability::Tables => !grants.tables.is_empty(),
            Capability::Http => grants.http.is_some(),
        })
        .collect()
}

pub(super) fn schema_problems(spec: &PluginSpec, loaded: &Loaded, at: At<'_>) -> Vec<Problem> {
    loaded
        .schema
        .iter_errors(&spec.config)
        .take(SCHEMA_PROBLEMS_MAX)
        .map(|error| {
            let place = format!("/config{}", error.instance_path());
            at(
                &place,
                error
                    .to_string()
                    .chars()
                    .take(SCHEMA_PROBLEM_CHARS_MAX)
                    .collect(),
            )
        })
        .collect()
}

pub(super) fn default_fail(hook: Hook) -> Fail {
    match hook {
        Hook::ContentFilter | Hook::ComplianceCheck | Hook::CarrierAdapter => Fail::Closed,
        Hook::RoutingPolicy => Fail::Default,
        Hook::InboundHandler | Hook::Enrichment => Fail::Open,
    }
}

pub(super) fn fail_of(spec: &PluginSpec, hook: Hook) -> Result<Fail, String> {
    match (spec.fail, hook) {
        (None, _) => Ok(default_fail(hook)),
        (Some(_), Hook::CarrierAdapter) => {
            Err("a carrier-adapter has no fail mode: its faults are the carrier's temporary failures".into())
        }
        (Some(Fail::Default), Hook::Enrichment | Hook::ContentFilter | Hook::ComplianceCheck | Hook::InboundHandler) => Err(format!(
            "\"default\" is for routing-policy, whose default is default_route; {} has nothing built in and takes \"closed\", \"open\" or \"previous\"",
            hook.name()
        )),
        (Some(Fail::Open), Hook::ComplianceCheck) if !spec.allow_open_compliance => Err(
            "\"open\" lets through what a failing compliance-check would have stopped; it needs allow_open_compliance = true"
                .into(),
        ),
        (
            Some(fail),
            Hook::Enrichment
            | Hook::ContentFilter
            | Hook::ComplianceCheck
            | Hook::RoutingPolicy
            | Hook::InboundHandler,
        ) => Ok(fail),
    }
}
