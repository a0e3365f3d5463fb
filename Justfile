# The recipes. `./just RECIPE` installs what is missing first; `just RECIPE` is the same without that.

zonedev := "cargo run --quiet --locked --package zonedev --"
every_kernel := "-k 5.10 -k 5.10+zone-device-refcount -k 6.1 -k 6.12 -k 7.2 -k 7.3"

# List the recipes.
default:
    @just --list --unsorted

# The main job: what removing the extra ZONE_DEVICE page reference changes. Arguments pass through.
test-matrix *args:
    {{zonedev}} matrix {{args}}

# Every case on every fixture and every kernel, and each fixture's teardown: hours with the builds.
test-matrix-full *args:
    {{zonedev}} matrix --full {{every_kernel}} {{args}}
    {{zonedev}} matrix -k 6.12:modules -k 7.3:modules -E hmm-module {{args}}

# Unit, property, snapshot and integration tests; the last boot a real kernel.
test *args:
    ZONEDEV_TEST_KERNEL="$({{zonedev}} build --bzimage 5.10)" cargo test --workspace --locked {{args}}

# Formatting and lints.
lint:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets --locked -- -D warnings

# Measure, as ratios, into target/bench.json.
bench *args:
    {{zonedev}} bench {{args}}

# A busybox shell in a guest: `just shell 6.12 --fixture fsdax-xfs`.
shell *args:
    {{zonedev}} shell {{args}}

# What this host has and lacks.
doctor:
    {{zonedev}} doctor
