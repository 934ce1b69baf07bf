//! Long simulations: `cargo simulate --seeds 1000000`, and the replay of one seed: `cargo simulate --seed 7`.

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use snapkeep_testkit::simulation::properties::Violation;
use snapkeep_testkit::simulation::{Options, Outcome, Profile, run};

/// Runs histories in which everything goes wrong, and checks what must hold.
#[derive(Parser)]
struct Arguments {
    /// Replays this one, with all that happened.
    #[arg(long)]
    seed: Option<u64>,
    /// With it, under the profile without unique names.
    #[arg(long, requires = "seed")]
    by_id: bool,
    /// How many to run, under each profile.
    #[arg(long, default_value_t = 10_000)]
    seeds: u64,
    /// The first.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Goes on after a promise was broken.
    #[arg(long)]
    all: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // A panic inside a history is a finding of its own, told with its seed.
    std::panic::set_hook(Box::new(|_| {}));
    match arguments.seed {
        Some(seed) => replay(seed, arguments.by_id),
        None => many(&arguments),
    }
}

fn replay(seed: u64, by_id: bool) -> ExitCode {
    let profile = if by_id { Profile::ById } else { Profile::ByName };
    let outcome = run(seed, Options { profile, trace: true, ..Options::default() });
    outcome.lines.iter().for_each(|line| println!("{line}"));
    println!("{} calls, transcript {:016x}", outcome.calls, outcome.hash);
    match outcome.violation {
        None => ExitCode::SUCCESS,
        Some(violation) => {
            println!("{:?} is broken: {}", violation.property, violation.message);
            ExitCode::FAILURE
        }
    }
}

/// Prints a broken promise, and how to replay it.
fn told(seed: u64, profile: Profile, violation: &Violation) {
    let by_id = if profile == Profile::ById { " --by-id" } else { "" };
    let Violation { property, message } = violation;
    println!("{property:?}: {message}; replay it with: cargo simulate --seed {seed}{by_id}");
}

fn many(arguments: &Arguments) -> ExitCode {
    let style = "{bar:40} {pos}/{len} seeds, {per_sec}, {eta} left, {msg}";
    let bar = ProgressBar::new(arguments.seeds).with_style(
        ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar()),
    );
    let next = AtomicU64::new(arguments.from);
    let end = arguments.from.saturating_add(arguments.seeds);
    let (calls, invocations) = (AtomicU64::new(0), AtomicU64::new(0));
    let broken: Mutex<Vec<Outcome>> = Mutex::default();
    let found = || broken.lock().map_or(0, |broken| broken.len());
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while arguments.all || found() == 0 {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end {
                        break;
                    }
                    for profile in Profile::ALL {
                        let outcome = run(seed, Options { profile, ..Options::default() });
                        calls.fetch_add(outcome.calls, Ordering::Relaxed);
                        invocations.fetch_add(outcome.invocations, Ordering::Relaxed);
                        if let Some(violation) = &outcome.violation {
                            bar.suspend(|| told(seed, profile, violation));
                            if let Ok(mut broken) = broken.lock() {
                                broken.push(outcome);
                            }
                        }
                    }
                    bar.inc(1);
                    bar.set_message(format!("{} broken", found()));
                }
            });
        }
    });
    bar.finish();
    println!(
        "{} seeds in {:.0?}, {} invocations, {} calls; {} broke a promise",
        bar.position(),
        bar.elapsed(),
        invocations.into_inner(),
        calls.into_inner(),
        found()
    );
    if found() == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
