//! Machines with their own systemd and a real Nix, in namespaces of this machine: no virtual machine, no image to download.
//!
//! A [`Site`] is a network of its own with a few [`Machine`]s in it and a signed binary cache over http. Each machine runs
//! systemd as its first process, on a Debian root file system below a writable layer of its own: it can be rebooted, cut off
//! the network, and lose its power at any moment, and comes up again on the same disk. What it shares with this machine is the
//! kernel and its clock. The root file system is made once, with `mmdebstrap`, and kept in [`root::FOLDER`].
//!
//! [`System`]s are store paths shaped like those of NixOS, built by Nix itself, whose `switch-to-configuration` does what the
//! real one does to a machine as far as `muster` can tell: it sets what the boot loader starts, moves `/run/current-system`,
//! and restarts units; and it goes wrong in the ways that tests need. What stands for the boot loader is in `boot.sh`.
//!
//! All of it lives in namespaces that are held by processes, each of which the kernel kills when the test ends however it
//! ends: nothing has a name in `/run/netns`, no file system stays mounted. Two kinds of empty folders can be left over by a
//! test that was killed, and are removed by the next one.

mod cache;
mod hub;
mod means;
mod node;
mod root;
mod site;
mod system;
mod workshop;

pub use means::can_run_machines;
pub use node::Machine;
pub use root::FOLDER;
pub use site::{Plan, Site};
pub use system::{Built, System};
