# The recipes. `./just RECIPE` installs what is missing first; `just RECIPE` is the same without that.

zonedev := "cargo run --quiet --locked --package zonedev --"
every_kernel := "-k 5.10 -k 5.10+zone-device-refcount -k 6.1 -k 6.12 -k 7.2 -k 7.3"
ci := "ZONEDEV_CI_FULL='" + every_kernel + "' harness/ci/run"

# Each argument stays one, also with a blank in it.
set positional-arguments

# List the recipes.
default:
    @just --list --unsorted

# The main job: what removing the extra ZONE_DEVICE page reference changes. Arguments pass through.
test-matrix *args:
    {{zonedev}} matrix "$@"

# Any command of zonedev, where it is not installed: `just zonedev report latest --html`.
zonedev *args:
    @{{zonedev}} "$@"

# Every case on every fixture and every kernel, and each fixture's teardown: hours with the builds.
test-matrix-full *args:
    {{zonedev}} matrix --full {{every_kernel}} {{args}}
    {{zonedev}} matrix -k 6.12:modules -k 7.3:modules -E hmm-module {{args}}

# Make docs/coverage.md anew, from full runs that stay in target/coverage: two hours in emulation.
coverage:
    rm -rf target/coverage
    {{zonedev}} matrix --full {{every_kernel}} --run-dir target/coverage/kernels
    {{zonedev}} matrix -k 6.12:modules -k 7.3:modules -E hmm-module --run-dir target/coverage/modules
    {{zonedev}} matrix --full -k 6.12:gcov --run-dir target/coverage/6.12
    {{zonedev}} matrix --full -k 7.3:gcov --run-dir target/coverage/7.3
    {{zonedev}} coverage target/coverage/kernels target/coverage/modules > docs/coverage.md
    for k in 6.12 7.3; do echo; {{zonedev}} coverage --lines target/coverage/$k; done >> docs/coverage.md

# Unit, property, snapshot and integration tests; the last boot a real kernel.
test *args:
    ZONEDEV_TEST_KERNEL="$({{zonedev}} build --bzimage 5.10)" cargo test --workspace --locked {{args}}

# Have readers that are not ours look at each form of `zonedev report`; names of runs add these.
test-formats *runs:
    harness/zonedev/tests/formats/run {{runs}}

# Fuzz what reads a guest's or a stranger's bytes: so many seconds a target (docs/fuzzing.md).
fuzz seconds="60" target="":
    harness/fuzz/run {{seconds}} {{target}}

# Open the HTML report in a real Chromium, and any run's report given as a file: network off, by keyboard,
# on a phone, with axe-core. Screenshots go to target/report_html. REPORT_PATIENCE=5 on a busy host.
test-report *reports:
    mkdir -p target/report_html/pages
    ZONEDEV_REPORT_PAGES="$PWD/target/report_html/pages" cargo test --quiet --package zonedev --locked --lib report::html
    cp harness/zonedev/tests/report_html/* target/report_html
    npm ci --prefix target/report_html --no-audit --no-fund --silent
    node target/report_html/check.mjs target/report_html target/report_html/pages/*.html {{reports}}

# Start a Slurm cluster of one's own on this machine, to try things: so many nodes (docs/cluster.md).
slurm-up nodes="2" dir="target/slurm" port="16800":
    @harness/slurm/up {{dir}} {{nodes}} {{port}}

# End it, with its jobs.
slurm-down dir="target/slurm":
    @harness/slurm/down {{dir}}

# Runs on a real Slurm with two nodes, on which things go wrong. Needs 5.10 and a mutant of it.
test-slurm *args:
    {{zonedev}} build 5.10 5.10+kernels/mutants/leak-vmsplice-5.10.patch
    ZONEDEV_TEST_SLURM=1 cargo test --package zonedev --locked --test slurm_real -- --nocapture --test-threads 1 {{args}}

# How long a recorded run would take on how many nodes of a cluster.
simulate-cluster *args:
    {{zonedev}} simulate-cluster {{args}}

# Bisect so many simulated histories of each kind, and tell how many trials that took.
simulate searches="1000":
    ZONEDEV_SIMULATED={{searches}} cargo test --release --package zonedev --locked --lib bisect::search -- --nocapture --test-threads 1

# Kill, starve and cut off runs, so often and with this seed, and count what was survived.
test-faults rounds="60" seed="1":
    ZONEDEV_FAULTS={{rounds}} ZONEDEV_FAULTS_SEED={{seed}} cargo test --package zonedev --locked --test faults -- --nocapture

# Make the corpus of kernel reports anew, on kernels that are asked for trouble: see docs/kernel-reports.md.
corpus *args:
    rm -rf target/corpus
    for flavour in trouble reports; do \
        {{zonedev}} matrix -k 5.10:$flavour -k 6.12:$flavour -k 7.3:$flavour -s trouble --run-dir target/corpus/$flavour {{args}}; \
        harness/zonedev/tests/data/reports/take target/corpus/$flavour; \
    done
    -{{zonedev}} matrix -k 6.12:reports-kasan -s trouble --run-dir target/corpus/reports-kasan {{args}}
    harness/zonedev/tests/data/reports/take target/corpus/reports-kasan
    ZONEDEV_UPDATE_EXPECTED=1 cargo test --quiet --locked --package zonedev --lib observe::splat::corpus

# Formatting and lints.
lint:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets --locked -- -D warnings
    cargo fmt --check --manifest-path harness/fuzz/libfuzzer/Cargo.toml
    cargo clippy --locked --manifest-path harness/fuzz/libfuzzer/Cargo.toml --target-dir target/fuzz/lint -- -D warnings

# Lint the workflows of GitHub Actions.
lint-workflows:
    harness/ci/lint-workflows

# CI: build the program and the agent that all jobs use.
ci-tool:
    {{ci}} tool

# CI: which kernels are built and which shards there are, as JSON: `just ci-plan full 8`.
[positional-arguments]
ci-plan selection="quick" shards="2":
    @{{ci}} plan "$@"

# CI: pack the program and the lock of the sources.
ci-pack:
    {{ci}} pack

# CI: build kernels of one source and all that their cells need: `just ci-build quick 5.10 '-k 5.10'`.
[positional-arguments]
ci-build selection name kernels:
    @{{ci}} build "$@"

# CI: run one part of the cells: `just ci-shard 2/4`.
[positional-arguments]
ci-shard partition selection="quick":
    @{{ci}} shard "$@"

# CI: make one run of the parts in target/ci.
ci-merge:
    @{{ci}} merge

# CI: the merged run as HTML, JUnit, JSON, Markdown and GitHub's annotations, in target/ci/report.
ci-report:
    @{{ci}} report

# CI: bisect between $GOOD and $BAD, of $CASE, by $BY (commits, releases, series, config).
ci-bisect:
    @{{ci}} bisect

# Kernels that are broken on purpose: which are found, by what. An hour or more with the builds.
test-mutants *args:
    {{zonedev}} mutants "$@"

# Measure, as ratios, into target/bench.json.
bench *args:
    {{zonedev}} bench "$@"

# A busybox shell in a guest: `just shell 6.12 --fixture fsdax-xfs`.
shell *args:
    {{zonedev}} shell "$@"

# Install the program, its completions (bash, zsh, fish) and its man pages: `just install ~/.local`.
install prefix="~/.local":
    cargo install --quiet --locked --debug --path harness/zonedev --root {{prefix}}
    mkdir -p {{prefix}}/share/bash-completion/completions {{prefix}}/share/zsh/site-functions \
        {{prefix}}/share/fish/vendor_completions.d {{prefix}}/share/man/man1
    {{prefix}}/bin/zonedev completions bash > {{prefix}}/share/bash-completion/completions/zonedev
    {{prefix}}/bin/zonedev completions zsh > {{prefix}}/share/zsh/site-functions/_zonedev
    {{prefix}}/bin/zonedev completions fish > {{prefix}}/share/fish/vendor_completions.d/zonedev.fish
    {{prefix}}/bin/zonedev man {{prefix}}/share/man/man1

# What this host has and lacks.
doctor:
    {{zonedev}} doctor
