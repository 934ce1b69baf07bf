//! The deployed functions: what they are called, and what they are set to.

use std::collections::BTreeMap;

use aws_config::SdkConfig;
use aws_sdk_lambda::error::SdkError;
use snapkeep_aws::sdk::chain;
use snapkeep_domain::function::Function;

use crate::BoxError;
use crate::access::endpoint;

/// The variable that every function has.
pub(crate) const TABLE: &str = "SNAPKEEP_LEDGER_TABLE";
const DEPLOYMENT: &str = "SNAPKEEP_DEPLOYMENT";

pub(crate) type Variables = BTreeMap<String, String>;

/// The functions that share a deployment's id.
pub(crate) struct Deployed {
    pub(crate) id: String,
    /// The function's own name and its variables.
    pub(crate) functions: BTreeMap<Function, (String, Variables)>,
}

impl Deployed {
    /// Finds the functions of the Region by their variables.
    pub(crate) async fn find(sdk: &SdkConfig, wanted: Option<&str>) -> Result<Self, BoxError> {
        let client = aws_sdk_lambda::Client::new(sdk);
        let mut all: BTreeMap<String, BTreeMap<Function, (String, Variables)>> = BTreeMap::new();
        let mut pages = client.list_functions().into_paginator().items().send();
        while let Some(function) = pages.next().await {
            let function = function.map_err(|error| {
                let fix = match error {
                    SdkError::ServiceError(_) => "get the right lambda:ListFunctions".to_owned(),
                    _ => format!("look whether {} can be reached", endpoint("Lambda", "LAMBDA")),
                };
                format!(
                    "{TABLE} is not set, and the deployed functions cannot be listed: {}; set {TABLE} and the \
                     deployment's other variables, or {fix}",
                    chain(&error)
                )
            })?;
            let name = function.function_name.unwrap_or_default();
            let vars = function.environment.and_then(|environment| environment.variables);
            let vars: Variables = vars.unwrap_or_default().into_iter().collect();
            if vars.get(TABLE).is_none_or(|table| table.trim().is_empty()) {
                continue;
            }
            let Some(which) = which_function(&name) else { continue };
            all.entry(id(&vars)).or_default().insert(which, (name, vars));
        }
        let there: Vec<&str> = all.keys().map(String::as_str).collect();
        let region = sdk.region().map_or("this Region", |region| region.as_ref());
        let found = match (wanted, there.as_slice()) {
            (_, []) => Err(format!(
                "no function in {region} has the variable {TABLE}: set AWS_REGION to the Region that snapkeep is \
                 deployed in, or {TABLE} and the deployment's other variables; or deploy it first"
            )),
            (None, [one]) => Ok((*one).to_owned()),
            (None, several) => Err(format!(
                "there are several deployments in {region}: {}; choose one by --deployment",
                several.join(", ")
            )),
            (Some(wanted), there) if there.contains(&wanted) => Ok(wanted.to_owned()),
            (Some(wanted), there) => Err(format!(
                "there is no deployment `{wanted}` in {region}; there is: {}",
                there.join(", ")
            )),
        }?;
        let functions = all.remove(&found).unwrap_or_default();
        Ok(Deployed { id: found, functions })
    }

    /// The variables of a function; those of another one if it is not there.
    pub(crate) fn variables(&self, function: Function) -> Variables {
        let own = self.functions.get(&function).or_else(|| self.functions.values().next());
        own.map(|(_, vars)| vars.clone()).unwrap_or_default()
    }
}

/// The deployment's id that variables state.
pub(crate) fn id(vars: &Variables) -> String {
    let id = vars.get(DEPLOYMENT).map(|id| id.trim()).filter(|id| !id.is_empty());
    id.unwrap_or("snapkeep").to_owned()
}

/// Which of the functions has this name: `create`, `snapkeep-create` or `snapkeep-Create-1A2B3C`.
fn which_function(name: &str) -> Option<Function> {
    let low = name.to_lowercase();
    // From the end: a stack may have any name.
    low.rsplit(['-', '_']).find_map(|part| part.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_is_known_by_its_name_however_it_was_deployed() {
        for (name, function) in [
            ("create", Some(Function::Create)),
            ("snapkeep-create", Some(Function::Create)),
            ("snapkeep-Create-1A2B3C", Some(Function::Create)),
            ("my-poll-Prune-CREATE9X", Some(Function::Prune)),
            ("snapkeep", None),
            ("recreate", None),
        ] {
            assert_eq!(which_function(name), function, "{name}");
        }
    }
}
