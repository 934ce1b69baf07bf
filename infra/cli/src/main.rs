//! The `snapkeep` command.

#![warn(
    clippy::print_stdout,
    reason = "output::say! does not panic when standard output is closed"
)]

use std::process::ExitCode;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Parser, Subcommand};
use snapkeep_domain::function::Function;

mod acceptance;
mod access;
mod check;
mod cloud;
mod demo;
mod deployed;
mod drill;
mod explain;
mod files;
mod findings;
mod launch;
mod lint;
mod list;
mod operate;
mod output;
mod patient;
mod picture;
mod pictures;
mod plan;
mod report;
mod restore;
mod retention;
mod simulate;
mod source;
mod status;
mod tags;
mod when;
mod who;
mod world;

use output::say;

/// Scheduled, watched and pruned snapshots for small cloud servers.
#[derive(Parser)]
#[command(version, about, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Show what is protected, how old the newest snapshots are, and what is wrong.
    Status(status::Arguments),
    /// Say in one line how everything stands, for Nagios, cron and Prometheus.
    Check(check::Arguments),
    /// Show our snapshots, with why each stays or goes.
    List(list::Arguments),
    /// Show what the next runs take, mark and delete, when and why, and what that costs.
    Plan(plan::Arguments),
    /// Tell the story of an instance or a snapshot: what happened to it, why, and what comes next.
    Explain(explain::Arguments),
    /// Say what a month promised and what was kept: the auditor's page.
    Report(report::Arguments),
    /// Find what is wrong with variables, policies, tags and holds, and say what was meant.
    Lint(lint::Arguments),
    /// Hold a snapshot, or all snapshots of an instance: nothing prunes them.
    Hold(tags::HoldArguments),
    /// Remove the hold of a snapshot or an instance.
    Release(tags::ReleaseArguments),
    /// Confirm a stricter retention that the brake stopped, by the code that it printed.
    Confirm(tags::ConfirmArguments),
    /// Launch an instance from a snapshot, with the zone, bundle, tags and key pair of the old one.
    Restore(restore::Arguments),
    /// Prove that snapshots can be restored: launch, wait, probe, remove, and note the result.
    Drill(drill::Arguments),
    /// Show what a schedule and a retention would keep over the years, and what it costs, offline.
    Simulate(simulate::Arguments),
    /// Judge timestamps by a retention policy, offline.
    Retention(retention::Arguments),
    /// Watch 90 days of snapshot life on the embedded cloud, in seconds.
    Demo(demo::Arguments),
    /// Run the embedded cloud: Lightsail, DynamoDB and a clock that runs the functions, on loopback.
    ///
    /// The SNAPKEEP_ variables of the environment configure the functions, as in a deployment:
    /// SNAPKEEP_KEEP="daily=7 weekly=4" snapkeep cloud. docs/CONFIGURATION.md lists them all, and
    /// docs/EMBEDDED-CLOUD.md says what else the cloud can do.
    Cloud(cloud::Arguments),
    /// Try a deployment out on a real account, for a few cents, and remove everything again.
    ///
    /// It makes an instance, has it snapshotted, pruned and held, and removes all that it made, also after
    /// Ctrl-C. It says what it costs, and asks. Account and Region come from the standard AWS variables
    /// (AWS_REGION, keys or a profile); it needs the rights of infra/acceptance-policy.json.
    Acceptance(acceptance::Arguments),
    /// Print the completions for a shell: source <(snapkeep completions bash)
    Completions {
        /// Which shell.
        shell: clap_complete::Shell,
    },
    /// Write the manual pages into a folder; man -l DIR/snapkeep.1 shows the first one.
    Man {
        /// The folder.
        #[arg(value_name = "DIR")]
        folder: std::path::PathBuf,
    },
    /// Run one of the Lambda functions in this process (it needs the Lambda Runtime API).
    Function {
        /// Which one.
        #[arg(value_parser = names())]
        name: Function,
    },
}

/// The functions' names, so that the help lists them.
fn names() -> impl TypedValueParser<Value = Function> {
    PossibleValuesParser::new(Function::ALL.map(Function::as_str))
        .try_map(|name| name.parse::<Function>())
}

/// Whether Nagios's own exit statuses count.
fn is_check() -> bool {
    std::env::args().nth(1).is_some_and(|name| name == "check")
}

fn main() -> ExitCode {
    let arguments = Arguments::try_parse().unwrap_or_else(|error| {
        // Whoever runs a check reads one line, whatever happens.
        if error.exit_code() != 0 && is_check() {
            say!("{}", check::unknown(&error.to_string()));
            std::process::exit(check::UNKNOWN.into());
        }
        output::refused(&error)
    });
    let outcome = match arguments.command {
        Command::Retention(arguments) => retention::run(&arguments),
        Command::Status(arguments) => until_stopped(status::run(arguments), None),
        Command::Check(arguments) => until_stopped(check::run(arguments), None),
        Command::Lint(arguments) => until_stopped(lint::run(arguments), None),
        Command::Report(arguments) => until_stopped(report::run(arguments), None),
        Command::List(arguments) => until_stopped(list::run(arguments), None),
        Command::Plan(arguments) => until_stopped(plan::run(arguments), None),
        Command::Explain(arguments) => until_stopped(explain::run(arguments), None),
        Command::Hold(arguments) => until_stopped(tags::hold(arguments), TAGGED),
        Command::Release(arguments) => until_stopped(tags::release(arguments), TAGGED),
        Command::Confirm(arguments) => until_stopped(tags::confirm(arguments), TAGGED),
        Command::Restore(arguments) => block_on(restore::run(arguments)),
        Command::Drill(arguments) => block_on(drill::run(arguments)),
        Command::Simulate(arguments) => simulate::run(&arguments),
        Command::Cloud(arguments) => block_on(cloud::run(arguments)),
        Command::Demo(arguments) => block_on(demo::run(arguments)),
        Command::Acceptance(arguments) => block_on(acceptance::run(arguments)),
        Command::Completions { shell } => {
            let mut text = Vec::new();
            let mut command = <Arguments as clap::CommandFactory>::command();
            clap_complete::generate(shell, &mut command, "snapkeep", &mut text);
            say!("{}", String::from_utf8_lossy(&text).trim_end());
            Ok(ExitCode::SUCCESS)
        }
        Command::Man { folder } => {
            let command = <Arguments as clap::CommandFactory>::command();
            std::fs::create_dir_all(&folder)
                .and_then(|()| clap_mangen::generate_to(command, &folder))
                .map(|()| ExitCode::SUCCESS)
                .map_err(|error| format!("cannot write into {}: {error}", folder.display()).into())
        }
        Command::Function { name } => block_on(async move {
            match name {
                Function::Create => snapkeep_aws::function::create().await?,
                Function::Poll => snapkeep_aws::function::poll().await?,
                Function::Prune => snapkeep_aws::function::prune().await?,
            }
            Ok(ExitCode::SUCCESS)
        }),
    };
    output::checked(outcome).unwrap_or_else(|error| {
        output::complain(&format!("snapkeep: {error}"));
        ExitCode::from(if is_check() { check::UNKNOWN } else { 2 })
    })
}

/// The exit status of a command that Ctrl-C ended.
const INTERRUPTED: u8 = 130;
/// The exit status of a command that SIGTERM ended.
const TERMINATED: u8 = 143;

/// The effect of a command that sets or removes a tag.
const TAGGED: Option<&str> =
    Some("the tag may have been changed: look at the instance or the snapshot");

/// Whatever stopped a command; it is printed.
type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What a command ends with: its exit status, or an error, which is printed and gives exit status 2.
type CommandResult = Result<ExitCode, BoxError>;

fn block_on(future: impl Future<Output = CommandResult>) -> CommandResult {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let outcome = runtime.block_on(future);
    // A question that nobody answered any more may still wait for a line.
    runtime.shutdown_background();
    outcome
}

/// Runs a command that a signal may end at any time, and says then which effect it may have had.
fn until_stopped(
    future: impl Future<Output = CommandResult>,
    effect: Option<&str>,
) -> CommandResult {
    block_on(async {
        tokio::select! {
            outcome = future => outcome,
            code = operate::stopped() => {
                if is_check() {
                    say!("{}", check::unknown("a signal ended it before it had an answer"));
                }
                if let Some(effect) = effect {
                    output::complain(&format!("snapkeep: interrupted; {effect}"));
                }
                Ok(ExitCode::from(code?))
            }
        }
    })
}
