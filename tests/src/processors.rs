//! Who runs where. What is said of a server under load is said of the server, and not of how it fares in a fight
//! for the processor with those who load it.

use std::process::Command;

/// The processors of this process, in two halves; they are all its own again when this is dropped.
pub struct Split {
    all: String,
    /// As `taskset --cpu-list` takes them.
    pub server: String,
}

impl Split {
    /// This process keeps to one half from now on. None where there is but one processor, or no `taskset`.
    pub fn take() -> Option<Split> {
        let status = std::fs::read_to_string("/proc/self/status").ok()?;
        let all = status
            .lines()
            .find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?
            .trim()
            .to_owned();
        let numbers = numbers(&all)?;
        let (own, server) = numbers.split_at(numbers.len() / 2);
        let split = Split {
            server: list(server),
            all,
        };
        (!own.is_empty() && keep_to(&list(own))).then_some(split)
    }
}

impl Drop for Split {
    fn drop(&mut self) {
        keep_to(&self.all);
    }
}

/// All threads of this process.
fn keep_to(processors: &str) -> bool {
    let pid = std::process::id().to_string();
    let set = Command::new("taskset")
        .args(["--all-tasks", "--cpu-list", "--pid", processors, &pid])
        .output();
    set.is_ok_and(|set| set.status.success())
}

fn list(numbers: &[u32]) -> String {
    let numbers: Vec<_> = numbers.iter().map(u32::to_string).collect();
    numbers.join(",")
}

/// Of a list such as `0-3,6`.
fn numbers(list: &str) -> Option<Vec<u32>> {
    let mut all = Vec::new();
    for range in list.split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        all.extend(first.parse::<u32>().ok()?..=last.parse().ok()?);
    }
    Some(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_processors_are_read() {
        assert_eq!(numbers("0-3,6"), Some(vec![0, 1, 2, 3, 6]));
        assert_eq!(numbers("5"), Some(vec![5]));
        assert_eq!(numbers("0-"), None);
        assert_eq!(list(&[0, 1, 6]), "0,1,6");
    }
}
