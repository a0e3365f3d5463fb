//! PID 1 of every guest: `/init` of the initramfs, one static file.
//!
//! `init/` is PID 1 itself. It is single threaded, talks to the host over a
//! virtio-serial port, owns the ledger of claims and the table of actors, and
//! serves the network block devices that hold pins. It never maps DAX memory
//! and never makes a system call that the memory under test could stall: what
//! might stall runs in an actor.
//!
//! `actor/` is what runs in the forked processes: the case's actors (`main`,
//! and what `fork` makes), and one worker for provisioning and programs.
//!
//! `wire` is what the two say to each other.
//!
//! `shell` is a forked process, too: it serves the port for shells, beside everything else. Called
//! by a person as `hold`, this file holds pages until it is ended (`hold`).

mod actor;
mod cpus;
mod hold;
mod init;
mod pagemap;
mod process;
mod shell;
mod wire;

fn main() {
    if std::process::id() != 1 {
        std::process::exit(hold::main());
    }
    init::run()
}
