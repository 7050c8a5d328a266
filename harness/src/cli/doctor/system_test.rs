//! A planted system: every complaint is made where there is cause, and none where there is none.

use super::*;

const CPU: &str = "sys/devices/system/cpu";
const CLOCK: &str = "sys/devices/system/clocksource/clocksource0";

/// A system in which nothing is wrong, with these files in addition or instead.
fn system(files: &[(&str, &str)]) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    let plant = |path: &str, text: &str| {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    for program in ["cc", "c++", "pkg-config", "protoc"] {
        plant(&format!("usr/bin/{program}"), "");
    }
    plant("usr/lib/x86_64-linux-gnu/libssl.so", "");
    plant("usr/lib/llvm-14/lib/libclang-14.so.1", "");
    plant("sys/fs/cgroup/cgroup.controllers", "cpuset cpu io memory pids\n");
    plant("proc/net/tcp", HEAD);
    plant("proc/sys/net/ipv4/ip_local_port_range", "32768\t60999\n");
    plant(&format!("{CPU}/cpu0/cpufreq/scaling_governor"), "performance\n");
    plant(&format!("{CPU}/intel_pstate/no_turbo"), "1\n");
    plant("proc/swaps", "Filename\tType\tSize\tUsed\tPriority\n");
    plant(&format!("{CLOCK}/current_clocksource"), "tsc\n");
    for (path, text) in files {
        plant(path, text);
    }
    root
}

const HEAD: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt\n";

/// A table of sockets in a state at ports.
fn sockets(state: &str, ports: impl Iterator<Item = u16>) -> String {
    let line =
        |port| format!("   0: 0100007F:{port:04X} 00000000:0000 {state} 00000000:00000000\n");
    HEAD.to_owned() + &ports.map(line).collect::<String>()
}

/// What is not in order with these files: of which thing, how much it matters, what to do.
fn complaints(files: &[(&str, &str)]) -> Vec<(String, State, String)> {
    let root = system(files);
    let findings = System::new(root.path()).findings();
    let bad = findings.into_iter().filter(|finding| finding.state != State::Ok);
    bad.map(|finding| (finding.what, finding.state, finding.fix)).collect()
}

fn only(files: &[(&str, &str)]) -> (String, State, String) {
    let found = complaints(files);
    let [only] = found.as_slice() else { panic!("{found:?}") };
    only.clone()
}

#[test]
fn a_system_in_order_is_left_in_peace() {
    assert_eq!(complaints(&[]), []);
}

#[test]
fn a_system_that_says_nothing_is_not_accused() {
    let root = tempfile::tempdir().unwrap();
    let findings = System::new(root.path()).findings();
    let bad = findings.iter().filter(|finding| finding.state != State::Ok);
    let bad: Vec<&str> = bad.map(|finding| finding.what.as_str()).collect();
    // What is not there may be missing.
    assert_eq!(bad, ["packages to build with", "control groups"]);
    assert!(findings.iter().all(|finding| finding.state <= State::Optional), "{findings:?}");
}

#[test]
fn packages_are_named_with_the_command_that_installs_them() {
    let root = system(&[]);
    fs::remove_file(root.path().join("usr/bin/protoc")).unwrap();
    fs::remove_file(root.path().join("usr/lib/llvm-14/lib/libclang-14.so.1")).unwrap();
    let found = System::new(root.path()).packages();
    assert_eq!(found.state, State::Optional);
    assert_eq!(found.fix, "sudo apt-get install -y libclang-dev protobuf-compiler");
}

#[test]
fn a_saving_governor_on_any_processor_is_found() {
    let path = format!("{CPU}/cpu3/cpufreq/scaling_governor");
    let (what, state, fix) = only(&[(&path, "powersave\n")]);
    assert_eq!((what.as_str(), state), ("CPU governor", State::Doubtful));
    assert_eq!(fix, "sudo cpupower frequency-set -g performance");
}

#[test]
fn turbo_is_switched_off_the_way_that_the_driver_has() {
    let no_turbo = format!("{CPU}/intel_pstate/no_turbo");
    let (_, state, fix) = only(&[(&no_turbo, "0\n")]);
    assert_eq!((state, fix), (State::Optional, format!("echo 1 | sudo tee /{no_turbo}")));

    let boost = format!("{CPU}/cpufreq/boost");
    let root = system(&[(&boost, "1\n")]);
    fs::remove_file(root.path().join(&no_turbo)).unwrap();
    let found = System::new(root.path()).turbo();
    assert_eq!((found.state, found.fix), (State::Optional, format!("echo 0 | sudo tee /{boost}")));
}

#[test]
fn swap_matters_more_when_it_is_used() {
    let head = "Filename\tType\tSize\tUsed\tPriority\n";
    for (line, wanted) in [
        ("/dev/sda2 partition 2097148 0 -2\n", State::Optional),
        ("/dev/sda2 partition 2097148 524288 -2\n", State::Doubtful),
    ] {
        let (what, state, fix) = only(&[("proc/swaps", &format!("{head}{line}"))]);
        assert_eq!((what.as_str(), state, fix.as_str()), ("swap", wanted, "sudo swapoff -a"));
    }
}

#[test]
fn a_slow_clock_is_found_and_a_better_one_named_if_there_is_one() {
    let current = format!("{CLOCK}/current_clocksource");
    let offered = format!("{CLOCK}/available_clocksource");
    let (what, state, fix) = only(&[(&current, "hpet\n"), (&offered, "tsc hpet acpi_pm \n")]);
    assert_eq!((what.as_str(), state), ("clock source", State::Doubtful));
    assert_eq!(fix, format!("echo tsc | sudo tee /{current}"));
    let (.., fix) = only(&[(&current, "hpet\n"), (&offered, "hpet acpi_pm \n")]);
    assert!(fix.starts_with("none better"), "{fix}");
}

#[test]
fn busy_ports_are_counted_by_who_listens() {
    let full = sockets("0A", 20_000..31_500);
    let (what, state, fix) = only(&[("proc/net/tcp6", &full)]);
    assert_eq!((what.as_str(), state), ("ports", State::Doubtful));
    assert!(fix.starts_with("ss -ltnp"), "{fix}");
    // Connections, unlike sockets that listen, take no port from a server.
    assert_eq!(complaints(&[("proc/net/tcp6", &sockets("01", 20_000..31_500))]), []);

    let root = system(&[("proc/net/tcp", &sockets("0A", [2480, 20_000].into_iter()))]);
    let found = System::new(root.path()).ports();
    assert_eq!(found.state, State::Optional);
    assert_eq!(found.found, "11999 of 20000 to 31999 are free; in use: 2480");

    let (_, state, fix) = only(&[("proc/sys/net/ipv4/ip_local_port_range", "1024 60999\n")]);
    assert_eq!(state, State::Doubtful);
    assert!(fix.contains("ip_local_port_range='32768 60999'"), "{fix}");
}

#[test]
fn control_groups_of_both_versions_are_understood() {
    let (what, ..) = only(&[("sys/fs/cgroup/cgroup.controllers", "cpuset cpu pids\n")]);
    assert_eq!(what, "control groups");
    let root = system(&[]);
    fs::remove_file(root.path().join("sys/fs/cgroup/cgroup.controllers")).unwrap();
    let found = || System::new(root.path()).control_groups();
    assert_eq!((found().state, found().found.as_str()), (State::Optional, "none mounted"));
    fs::create_dir(root.path().join("sys/fs/cgroup/cpu,cpuacct")).unwrap();
    assert_eq!(found().found, "version 1 without memory");
    fs::create_dir(root.path().join("sys/fs/cgroup/memory")).unwrap();
    assert_eq!(found(), Finding::ok("control groups", "version 1"));
}
