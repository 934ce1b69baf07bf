//! The rules of the tree itself: who may depend on whom, where a clock may be read, what stays short,
//! and what must agree with the code.

#![expect(clippy::unwrap_used, reason = "a tree that cannot be read fails the test there")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

use cargo_metadata::{DependencyKind, MetadataCommand};
use regex_lite::Regex;
use snapkeep_domain::ledger::record::EDGES;
use snapkeep_tests::{read, root};
use syn::visit::Visit;

/// Every Rust file below these folders.
fn sources(folders: &[&str]) -> Vec<PathBuf> {
    let mut todo: Vec<PathBuf> = folders.iter().map(|folder| root().join(folder)).collect();
    let mut files = Vec::new();
    while let Some(path) = todo.pop() {
        if path.is_dir() {
            todo.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    assert!(!files.is_empty());
    files
}

#[test]
fn dependencies_point_one_way() {
    let metadata = MetadataCommand::new().manifest_path(root().join("Cargo.toml")).exec().unwrap();
    let allowed: &[(&str, &[&str])] = &[
        ("snapkeep-domain", &[]),
        ("snapkeep-app", &["snapkeep-domain"]),
        ("snapkeep-tencent", &["snapkeep-app", "snapkeep-domain"]),
        // It wires the functions, which look after both providers.
        ("snapkeep-aws", &["snapkeep-app", "snapkeep-domain", "snapkeep-tencent"]),
        ("snapkeep-testkit", &["snapkeep-app", "snapkeep-domain"]),
        ("snapkeep-cloud", &["snapkeep-testkit"]),
        ("snapkeep-create", &["snapkeep-aws"]),
        ("snapkeep-poll", &["snapkeep-aws"]),
        ("snapkeep-prune", &["snapkeep-aws"]),
        ("snapkeep", &["snapkeep-app", "snapkeep-aws", "snapkeep-cloud", "snapkeep-domain"]),
    ];
    for package in metadata.workspace_packages() {
        if package.name.as_str() == "snapkeep-tests" {
            continue;
        }
        let (_, allowed) = allowed
            .iter()
            .find(|(name, _)| *name == package.name.as_str())
            .unwrap_or_else(|| panic!("{} is new: say here what it may depend on", package.name));
        let ours = package.dependencies.iter().filter(|d| d.name.starts_with("snapkeep"));
        for dependency in ours.filter(|d| d.kind == DependencyKind::Normal) {
            assert!(
                allowed.contains(&dependency.name.as_str()),
                "{} must not depend on {}",
                package.name,
                dependency.name
            );
        }
        if package.name.as_str() == "snapkeep-domain" {
            let names: BTreeSet<&str> =
                package.dependencies.iter().map(|d| d.name.as_str()).collect();
            assert_eq!(
                names,
                BTreeSet::from(["jiff", "serde", "sha2", "thiserror"]),
                "the core is pure"
            );
        }
        if package.name.as_str() == "snapkeep-app" {
            let sdk = |name: &str| name.starts_with("aws") || name == "tokio";
            assert!(
                !package.dependencies.iter().any(|d| sdk(&d.name)),
                "the app knows no provider"
            );
        }
    }
}

/// The modules of the core, each with those that it names; a module's tests may name any.
fn modules() -> BTreeMap<String, BTreeSet<String>> {
    let folder = root().join("shared/domain/src");
    let path = |file: &PathBuf| {
        let path = file.strip_prefix(&folder).unwrap().with_extension("");
        path.components()
            .map(|part| part.as_os_str().to_str().unwrap())
            .collect::<Vec<_>>()
            .join("::")
    };
    let files = sources(&["shared/domain/src"]);
    let names: BTreeSet<String> = files.iter().map(path).collect();
    let named = Regex::new(r"crate::(\w+)(?:::(\w+))?").unwrap();
    let module = |file: &PathBuf| {
        let text = fs::read_to_string(file).unwrap();
        let code = text.split("#[cfg(test)]").next().unwrap();
        let lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
        let code: String = lines.collect::<Vec<_>>().join("\n");
        let known = named.captures_iter(&code).filter_map(|found| {
            let outer = found[1].to_owned();
            let inner = found.get(2).map(|inner| format!("{outer}::{}", inner.as_str()));
            inner.filter(|inner| names.contains(inner)).or(Some(outer))
        });
        // What is inside a module may name what it is inside of.
        let own = path(file);
        let others = known.filter(|name| names.contains(name) && !own.starts_with(name.as_str()));
        (own.clone(), others.collect())
    };
    files.iter().map(module).collect()
}

#[test]
fn the_core_goes_round_in_no_circle() {
    let mut left = modules();
    assert!(left.len() > 15);
    // Again and again takes away what names nothing that is left.
    loop {
        let done: Vec<String> = left
            .iter()
            .filter(|(_, names)| !names.iter().any(|name| left.contains_key(name)))
            .map(|(module, _)| module.clone())
            .collect();
        if done.is_empty() {
            break;
        }
        done.iter().for_each(|module| drop(left.remove(module)));
    }
    assert!(left.is_empty(), "these go round in circles: {left:#?}");
}

#[test]
fn a_clock_is_read_in_its_adapter_only() {
    for file in sources(&["shared", "functions"]) {
        let text = fs::read_to_string(&file).unwrap();
        let reads = ["Timestamp::now(", "SystemTime::now(", "Instant::now(", "Zoned::now("];
        let found = reads.iter().any(|read| text.contains(read));
        let adapter = file.ends_with("shared/aws/src/clock.rs");
        assert!(!found || adapter, "{} reads a clock", file.display());
    }
}

#[test]
fn files_are_short_and_say_what_they_are() {
    for file in sources(&["shared", "functions", "infra", "tests"]) {
        let text = fs::read_to_string(&file).unwrap();
        let lines = text.lines().count();
        assert!(lines <= 500, "{} has {lines} lines", file.display());
        let tests = file.file_name().is_some_and(|name| name == "tests.rs");
        assert!(tests || text.starts_with("//!"), "{} has no module doc", file.display());
    }
    for function in ["create", "poll", "prune"] {
        let lines = read(format!("functions/{function}/src/main.rs")).lines().count();
        assert!(lines <= 40, "the main of {function} has {lines} lines");
    }
}

/// The functions of a file, tests included, each with how many lines it has.
struct Functions(Vec<(String, usize)>);

impl Functions {
    fn measure(&mut self, name: &syn::Ident, whole: proc_macro2::Span) {
        let lines = whole.end().line - name.span().start().line + 1;
        self.0.push((name.to_string(), lines));
    }
}

impl Visit<'_> for Functions {
    fn visit_item_fn(&mut self, function: &syn::ItemFn) {
        self.measure(&function.sig.ident, function.block.brace_token.span.close());
        syn::visit::visit_item_fn(self, function);
    }

    fn visit_impl_item_fn(&mut self, function: &syn::ImplItemFn) {
        self.measure(&function.sig.ident, function.block.brace_token.span.close());
        syn::visit::visit_impl_item_fn(self, function);
    }
}

#[test]
fn functions_fit_on_a_screen() {
    let mut long = Vec::new();
    for file in sources(&["shared", "functions", "infra", "tests", "fuzz/src", "fuzz/fuzz_targets"])
    {
        let code = syn::parse_file(&fs::read_to_string(&file).unwrap()).unwrap();
        let mut functions = Functions(Vec::new());
        functions.visit_file(&code);
        let over = functions.0.into_iter().filter(|(_, lines)| *lines > 70);
        long.extend(over.map(|(name, lines)| format!("{lines} {name} in {}", file.display())));
    }
    long.sort();
    assert!(long.is_empty(), "functions of more than 70 lines: {long:#?}");
}

#[test]
fn the_front_page_is_short_and_links_lead_somewhere() {
    let lines = read("README.md").lines().count();
    assert!(lines <= 150, "README.md has {lines} lines");
    let link = Regex::new(r"\]\(([^)#:]+)(?:#([^)]*))?\)|\]\(#([^)]*)\)").unwrap();
    for document in documents() {
        let text = fs::read_to_string(&document).unwrap();
        for found in link.captures_iter(&text) {
            let to = match found.get(1) {
                Some(path) => document.parent().unwrap().join(path.as_str()),
                None => document.clone(),
            };
            // A link within the repository's own web pages.
            if to.components().any(|part| part.as_os_str() == "blob") {
                continue;
            }
            assert!(to.exists(), "{}: {}", document.display(), &found[0]);
            let anchor = found.get(2).or(found.get(3)).map(|anchor| anchor.as_str());
            if let Some(anchor) = anchor.filter(|_| to.extension().is_some_and(|e| e == "md")) {
                let anchors = anchors(&fs::read_to_string(&to).unwrap());
                assert!(anchors.contains(anchor), "{}: {}", document.display(), &found[0]);
            }
        }
    }
}

/// The documents that people read.
fn documents() -> Vec<PathBuf> {
    let mut all: Vec<PathBuf> = [".", "docs", "docs/adr", ".github"]
        .iter()
        .flat_map(|folder| fs::read_dir(root().join(folder)).unwrap())
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "md"))
        .collect();
    all.sort();
    all
}

/// What the headings of a document are linked by.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = text.lines().filter(|line| line.starts_with('#'));
    let anchor = |heading: &str| -> String {
        let words = heading.trim_start_matches('#').trim().to_lowercase();
        let kept = words.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    };
    headings.map(anchor).collect()
}

/// docs/STYLE.md says what to write instead.
#[test]
fn the_worst_words_do_not_come_back() {
    let worst = [
        "Matter",
        "Matters",
        "Telling",
        "humane",
        "leftover",
        "whose_name",
        "gather_once",
        "Habits",
    ];
    let word = Regex::new(r"\w+").unwrap();
    for file in sources(&["shared", "functions", "infra", "tests"]) {
        // What an old item says is read; what is refused is named.
        let own = ["record.rs", "codec.rs"].iter().any(|name| file.ends_with(name));
        if own || file.ends_with("repo/main.rs") {
            continue;
        }
        let text = fs::read_to_string(&file).unwrap();
        for (number, line) in text.lines().enumerate() {
            let found = word.find_iter(line).find(|found| worst.contains(&found.as_str()));
            let place = format!("{}:{}", file.display(), number + 1);
            assert!(found.is_none(), "{place} says `{}`", found.unwrap().as_str());
        }
    }
}

#[test]
fn the_toolchain_is_the_oldest_one_that_is_supported() {
    let toolchain = read("rust-toolchain.toml");
    let manifest = read("Cargo.toml");
    let value = |text: &str, key: &str| {
        let line = text.lines().find(|line| line.starts_with(key)).unwrap();
        line.split('"').nth(1).unwrap().to_owned()
    };
    assert_eq!(value(&toolchain, "channel"), format!("{}.0", value(&manifest, "rust-version")));
}

#[test]
fn the_architecture_tells_every_legal_edge_and_no_other() {
    let text = read("ARCHITECTURE.md");
    let states: BTreeSet<&str> =
        snapkeep_domain::ledger::record::State::ALL.iter().map(|state| state.as_str()).collect();
    let told: BTreeSet<(String, String)> = text
        .lines()
        .filter_map(|line| {
            let mut cells =
                line.strip_prefix('|')?.split('|').map(|cell| cell.trim().trim_matches('`'));
            let (from, to) = (cells.next()?, cells.next()?);
            (states.contains(from) && states.contains(to)).then(|| (from.to_owned(), to.to_owned()))
        })
        .collect();
    let legal: BTreeSet<(String, String)> =
        EDGES.iter().map(|(from, to)| (from.as_str().to_owned(), to.as_str().to_owned())).collect();
    assert_eq!(told, legal);
}

/// Names in backticks that read like a sentence are names of tests.
#[test]
fn every_test_that_the_documents_name_exists() {
    let code: String = sources(&["shared", "infra", "functions", "tests"])
        .iter()
        .map(|file| fs::read_to_string(file).unwrap())
        .collect();
    let mut named = 0;
    for document in ["ARCHITECTURE.md"] {
        let text = read(document);
        for name in text.split('`').skip(1).step_by(2) {
            let word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
            if name.matches('_').count() >= 2 && name.chars().all(word) {
                named += 1;
                let exists = code.contains(&format!("fn {name}("));
                assert!(exists, "{document} names a test that is not there: {name}");
            }
        }
    }
    assert!(named > 50, "{named}");
}

#[test]
fn a_panic_unwinds() {
    let manifest = read("Cargo.toml");
    assert!(manifest.contains("panic = \"unwind\""), "lambda_runtime reports panics by unwinding");
}
