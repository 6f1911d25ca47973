//! How many files and sockets this process may have open. Many systems begin with 1,024 and let a process have
//! more where it asks.

use crate::api::EdgeLimits;

/// What the store, carriers, plugins, webhooks and the SMPP server may need besides.
const OTHERS: u64 = 512;

/// Asks for as many as the system gives; how many there are then.
pub fn raise() -> u64 {
    match rlimit::increase_nofile_limit(u64::MAX) {
        Ok(limit) => limit,
        Err(error) => {
            tracing::warn!(%error, "how many files may be open could not be raised");
            rlimit::getrlimit(rlimit::Resource::NOFILE).map_or(1_024, |(soft, _)| soft)
        }
    }
}

/// Bounds of a listener that leave room for the rest of the server. Without them the last connection would be
/// the last file of anything.
pub fn bounded(mut limits: EdgeLimits, descriptors: u64) -> EdgeLimits {
    let room = descriptors.saturating_sub(OTHERS).max(descriptors / 2);
    let room = usize::try_from(room).unwrap_or(usize::MAX).max(1);
    if limits.max_connections > room {
        tracing::warn!(
            descriptors,
            max_connections = room,
            "the system lets this process open fewer files than http.max_connections needs; raise `ulimit -n` (LimitNOFILE)"
        );
        limits.max_connections = room;
    }
    limits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_room_for_the_rest() {
        let connections = |descriptors| bounded(EdgeLimits::default(), descriptors).max_connections;
        assert_eq!(connections(1_048_576), 10_000);
        assert_eq!(connections(4_096), 3_584);
        assert_eq!(connections(256), 128);
        assert_eq!(connections(0), 1);
    }
}
