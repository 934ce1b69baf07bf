//! Every example of docs/SEMANTICS.md: stories are played by the real runners, in memory; tables of
//! schedules are calculated; commands are run.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use jiff::SignedDuration;
use snapkeep_app::ports::ErrorKind;
use snapkeep_domain::function::Function;
use snapkeep_domain::policy::schedule::Schedule;
use snapkeep_domain::policy::settings::Settings;
use snapkeep_domain::snapshot::{Instance, Snapshot, SnapshotState, snapshot_name};
use snapkeep_domain::time::{Zone, parse_duration};
use snapkeep_testkit::simulation::ports::Fault;
use snapkeep_testkit::simulation::{Profile, REGIONS, Simulation};
use snapkeep_tests::at;
use snapkeep_tests::binaries::binary;

const DOCUMENT: &str = include_str!("../../docs/SEMANTICS.md");
const FUNCTIONS: [(Function, &str, i64); 3] = [
    (Function::Create, "create", 15),
    (Function::Poll, "poll", 10),
    (Function::Prune, "prune", 60),
];

/// The fenced blocks of a kind.
fn blocks(kind: &str) -> Vec<&'static str> {
    blocks_of(DOCUMENT, kind)
}

fn blocks_of(document: &'static str, kind: &str) -> Vec<&'static str> {
    let fence = format!("```{kind}\n");
    let blocks = document.split(&fence).skip(1);
    blocks.map(|rest| rest.split("```").next().unwrap_or_default()).collect()
}

#[test]
fn every_story_goes_as_told() {
    let stories = blocks("story");
    assert!(stories.len() > 10, "{}", stories.len());
    let tell = |story: &&str| {
        let mut told = Story::new();
        let mut lines = story.lines();
        lines.find_map(|line| {
            told.line(line).err().map(|why| format!("{why}\nat `{line}` of\n{story}"))
        })
    };
    let wrong: Vec<String> = stories.iter().filter_map(tell).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A world with its three functions at the default cadence.
struct Story {
    simulation: Simulation,
}

impl Story {
    fn new() -> Self {
        Story { simulation: Simulation::scripted(Profile::ByName, &[], &[]) }
    }

    fn line(&mut self, line: &str) -> Result<(), String> {
        let words: Vec<&str> = line.split(' ').collect();
        let world = self.simulation.world.clone();
        let provider = &world.provider;
        let region = REGIONS[0];
        match words.as_slice() {
            ["=", "nothing", "is", "reported"] => self.reports(""),
            ["=", "reported:", ..] => self.reports(line.trim_start_matches("= reported: ")),
            ["=", function, "refuses", "to", "start"] => self.refuses(function),
            ["=", ..] => self.counts(line.trim_start_matches("= ")),
            ["it", "is", time] => {
                let by = at(time).duration_since(world.now());
                self.simulation.advance(by);
                Ok(())
            }
            [time, "pass"] => self.pass(time, None),
            [time, "pass", "without", function] => self.pass(time, Some(function)),
            ["create", "is", "denied", "for", time] => {
                self.simulation.refuse("create", ErrorKind::Denied, span(time)?);
                Ok(())
            }
            ["the", "ledger", "is", "lost"] => {
                world.ledgers[0].clear();
                Ok(())
            }
            ["the", which, "snapshot", what @ ..] => self.change_snapshot(line, which, what),
            [name, "is", "due", "and", "its", "snapshot's", "name", "is", "taken"] => {
                self.take_name(name)
            }
            [name, "is", "launched"] => {
                provider.launch(region, name, BTreeMap::new());
                Ok(())
            }
            [name, "is", "deleted"] => {
                provider.terminate(region, name);
                Ok(())
            }
            [name, "gets", ..] => {
                let (key, value) = tag(line);
                provider.tag_instance(region, name, key, value);
                Ok(())
            }
            [name, "loses", key] => {
                provider.untag_instance(region, name, key);
                Ok(())
            }
            _ => match line.split_once(": ") {
                Some((key, value)) if key.starts_with("SNAPKEEP_") => {
                    let vars = &mut self.simulation.deployments[0].vars;
                    vars.insert(key.to_owned(), value.to_owned());
                    Ok(())
                }
                _ => self.line_by_id(&words),
            },
        }
    }

    /// What happens only where names do not identify snapshots.
    fn line_by_id(&mut self, words: &[&str]) -> Result<(), String> {
        let world = self.simulation.world.clone();
        let (provider, region) = (&world.provider, REGIONS[0]);
        match words {
            ["names", "identify", "nothing"] => {
                self.simulation = Simulation::scripted(Profile::ById, &[], &[]);
            }
            ["snapshots", "show", "no", "tags"] => provider.drop_tags(),
            ["the", "quota", "is", total] => world.set_quota(total.parse().ok()),
            ["requests", "get", "no", "answer", "for", time] => {
                self.simulation.refuse("create", ErrorKind::Indeterminate, span(time)?);
            }
            ["create", "runs,", "and", "an", "answer", "is", "lost"] => self.lose_an_answer()?,
            [name, "is", "shut", "down"] => {
                provider.set_unready(region, name, Some("the instance is shut down"));
            }
            [name, "is", "started"] => provider.set_unready(region, name, None),
            [name, "is", "renamed", to] => provider.rename_instance(region, name, to),
            _ => return Err("nobody knows what this means".to_owned()),
        }
        Ok(())
    }

    /// Runs `create`, which asks for a snapshot and hears nothing.
    fn lose_an_answer(&mut self) -> Result<(), String> {
        let me = self.simulation.start(Function::Create, 0).ok_or("create does not start")?;
        while self.simulation.upcoming(me).is_some_and(|(operation, _)| operation != "create") {
            self.simulation.next(me, None);
        }
        let asked = self.simulation.next(me, Some(Fault::After));
        self.simulation.finish(me);
        asked.then_some(()).ok_or_else(|| "create asks for nothing".to_owned())
    }

    /// What happens to a snapshot.
    fn change_snapshot(&mut self, line: &str, which: &str, what: &[&str]) -> Result<(), String> {
        let (region, provider) = (REGIONS[0], &self.simulation.world.provider);
        let mut snapshot = self.snapshot(which)?;
        let name = snapshot.key(&provider.can()).to_owned();
        match what {
            ["is", "copied", "under", "its", "name"] => {
                snapshot.id = format!("copy of {}", snapshot.id);
                snapshot.created_at = self.simulation.world.now();
                provider.insert(snapshot);
            }
            ["is", "renamed"] => provider.rename_snapshot(region, &name, "my favourite"),
            ["fails,", "and", "cannot", "be", "deleted"] => {
                provider.fail(region, &name);
                provider.set_deletable(region, &name, false);
            }
            ["turns", "to", "error"] => provider.fail(region, &name),
            ["is", "deleted", "by", "hand"] => drop(provider.vanish(region, &name)),
            ["gets", ..] => {
                let (key, value) = tag(line);
                provider.tag_snapshot(region, &name, key, value);
            }
            ["loses", key] => provider.untag_snapshot(region, &name, key),
            _ => return Err("nobody knows what happens to the snapshot".to_owned()),
        }
        Ok(())
    }

    /// Lets time pass at the default cadence.
    fn pass(&mut self, time: &str, without: Option<&str>) -> Result<(), String> {
        for minute in (0..span(time)?.as_mins()).step_by(5) {
            for (function, name, every) in FUNCTIONS {
                if minute % every == 0 && without != Some(name) {
                    self.simulation.run_alone(function);
                }
            }
            self.simulation.advance(SignedDuration::from_mins(5));
        }
        match self.simulation.violation() {
            None => Ok(()),
            Some(violation) => Err(format!("{violation:?}")),
        }
    }

    /// Something that is not ours gets the name that the due snapshot of this instance would have.
    fn take_name(&self, instance: &str) -> Result<(), String> {
        let world = &self.simulation.world;
        let all = world.provider.all_instances();
        let instance = all.into_iter().find(|one| one.name == instance);
        let Instance { id, name, place, .. } = instance.ok_or("there is no such instance")?;
        let vars = &self.simulation.deployments[0].vars;
        let settings = Settings::read(vars, Function::Create).map_err(|error| error.to_string())?;
        let policy = &settings.policies.default;
        let slot = policy.schedule.latest(&policy.zone, world.now());
        let deployment = &settings.deployment;
        world.provider.insert(Snapshot {
            id: "by-hand".to_owned(),
            name: snapshot_name(deployment, &id, &name, slot, 1),
            place,
            source_name: name,
            source: id,
            source_place: None,
            disk: None,
            deletable: true,
            created_at: world.now(),
            state: SnapshotState::Available,
            tags: BTreeMap::new(),
            size_gb: 20,
        });
        Ok(())
    }

    /// Our available snapshots: the oldest, or the newest.
    fn snapshot(&self, which: &str) -> Result<Snapshot, String> {
        let mut all = self.simulation.world.provider.all_snapshots();
        all.sort_by_key(|snapshot| snapshot.created_at);
        let found = match which {
            "oldest" => all.first(),
            "newest" => all.last(),
            _ => None,
        };
        found.cloned().ok_or_else(|| format!("there is no {which} snapshot"))
    }

    /// The codes of all that was reported since the last time, with their values.
    fn reports(&mut self, expected: &str) -> Result<(), String> {
        let reports: Vec<_> = self.simulation.answers().into_iter().flatten().collect();
        let mut found = BTreeSet::new();
        for report in &reports {
            found.extend(report.findings.iter().map(|finding| finding.code.as_str().to_owned()));
            found.extend(report.failures.iter().map(|_| "a failure".to_owned()));
        }
        let expected: BTreeSet<String> =
            expected.split(", ").filter(|e| !e.is_empty()).map(str::to_owned).collect();
        if found == expected {
            return Ok(());
        }
        let all = reports.iter().flat_map(|report| &report.findings);
        let all: BTreeSet<&str> = all.map(|finding| finding.message.as_str()).collect();
        Err(format!("reported is {found:?}: {all:#?}"))
    }

    fn refuses(&self, function: &str) -> Result<(), String> {
        let vars = &self.simulation.deployments[0].vars;
        let (function, ..) =
            FUNCTIONS.into_iter().find(|(_, name, _)| *name == function).ok_or("no function")?;
        match Settings::read(vars, function) {
            Err(_) => Ok(()),
            Ok(_) => Err("it starts".to_owned()),
        }
    }

    /// What there is: snapshots by what the provider says, records by their state.
    fn counts(&self, expected: &str) -> Result<(), String> {
        let snapshots = self.simulation.world.provider.all_snapshots();
        let records = self.simulation.world.ledgers[0].all();
        for part in expected.split(", ") {
            let (count, what) = part.split_once(' ').ok_or("a count and what")?;
            let found = match what {
                "snapshots" => snapshots
                    .iter()
                    .filter(|snapshot| snapshot.state == SnapshotState::Available)
                    .count(),
                state => records.iter().filter(|record| record.state.as_str() == state).count(),
            };
            if count.parse() != Ok(found) {
                let records: Vec<_> =
                    records.iter().map(|r| (r.slot.to_string(), r.state, &r.reason)).collect();
                return Err(format!("there are {found} {what}: {records:#?}"));
            }
        }
        Ok(())
    }
}

/// `30m`, or what the variables accept: `6h`, `3d`, `2w`.
fn span(text: &str) -> Result<SignedDuration, String> {
    match text.strip_suffix('m').and_then(|minutes| minutes.parse().ok()) {
        Some(minutes) => Ok(SignedDuration::from_mins(minutes)),
        None => parse_duration(text).map_err(|error| error.to_string()),
    }
}

/// The tag of a line `… gets key=value`.
fn tag(line: &str) -> (&str, &str) {
    let (_, tag) = line.split_once(" gets ").unwrap_or_default();
    tag.split_once('=').unwrap_or((tag, ""))
}

#[test]
fn every_due_slot_is_as_the_table_says() {
    let (_, table) = DOCUMENT.split_once("| schedule | zone | now | due slot |\n").unwrap();
    let rows: Vec<&str> = table.lines().skip(1).take_while(|row| row.starts_with('|')).collect();
    assert!(rows.len() > 8, "{rows:?}");
    for row in rows {
        let cells: Vec<&str> = row.split('|').map(|cell| cell.trim().trim_matches('`')).collect();
        let schedule: Schedule = cells[1].parse().unwrap_or_else(|error| panic!("{row}: {error}"));
        let zone: Zone = cells[2].parse().unwrap_or_else(|error| panic!("{row}: {error}"));
        assert_eq!(schedule.latest(&zone, at(cells[3])).to_string(), cells[4], "{row}");
    }
}

/// What a shell prints for a command, with `snapkeep` on its path.
fn printed(command: &str) -> String {
    let mut path = binary("snapkeep").with_file_name("").into_os_string();
    path.push(":");
    path.push(std::env::var_os("PATH").unwrap_or_default());
    let ran =
        Command::new("sh").args(["-c", command]).env("PATH", path).env("COLUMNS", "80").output();
    let ran = ran.unwrap_or_else(|error| panic!("{command}: {error}"));
    String::from_utf8_lossy(&[ran.stdout, ran.stderr].concat()).into_owned()
}

#[test]
fn every_command_prints_what_is_shown() {
    let blocks = blocks("console");
    assert!(blocks.len() > 3, "{}", blocks.len());
    for block in blocks {
        let (command, shown) = block.strip_prefix("$ ").unwrap().split_once("\nEND\n").unwrap();
        let command = format!("{command}\nEND\n");
        assert_eq!(printed(&command).trim_end(), shown.trim_end(), "{command}");
    }
}

#[test]
fn the_commands_of_the_handbook_print_what_is_shown() {
    let blocks = blocks_of(include_str!("../../docs/COMMANDS.md"), "console");
    // The others need a deployment: tests/e2e/handbook.rs.
    let offline = |block: &&str| {
        ["snapkeep simulate", "snapkeep retention"].iter().any(|one| block.contains(one))
    };
    let blocks: Vec<&str> = blocks.into_iter().filter(offline).collect();
    assert!(blocks.len() > 1);
    for block in blocks {
        let (command, shown) = block.strip_prefix("$ ").unwrap().split_once('\n').unwrap();
        assert_eq!(printed(command).trim_end(), shown.trim_end(), "{command}");
        assert!(shown.lines().all(|line| line.chars().count() <= 80), "{command}");
    }
}
