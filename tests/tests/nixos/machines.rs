//! The machines themselves: what the other stories take for granted.

use std::fs;

use muster_tests::machine::{Machine, Site, System, can_run_machines};
use serde_json::json;

#[test]
fn a_machine_keeps_its_disk_and_loses_the_rest_when_it_reboots_or_has_no_power() {
    if !can_run_machines() {
        return;
    }
    let site = Site::of(2)
        .option("activation", json!({ "backend": "directory", "root": "/srv/app" }))
        .launch(&[System::new("v1")]);
    let machine = &site.machines[1];
    assert_eq!(machine.current(), site.path("v0"));
    assert_eq!(machine.run(["nix-store", "--realise", site.path("v1")]).ok().trim(), site.path("v1"));
    assert!(site.asked().iter().any(|path| path.ends_with(".nar")), "{:?}", site.asked());

    for end in [Machine::reboot, Machine::lose_power] {
        let boot_id = fs::read_to_string(machine.path("/proc/sys/kernel/random/boot_id")).unwrap();
        fs::write(machine.path("/root/kept"), "").unwrap();
        fs::write(machine.path("/run/lost"), "").unwrap();
        end(machine);
        machine.wait_until_up();
        assert!(machine.path("/root/kept").exists() && !machine.path("/run/lost").exists());
        assert_ne!(fs::read_to_string(machine.path("/proc/sys/kernel/random/boot_id")).unwrap(), boot_id);
        assert_eq!(machine.run(["nix-store", "--check-validity", site.path("v1")]).code, 0);
    }

    let reaches_the_other =
        || machine.run(["bash", "-c", "timeout 2 true < /dev/tcp/10.77.0.254/8080"]).code == 0;
    for cabled in [true, false, true] {
        machine.set_cabled(cabled);
        assert_eq!(reaches_the_other(), cabled);
    }
}
