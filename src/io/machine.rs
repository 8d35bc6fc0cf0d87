//! What the machine tells of itself (Linux; elsewhere it is unknown).

/// Memory of the machine, bytes.
pub fn memory_bytes() -> Option<u64> {
    kilobytes("/proc/meminfo", "MemTotal:")
}

/// The most memory that this process has had so far, bytes.
pub fn memory_peak_bytes() -> Option<u64> {
    kilobytes("/proc/self/status", "VmHWM:")
}

fn kilobytes(file: &str, key: &str) -> Option<u64> {
    let text = std::fs::read_to_string(file).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kb| kb * 1024)
}

/// What the machine is called.
pub fn name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    if name.trim().is_empty() { "unknown".into() } else { name.trim().into() }
}

/// What tells this machine, since it was started, and this container's processes from all others; nothing, if that is unknown.
/// Two machines may have one name.
pub fn space() -> Option<String> {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let processes = std::fs::read_link("/proc/self/ns/pid").ok()?;
    Some(format!("{} {}", boot.trim(), processes.display()))
}

/// When a process began, in ticks since the machine did; nothing, if it is no more, even if nobody has asked what became of it.
pub fn began(process: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name, in brackets, may hold spaces. The state is field 3, the start field 22.
    let mut fields = stat.rsplit(')').next()?.split_whitespace();
    let state = fields.next()?;
    if matches!(state, "Z" | "X" | "x") { None } else { fields.nth(18)?.parse().ok() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_began_and_ends_though_nobody_waits_for_it() {
        let own = began(std::process::id());
        assert!(own.is_some() && own == began(std::process::id()) && space() == space());
        let mut child = std::process::Command::new("sleep").arg("60").spawn().expect("a process");
        assert!(began(child.id()) >= own);
        child.kill().expect("a child");
        let ended = |_| {
            std::thread::sleep(std::time::Duration::from_millis(10));
            began(child.id()).is_none()
        };
        assert!((0..500).any(ended));
        child.wait().expect("an end");
    }
}
