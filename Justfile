# The recipes. `./just RECIPE` installs what is missing first; `just RECIPE` is the same without that.

zonedev := "cargo run --quiet --locked --package zonedev --"

# List the recipes.
default:
    @just --list --unsorted

# The main job: what removing the extra ZONE_DEVICE page reference changes. Arguments pass through.
test-matrix *args:
    {{zonedev}} matrix {{args}}

# The same on every fixture, and with each fixture's teardown: some minutes more.
test-matrix-full *args:
    {{zonedev}} matrix --full {{args}}

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
