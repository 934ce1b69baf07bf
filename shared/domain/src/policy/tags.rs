//! Reads the tags on an instance: opt-in, overrides, hold, confirmation. It never fails: what
//! cannot be read falls back, is reported as a problem, and stops pruning.

use crate::drill::DRILL;
use crate::finding::Finding;
use crate::policy::confirmation::ConfirmationCode;
use crate::policy::keep::KEEP_FORM;
use crate::policy::{OFF_WORDS, ON_WORDS, Policies, Policy, Retention};
use crate::snapshot::{HOLD_FORM, Hold, Instance, Tags};

/// Whether the resource takes part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OptIn {
    /// It is snapshotted and pruned.
    On,
    /// It is tagged off: nothing new is taken, and nothing is pruned.
    Off,
    /// It has no opt-in tag.
    Untagged,
}

/// What an instance's tags say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Protection {
    /// Whether it takes part.
    pub opt_in: OptIn,
    /// The policy in force, overrides applied; its problems are those of the tags and of the named
    /// policy.
    pub policy: Policy,
    /// The retention of its policy without the tags' own.
    pub base: Retention,
    /// The hold on all its snapshots.
    pub hold: Option<Hold>,
    /// The confirming codes.
    pub confirmed: Vec<ConfirmationCode>,
}

impl Protection {
    /// The problems of the instance's tags and named policy: what cannot be read, or does nothing.
    pub fn problems(&self, instance: &Instance) -> impl Iterator<Item = Finding> {
        let problems = self.policy.problems.iter();
        problems.map(|problem| problem.clone().of(&instance.id, &instance.name))
    }

    /// Reads the tags of an instance; `prefix` is `SNAPKEEP_TAG`.
    #[must_use]
    pub fn read(tags: &Tags, prefix: &str, policies: &Policies) -> Self {
        let mut problems = Vec::new();
        let (opt_in, mut policy) = opt_in(tags, prefix, policies, &mut problems);
        let base = policy.retention.clone();
        let mut confirmed = Vec::new();
        for (key, value) in tags {
            let Some(part) = part_of(key, prefix) else { continue };
            if key == DRILL {
                continue;
            }
            let value = value.trim();
            let exact = key.starts_with(prefix);
            match part {
                Some(_) | None if !exact => problems.push(wrong_case(key, value, prefix)),
                None => {}
                Some("schedule") => match value.parse() {
                    Ok(schedule) => policy.schedule = schedule,
                    Err(form) => problems.push(Finding::bad_tag(key, value, form)),
                },
                Some("timezone") => match value.parse() {
                    Ok(zone) => policy.zone = zone,
                    Err(form) => problems.push(Finding::bad_tag(key, value, form)),
                },
                Some("keep") => match Retention::read(value) {
                    Ok(retention) => policy.retention = retention,
                    Err(_) => {
                        policy.retention = Retention::Unreadable;
                        problems.push(Finding::bad_tag(key, value, KEEP_FORM));
                    }
                },
                Some("confirm") => {
                    confirmed.extend(value.split_ascii_whitespace().flat_map(str::parse));
                }
                Some("hold") => {}
                Some(other) => problems.push(unknown(key, value, other, prefix)),
            }
            let overrides = ["schedule", "timezone", "keep", "confirm"];
            if opt_in == OptIn::Untagged && exact && part.is_some_and(|p| overrides.contains(&p)) {
                problems.push(Finding {
                    message: format!("{key} does nothing: the instance has no `{prefix}` tag"),
                    fix: Some(format!(
                        "add the tag `{prefix}` (empty or `on`) to opt in, or remove {key}"
                    )),
                    ..Finding::bad_tag(key, value, "")
                });
            }
        }
        let hold = Hold::find(tags, &format!("{prefix}:hold"));
        if let Some(Hold::Unreadable { key, value }) = &hold
            && key.starts_with(prefix)
        {
            problems.push(Finding::bad_tag(key, value, HOLD_FORM));
        }
        policy.problems.extend(problems);
        Protection { opt_in, policy, base, hold, confirmed }
    }
}

fn opt_in(
    tags: &Tags,
    prefix: &str,
    policies: &Policies,
    problems: &mut Vec<Finding>,
) -> (OptIn, Policy) {
    let default = || policies.default.clone();
    let Some(value) = tags.get(prefix).map(|value| value.trim()) else {
        return (if policies.protects_all { OptIn::On } else { OptIn::Untagged }, default());
    };
    if value.is_empty() || ON_WORDS.contains(&value) {
        return (OptIn::On, default());
    }
    if OFF_WORDS.contains(&value) {
        return (OptIn::Off, default());
    }
    match policies.get(value) {
        Some(policy) => (OptIn::On, policy.clone()),
        None => {
            let mut names = vec!["empty", "on", "off"];
            names.extend(policies.named.keys().map(String::as_str));
            let accepted = format!("one of: {}", names.join(", "));
            problems.push(Finding::bad_tag(prefix, value, accepted));
            (OptIn::On, default())
        }
    }
}

/// Splits a tag's key: `None` is not our key, `Some(None)` is the opt-in key, `Some(Some(part))` is
/// what follows the colon. Keys in the wrong case count as ours, so that they can be reported.
fn part_of<'a>(key: &'a str, prefix: &str) -> Option<Option<&'a str>> {
    let head = key.get(..prefix.len()).filter(|head| head.eq_ignore_ascii_case(prefix))?;
    match &key[head.len()..] {
        "" => Some(None),
        rest => rest.strip_prefix(':').map(Some),
    }
}

fn wrong_case(key: &str, value: &str, prefix: &str) -> Finding {
    let right = format!("{prefix}{}", key[prefix.len()..].to_ascii_lowercase());
    Finding {
        message: format!(
            "{key} is in the wrong case and does nothing: tag keys are case-sensitive"
        ),
        fix: Some(format!("rename the tag {key} to {right}")),
        ..Finding::bad_tag(key, value, "")
    }
}

fn unknown(key: &str, value: &str, part: &str, prefix: &str) -> Finding {
    let known = ["schedule", "keep", "timezone", "confirm", "hold"];
    if let Some(right) = known.iter().find(|known| known.eq_ignore_ascii_case(part)) {
        return Finding {
            message: format!(
                "{key} is in the wrong case and does nothing: tag keys are case-sensitive"
            ),
            fix: Some(format!("rename the tag {key} to {prefix}:{right}")),
            ..Finding::bad_tag(key, value, "")
        };
    }
    let keys = known.map(|known| format!("{prefix}:{known}")).join(", ");
    Finding {
        message: format!("{key} is not a tag of snapkeep and does nothing"),
        fix: Some(format!("use one of {keys}, or remove {key}")),
        ..Finding::bad_tag(key, value, "")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(tags: &[(&str, &str)]) -> Protection {
        let default =
            Policy { retention: Retention::read("daily=7").unwrap(), ..Policy::default() };
        let policies = Policies::read(default, "gold: schedule=hourly keep=daily=30; bad: keep=x");
        let tags = tags.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Protection::read(&tags, "snapkeep", &policies)
    }

    fn keys(protection: &Protection) -> Vec<&str> {
        protection.policy.problems.iter().filter_map(|problem| problem.key.as_deref()).collect()
    }

    #[test]
    fn opt_in_words() {
        for word in ["", "on", "true", "yes", "1", " on "] {
            assert_eq!(read(&[("snapkeep", word)]).opt_in, OptIn::On, "{word}");
        }
        for word in ["off", "false", "no", "0"] {
            assert_eq!(read(&[("snapkeep", word)]).opt_in, OptIn::Off, "{word}");
        }
        let gold = read(&[("snapkeep", "gold")]);
        assert_eq!(
            (gold.policy.name.as_str(), gold.policy.schedule.to_string().as_str()),
            ("gold", "hourly")
        );
        assert_eq!(read(&[("Name", "snapkeep")]).opt_in, OptIn::Untagged);
    }

    #[test]
    fn what_cannot_be_read_falls_back_and_is_a_problem() {
        let unknown = read(&[("snapkeep", "platin")]);
        assert_eq!((unknown.opt_in, unknown.policy.name.as_str()), (OptIn::On, "default"));
        assert_eq!(keys(&unknown), ["snapkeep"]);
        let bad = read(&[("snapkeep", "gold"), ("snapkeep:schedule", "x"), ("snapkeep:keep", "y")]);
        assert_eq!(bad.policy.schedule.to_string(), "hourly");
        assert_eq!(bad.policy.retention, Retention::Unreadable);
        assert_eq!(keys(&bad), ["snapkeep:keep", "snapkeep:schedule"]);
        assert_eq!(keys(&read(&[("snapkeep", "bad")])), ["SNAPKEEP_POLICIES"]);
    }

    #[test]
    fn wrong_keys_are_reported_and_opt_nothing_in() {
        let wrong = read(&[("Snapkeep", "on"), ("snapkeep:Keep", "all"), ("snapkeep:kept", "")]);
        assert_eq!(wrong.opt_in, OptIn::Untagged);
        assert_eq!(keys(&wrong), ["Snapkeep", "snapkeep:Keep", "snapkeep:kept"]);
        let says = |protection: &Protection, at: usize| {
            let problem = &protection.policy.problems[at];
            format!("{}; {}", problem.message, problem.fix.as_deref().unwrap())
        };
        for (at, words) in [
            (
                0,
                "wrong case and does nothing: tag keys are case-sensitive; rename the tag Snapkeep to snapkeep",
            ),
            (
                1,
                "wrong case and does nothing: tag keys are case-sensitive; rename the tag snapkeep:Keep to snapkeep:keep",
            ),
            (
                2,
                "snapkeep:kept is not a tag of snapkeep and does nothing; use one of snapkeep:schedule, ",
            ),
        ] {
            assert!(says(&wrong, at).contains(words), "{}", says(&wrong, at));
        }
        assert!(says(&wrong, 2).ends_with("or remove snapkeep:kept"));
        let alone = read(&[("snapkeep:keep", "all")]);
        let words = "snapkeep:keep does nothing: the instance has no `snapkeep` tag; add the tag `snapkeep`";
        assert!(says(&alone, 0).starts_with(words), "{}", says(&alone, 0));
        assert_eq!(keys(&read(&[("snapkeep:keep", "all")])), ["snapkeep:keep"]);
        assert!(
            keys(&read(&[("snapkeeper", "x"), ("snapkeep2:keep", "y"), ("ſnapkeep", "")]))
                .is_empty()
        );
    }

    #[test]
    fn a_blank_retention_keeps_everything() {
        assert_eq!(
            read(&[("snapkeep", ""), ("snapkeep:keep", " ")]).policy.retention,
            Retention::Unset
        );
    }

    #[test]
    fn holds_and_confirmations() {
        let held = read(&[("snapkeep", ""), ("snapkeep:hold", "until=2027-01-31")]);
        assert!(matches!(held.hold, Some(Hold::Until(_))) && keys(&held).is_empty());
        assert_eq!(keys(&read(&[("snapkeep", ""), ("snapkeep:hold", "soon")])), ["snapkeep:hold"]);
        let codes = read(&[("snapkeep", ""), ("snapkeep:confirm", "ab12 cd34")]).confirmed;
        assert_eq!(codes, ["ab12", "cd34"].map(|code| code.parse().unwrap()));
    }
}
