//! This process itself, as the kernel keeps it.

/// From now on no core of this process is written, wherever cores go and whatever the limits are (prctl(2), `PR_SET_DUMPABLE`): it
/// would hold keys and tokens. Programs that it starts are as they were. A kernel that refuses is no reason to stop working: the units
/// say `LimitCORE=0` besides.
pub fn leave_no_core() {
    let _ = nix::sys::prctl::set_dumpable(false);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_leaves_no_core_cannot_be_dumped() {
        leave_no_core();
        assert!(!nix::sys::prctl::get_dumpable().expect("the kernel says"));
    }
}
