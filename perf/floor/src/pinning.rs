//! Pins the calling thread to one CPU core. Figures of unpinned programs say little: the scheduler
//! moves them between the server's core and the client's.

use std::io;

/// Pins the calling thread to `core`, if one is named.
///
/// # Errors
/// When the machine (or the affinity mask this process was started with) has no such core.
pub fn pin(core: Option<usize>) -> io::Result<()> {
    let Some(core) = core else { return Ok(()) };
    let wanted = core_affinity::CoreId { id: core };
    let allowed = core_affinity::get_core_ids().unwrap_or_default();
    if allowed.contains(&wanted) && core_affinity::set_for_current(wanted) {
        return Ok(());
    }
    let names: Vec<usize> = allowed.iter().map(|id| id.id).collect();
    Err(io::Error::other(format!(
        "core is {core}; allowed is one of {names:?}"
    )))
}
