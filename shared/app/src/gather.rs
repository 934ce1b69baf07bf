//! What the runners share in gathering: Regions, listings, bounded concurrency.

use std::collections::BTreeSet;
use std::future::Future;

use futures_util::{StreamExt, stream};
use snapkeep_domain::finding::{Code, Finding, Severity};
use snapkeep_domain::record::Record;
use snapkeep_domain::settings::Regions;

use crate::ports::{ErrorKind, Inventory, Ledger, LedgerError, ProviderError, Write};
use crate::report::{Counter, Failure, Report, TickError};

/// How many calls are under way at once: enough to hide latency, few enough not to be throttled.
const CONCURRENCY: usize = 8;

/// Runs the futures, a bounded number at once, and returns their results in order.
pub(crate) async fn bounded<T>(futures: Vec<impl Future<Output = T>>) -> Vec<T> {
    stream::iter(futures).buffered(CONCURRENCY).collect().await
}

/// The Regions to look after. When the provider does not name them, those of the ledger's live records
/// must do; the failure is reported.
pub(crate) async fn regions(
    inventory: &impl Inventory,
    wanted: &Regions,
    records: &[Record],
    report: &mut Report,
) -> Result<Vec<String>, TickError> {
    if let Regions::Only(names) = wanted {
        return Ok(inventory.places(names.clone()));
    }
    match inventory.regions().await {
        Ok(mut names) => {
            names.sort();
            names.dedup();
            Ok(inventory.places(names))
        }
        Err(error) => {
            let known: BTreeSet<&String> = records.iter().map(|r| &r.region).collect();
            if known.is_empty() {
                return Err(error.into());
            }
            report.failures.push(Failure::from(&error));
            Ok(known.into_iter().cloned().collect())
        }
    }
}

/// Takes a snapshot that has no record into the ledger. When the slot's own item belongs to another
/// attempt, this one gets an item of its own. Only a look at what stands there now can tell: an intent
/// comes before its snapshot, so whoever sees the snapshot sees its intent here.
pub(crate) async fn adopt(ledger: &impl Ledger, record: &Record) -> Result<Write, LedgerError> {
    match ledger.claim(record).await? {
        Write::Conflict(Some(existing)) if existing.name != record.name && !record.leftover => {
            ledger.claim(&Record { leftover: true, ..record.clone() }).await
        }
        write => Ok(write),
    }
}

/// A Region's answers.
pub(crate) struct Listed<T> {
    pub(crate) region: String,
    pub(crate) result: Result<T, ProviderError>,
}

/// Lists something in every Region.
pub(crate) async fn in_each<'a, T, F>(
    regions: impl IntoIterator<Item = &'a String>,
    list: impl Fn(&'a str) -> F,
) -> Vec<Listed<T>>
where
    F: Future<Output = Result<T, ProviderError>>,
{
    let regions: Vec<&'a String> = regions.into_iter().collect();
    let results = bounded(regions.iter().map(|region| list(region)).collect()).await;
    let pair = |(region, result): (&&String, _)| Listed { region: (**region).clone(), result };
    regions.iter().zip(results).map(pair).collect()
}

/// Each element once. When something changes while pages are turned, a list may show an element twice;
/// the later page is the fresher one.
pub(crate) fn once<T>(list: Vec<T>, name: impl Fn(&T) -> &str) -> Vec<T> {
    let mut seen = BTreeSet::new();
    let fresh: Vec<bool> = list.iter().rev().map(|one| seen.insert(name(one))).collect();
    let fresh = fresh.into_iter().rev();
    list.into_iter().zip(fresh).filter_map(|(one, fresh)| fresh.then_some(one)).collect()
}

/// Takes the complete listings, reports the others. A Region that is not enabled is only information,
/// unless it was asked for by name, the ledger has live records there, or nothing else answers either.
///
/// # Errors
/// When no Region at all answers, and trying again can help.
pub(crate) fn complete<T>(
    listed: Vec<Listed<T>>,
    wanted: &Regions,
    records: &[Record],
    report: &mut Report,
) -> Result<Vec<(String, T)>, TickError> {
    let any = listed.iter().any(|l| l.result.is_ok());
    let mut good = Vec::new();
    let mut transient = None;
    for Listed { region, result } in listed {
        let error = match result {
            Ok(list) => {
                report.count(Counter::Regions, 1);
                good.push((region, list));
                continue;
            }
            Err(error) => error,
        };
        let needed =
            matches!(wanted, Regions::Only(_)) || records.iter().any(|r| r.region == region);
        if error.kind == ErrorKind::RegionNotEnabled && any {
            let mut finding = Finding::new(
                if needed { Code::RegionUnreachable } else { Code::RegionNotEnabled },
                format!("Region {region} is not enabled for the account ({})", error.code),
            )
            .named(region.clone());
            if needed {
                finding = finding.fix("enable the Region, or take it out of SNAPKEEP_REGIONS");
                finding.severity = Severity::Error;
                report.failures.push(Failure::from(&error).in_region(&region));
            }
            report.findings.push(finding);
        } else {
            report.failures.push(Failure::from(&error).in_region(&region));
            if error.kind.transient() {
                transient = Some(error);
            }
        }
    }
    match transient {
        Some(error) if !any => Err(error.into()),
        _ => Ok(good),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_element_that_pages_show_twice_counts_once_and_the_later_one_is_the_fresher() {
        let list = vec![("a", 1), ("b", 1), ("a", 2), ("c", 1), ("a", 3)];
        assert_eq!(once(list, |(name, _)| name), [("b", 1), ("c", 1), ("a", 3)]);
    }
}
