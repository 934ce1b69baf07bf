//! As much of CloudWatch's Logs Insights query language as the handbook uses: `fields`, `filter`, `sort`, `limit` and
//! `stats count(*) by`. A query outside of it is an error, so that the handbook cannot show one that nobody tried.
//! Source: the "CloudWatch Logs Insights language query syntax" pages of the user guide.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use regex_lite::Regex;
use serde_json::{Value, json};

type Row = BTreeMap<String, Value>;

/// Runs a query over log lines in JSON, the oldest first; `@timestamp` is a line's `timestamp`.
pub(crate) fn query(text: &str, lines: &[Value]) -> Result<Vec<Row>, String> {
    let mut rows: Vec<Value> = lines.to_vec();
    let mut shown: Vec<String> = Vec::new();
    let mut counted = None;
    for command in split(text)? {
        let (name, rest) = command.split_once(char::is_whitespace).unwrap_or((&command, ""));
        match name {
            "fields" => {
                shown =
                    rest.split(',').map(|name| field_name(name.trim())).collect::<Result<_, _>>()?
            }
            "filter" => {
                let mut words = words(rest)?;
                words.reverse();
                let condition = any_of(&mut words)?;
                if let Some(word) = words.last() {
                    return Err(format!("`{word}` is more than a condition"));
                }
                rows.retain(|row| condition(row));
            }
            "sort" => {
                let (name, direction) =
                    rest.trim().rsplit_once(' ').unwrap_or((rest.trim(), "asc"));
                let name = field_name(name)?;
                rows.sort_by(|a, b| compare(&field(a, &name), &field(b, &name)));
                match direction {
                    "asc" => {}
                    "desc" => rows.reverse(),
                    other => return Err(format!("`{other}` is neither asc nor desc")),
                }
            }
            "limit" => rows.truncate(rest.trim().parse().map_err(|_| format!("limit {rest}"))?),
            "stats" => {
                let form = || format!("`{rest}` is not count(*) as NAME by FIELDS");
                let rest = rest.trim().strip_prefix("count(*) as ").ok_or_else(form)?;
                let (name, by) = rest.split_once(" by ").ok_or_else(form)?;
                let by: Vec<String> =
                    by.split(',').map(|name| field_name(name.trim())).collect::<Result<_, _>>()?;
                counted = Some((name.trim().to_owned(), by));
            }
            other => return Err(format!("no command `{other}`")),
        }
    }
    let Some((name, by)) = counted else {
        let show =
            |row: &Value| shown.iter().map(|name| (name.clone(), field(row, name))).collect();
        return Ok(rows.iter().map(show).collect());
    };
    let mut groups: BTreeMap<String, (Row, u64)> = BTreeMap::new();
    for row in &rows {
        let key: Row = by.iter().map(|name| (name.clone(), field(row, name))).collect();
        groups.entry(format!("{key:?}")).or_insert((key, 0)).1 += 1;
    }
    let with_count = |(mut row, count): (Row, u64)| {
        row.insert(name.clone(), json!(count));
        row
    };
    Ok(groups.into_values().map(with_count).collect())
}

/// The commands, which `|` separates outside of texts and patterns.
fn split(text: &str) -> Result<Vec<String>, String> {
    let mut commands = vec![String::new()];
    let mut within = None;
    for letter in text.chars() {
        match (within, letter) {
            (None, '|') => {
                commands.push(String::new());
                continue;
            }
            (None, '"' | '\'' | '/') => within = Some(letter),
            (Some(end), letter) if letter == end => within = None,
            _ => {}
        }
        if let Some(last) = commands.last_mut() {
            last.push(letter);
        }
    }
    match within {
        Some(end) => Err(format!("{end} has no end")),
        None => Ok(commands.iter().map(|command| command.trim().to_owned()).collect()),
    }
}

fn words(text: &str) -> Result<Vec<String>, String> {
    let word = Regex::new(r#"^\s*("[^"]*"|'[^']*'|/[^/]*/|!=|>=|<=|[=<>(),\[\]]|[@\w.:-]+)"#);
    let word = word.map_err(|error| error.to_string())?;
    let (mut rest, mut words) = (text.trim_end(), Vec::new());
    while !rest.is_empty() {
        let found = word.find(rest).ok_or_else(|| format!("`{rest}` cannot be read"))?;
        words.push(found.as_str().trim().to_owned());
        rest = &rest[found.end()..];
    }
    Ok(words)
}

type Condition = Box<dyn Fn(&Value) -> bool>;

/// Words come from the end of the list.
fn any_of(words: &mut Vec<String>) -> Result<Condition, String> {
    let mut condition = all_of(words)?;
    while words.last().is_some_and(|word| word == "or") {
        words.pop();
        let (left, right) = (condition, all_of(words)?);
        condition = Box::new(move |row| left(row) || right(row));
    }
    Ok(condition)
}

fn all_of(words: &mut Vec<String>) -> Result<Condition, String> {
    let mut condition = one(words)?;
    while words.last().is_some_and(|word| word == "and") {
        words.pop();
        let (left, right) = (condition, one(words)?);
        condition = Box::new(move |row| left(row) && right(row));
    }
    Ok(condition)
}

fn one(words: &mut Vec<String>) -> Result<Condition, String> {
    let next = |words: &mut Vec<String>| words.pop().ok_or("the condition has no end".to_owned());
    let expect = |words: &mut Vec<String>, wanted: &str| match next(words)? {
        word if word == wanted => Ok(()),
        word => Err(format!("`{word}` stands where `{wanted}` should")),
    };
    let first = next(words)?;
    match first.as_str() {
        "not" => {
            let inner = one(words)?;
            return Ok(Box::new(move |row| !inner(row)));
        }
        "(" => {
            let inner = any_of(words)?;
            expect(words, ")")?;
            return Ok(inner);
        }
        "ispresent" => {
            expect(words, "(")?;
            let name = field_name(&next(words)?)?;
            expect(words, ")")?;
            return Ok(Box::new(move |row| !field(row, &name).is_null()));
        }
        _ => {}
    }
    let name = field_name(&first)?;
    match next(words)?.as_str() {
        "in" => {
            expect(words, "[")?;
            let values = list(words)?;
            Ok(Box::new(move |row| values.contains(&field(row, &name))))
        }
        "like" => {
            let pattern = next(words)?;
            let inner = pattern.strip_prefix('/').and_then(|text| text.strip_suffix('/'));
            let pattern = Regex::new(inner.ok_or_else(|| format!("{pattern} is no pattern"))?);
            let pattern = pattern.map_err(|error| error.to_string())?;
            Ok(Box::new(move |row| {
                field(row, &name).as_str().is_some_and(|text| pattern.is_match(text))
            }))
        }
        operator => {
            let operator = operator.to_owned();
            if !["=", "!=", "<", ">", "<=", ">="].contains(&operator.as_str()) {
                return Err(format!("no operator `{operator}`"));
            }
            let value = literal(&next(words)?)?;
            Ok(Box::new(move |row| {
                let found = field(row, &name);
                // A member that is absent fulfils no comparison.
                let order = (!found.is_null()).then(|| compare(&found, &value));
                order.is_some_and(|order| match operator.as_str() {
                    "=" => order.is_eq(),
                    "!=" => order.is_ne(),
                    "<" => order.is_lt(),
                    ">" => order.is_gt(),
                    "<=" => order.is_le(),
                    _ => order.is_ge(),
                })
            }))
        }
    }
}

/// The values of a list, up to its end.
fn list(words: &mut Vec<String>) -> Result<Vec<Value>, String> {
    let mut values = Vec::new();
    loop {
        values.push(literal(&words.pop().ok_or("a list without an end")?)?);
        match words.pop().as_deref() {
            Some(",") => {}
            Some("]") => return Ok(values),
            other => return Err(format!("{other:?} in a list")),
        }
    }
}

fn literal(word: &str) -> Result<Value, String> {
    let text = word.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
    if let Some(text) = text {
        return Ok(json!(text));
    }
    word.parse::<f64>().map(|number| json!(number)).map_err(|_| format!("`{word}` is no value"))
}

fn field_name(text: &str) -> Result<String, String> {
    let legal = |c: char| c.is_ascii_alphanumeric() || "@_.".contains(c);
    let good = !text.is_empty() && text.chars().all(legal);
    good.then(|| text.to_owned()).ok_or_else(|| format!("`{text}` is no field"))
}

/// A member of a line, or one of a member.
fn field(row: &Value, name: &str) -> Value {
    let name = if name == "@timestamp" { "timestamp" } else { name };
    name.split('.').fold(row.clone(), |value, part| value[part].clone())
}

fn compare(a: &Value, b: &Value) -> Ordering {
    match (a.as_f64(), b.as_f64(), a.as_str(), b.as_str()) {
        (Some(a), Some(b), ..) => a.total_cmp(&b),
        (_, _, Some(a), Some(b)) => a.cmp(b),
        _ => a.is_null().cmp(&b.is_null()).reverse(),
    }
}
