# `just` lists the recipes; `just <name>` runs one.

# Lists the recipes.
default:
    @just --list

# Everything that must hold before a change lands.
check:
    .ci/run

# Formats the code.
fmt:
    cargo fmt --all

# Lints all targets as strictly as the check does.
lint:
    cargo clippy --workspace --all-targets --locked -- -D warnings

# Runs all tests, or those whose name contains the argument: `just test brake`.
test *filter:
    cargo test --locked {{filter}}

# Fuzzes parsers, create, poll or prune (needs cargo-fuzz): `just fuzz prune -runs=1000000`.
fuzz target *arguments:
    cargo fuzz run --sanitizer none {{target}} -- -max_len=1024 -len_control=0 {{arguments}}

# Shows the main job: 90 days on the embedded cloud, in seconds.
demo *arguments:
    cargo run --release -- demo {{arguments}}

# Runs the embedded cloud until Ctrl-C: `just cloud --speed 300`.
cloud *arguments:
    cargo run --release -- cloud --ready-file ready.json {{arguments}}

# Builds the functions as they are deployed (needs what infra/requirements.txt lists).
build:
    sam build

# Generates the stack for `cargo lambda deploy` from template.yaml (needs ruamel.yaml).
stacks:
    python3 infra/generate.py

# Builds a release's files into target/dist, for one architecture or both.
release *arch:
    .ci/release {{arch}}

# Checks spelling (needs typos).
spelling:
    typos

# Checks licences, advisories, sources and duplicates of dependencies (needs cargo-deny).
deny:
    cargo deny check

# Builds the documentation of the code.
doc:
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked
