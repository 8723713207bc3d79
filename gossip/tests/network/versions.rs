//! The libraries whose older versions are known to be unsafe.

use toml::Table;

/// Advisories for these are in no database that a check could read.
const AT_LEAST: [(&str, [u64; 3]); 4] = [
    ("libp2p-gossipsub", [0, 50, 1]),
    ("libp2p-quic", [0, 13, 1]),
    ("yamux", [0, 13, 10]),
    ("quinn-proto", [0, 11, 15]),
];

#[test]
fn locked_libraries_are_new_enough() {
    let lock = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.lock")).unwrap();
    let lock: Table = lock.parse().unwrap();
    let packages = lock["package"].as_array().unwrap();
    for (name, least) in AT_LEAST {
        let of_name = packages.iter().filter(|package| package["name"].as_str() == Some(name));
        let versions: Vec<_> = of_name.map(|package| package["version"].as_str().unwrap()).collect();
        assert!(!versions.is_empty(), "{name} is not locked");
        for version in versions {
            let numbers: Vec<u64> = version.split('.').map(|part| part.parse().unwrap()).collect();
            assert!(numbers.as_slice() >= least.as_slice(), "{name} {version} is older than {least:?}");
        }
    }
}
