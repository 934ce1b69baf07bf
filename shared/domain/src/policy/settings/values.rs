//! Reads the values of variables; the error is the accepted form.

use std::collections::BTreeSet;

use super::{MetricsLevel, Regions, RoleArn};
use crate::place::Place;
use crate::policy::confirmation::ConfirmationCode;
use crate::policy::{OFF_WORDS, ON_WORDS};

pub(super) fn table_name(text: &str) -> Result<String, String> {
    let form = "a DynamoDB table name or ARN: 3 to 1024 letters, digits and . _ - : /";
    let legal = |c: char| c.is_ascii_alphanumeric() || "._-:/".contains(c);
    let fits = (3..=1024).contains(&text.len()) && text.chars().all(legal);
    if fits { Ok(text.to_owned()) } else { Err(form.to_owned()) }
}

pub(super) fn percent(text: &str) -> Result<u32, String> {
    let percent = whole_number(text)?;
    if percent <= 100 { Ok(percent) } else { Err("a number from 0 to 100".to_owned()) }
}

pub(super) fn codes(text: &str) -> Result<Vec<ConfirmationCode>, String> {
    let codes = text.split_whitespace().map(|code| code.parse().ok()).collect::<Option<_>>();
    codes.ok_or_else(|| "the codes that findings printed, with spaces between".to_owned())
}

pub(super) fn switch(text: &str) -> Result<bool, String> {
    match text {
        on if ON_WORDS.contains(&on) => Ok(true),
        off if OFF_WORDS.contains(&off) => Ok(false),
        _ => Err("on, true, yes, 1, off, false, no or 0".to_owned()),
    }
}

pub(super) fn protect(text: &str) -> Result<bool, String> {
    match text {
        "tagged" => Ok(false),
        "all" => Ok(true),
        _ => Err("tagged or all".to_owned()),
    }
}

pub(super) fn topic(text: &str) -> Result<Option<String>, String> {
    let form = "an SNS topic's ARN, such as arn:aws:sns:eu-west-1:111122223333:snapkeep";
    let legal = text.starts_with("arn:") && text.split(':').count() == 6;
    if legal { Ok(Some(text.to_owned())) } else { Err(form.to_owned()) }
}

pub(super) fn metrics(text: &str) -> Result<MetricsLevel, String> {
    match text {
        "alarms" => Ok(MetricsLevel::Alarms),
        "all" => Ok(MetricsLevel::All),
        "resources" => Ok(MetricsLevel::Resources),
        _ => Err("alarms, all or resources".to_owned()),
    }
}

pub(super) fn event_bus(text: &str) -> Result<Option<String>, String> {
    let form = "an event bus's name or ARN: up to 256 letters, digits and . _ - / :";
    let legal = |c: char| c.is_ascii_alphanumeric() || "._-/:".contains(c);
    let fits = text.len() <= 256 && text.chars().all(legal);
    if fits { Ok(Some(text.to_owned())) } else { Err(form.to_owned()) }
}

pub(super) fn whole_number(text: &str) -> Result<u32, String> {
    let plain = text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|_| plain).ok_or_else(|| "a whole number".to_owned())
}

/// Reads a text that fits into a tag.
pub(super) fn tag_text(text: &str, chars_max: usize) -> Result<String, String> {
    let legal = |c: char| c.is_alphanumeric() || " +-=._:/@".contains(c);
    if text.chars().count() <= chars_max && text.chars().all(legal) && !text.starts_with("aws:") {
        Ok(text.to_owned())
    } else {
        Err(format!("up to {chars_max} letters, digits, spaces and + - = . _ : / @"))
    }
}

/// Reads one role for each account: two would show everything in it twice.
pub(super) fn role_arns(text: &str) -> Result<Vec<RoleArn>, String> {
    let form = "role ARNs of different accounts with spaces between, such as \
                arn:aws:iam::222233334444:role/snapkeep-* (`*` stands for the function)";
    let read = |arn: &str| match arn.split(':').collect::<Vec<_>>()[..] {
        ["arn", _, "iam", "", account, role]
            if account.len() == 12
                && account.bytes().all(|b| b.is_ascii_digit())
                && role.strip_prefix("role/").is_some_and(|name| !name.is_empty()) =>
        {
            Some(RoleArn { arn: arn.to_owned(), account: account.to_owned() })
        }
        _ => None,
    };
    let roles: Option<Vec<RoleArn>> = text.split_ascii_whitespace().map(read).collect();
    let once = |roles: &Vec<RoleArn>| {
        let accounts: BTreeSet<&String> = roles.iter().map(|role| &role.account).collect();
        accounts.len() == roles.len()
    };
    roles.filter(once).ok_or_else(|| form.to_owned())
}

pub(super) fn regions(text: &str) -> Result<Regions, String> {
    if text == "all" {
        return Ok(Regions::All);
    }
    let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let region = |name: &str| name.contains('-') && name.chars().all(legal);
    let read = |name: &str| name.parse().ok().filter(|_| region(name));
    let names: Option<BTreeSet<Place>> = text.split_ascii_whitespace().map(read).collect();
    names.map(|names| Regions::Only(names.into_iter().collect())).ok_or_else(|| {
        "all, or Regions with spaces between, such as eu-west-1 us-east-1".to_owned()
    })
}
