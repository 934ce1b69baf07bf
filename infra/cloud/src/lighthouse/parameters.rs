//! The parameters of a call: their types, which ones there are, and how many.

use serde_json::{Map, Value, json};

use super::{ApiError, Tags};

/// The members of a request's body.
pub(super) struct Parameters<'a>(pub(super) &'a Map<String, Value>);

/// A filter of a list: a name and its values.
pub(super) type Filter = (String, Vec<String>);

impl Parameters<'_> {
    /// Refuses parameters that an operation does not have.
    pub(super) fn only(&self, known: &[&str]) -> Result<(), ApiError> {
        match self.0.keys().find(|name| !known.contains(&name.as_str())) {
            None => Ok(()),
            Some(name) => {
                let message = format!("The parameter `{name}` is not recognized.");
                Err(ApiError::new("UnknownParameter", message))
            }
        }
    }

    pub(super) fn text(&self, name: &str) -> Result<Option<String>, ApiError> {
        match self.0.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(_) => Err(wrong_type(name, "String")),
        }
    }

    pub(super) fn required(&self, name: &str) -> Result<String, ApiError> {
        self.text(name)?.filter(|text| !text.is_empty()).ok_or_else(|| missing(name))
    }

    pub(super) fn number(&self, name: &str) -> Result<Option<usize>, ApiError> {
        match self.0.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => {
                let number = value.as_u64().and_then(|number| usize::try_from(number).ok());
                number.map(Some).ok_or_else(|| wrong_type(name, "Integer"))
            }
        }
    }

    pub(super) fn texts(&self, name: &str) -> Result<Option<Vec<String>>, ApiError> {
        let list = match self.0.get(name) {
            None | Some(Value::Null) => return Ok(None),
            Some(Value::Array(list)) => list,
            Some(_) => return Err(wrong_type(name, "Array of String")),
        };
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let texts: Option<Vec<String>> = list.iter().map(text).collect();
        texts.map(Some).ok_or_else(|| wrong_type(name, "Array of String"))
    }

    /// Ids, as many as the operation takes.
    pub(super) fn ids(&self, name: &str, most: usize) -> Result<Option<Vec<String>>, ApiError> {
        let ids = self.texts(name)?;
        if ids.as_ref().is_some_and(|ids| ids.len() > most) {
            let message = format!("{name} has more than {most} elements.");
            return Err(ApiError::new("InvalidParameterValue.LimitExceeded", message));
        }
        Ok(ids)
    }

    pub(super) fn tags(&self) -> Result<Tags, ApiError> {
        let list = match self.0.get("Tags") {
            None | Some(Value::Null) => return Ok(Tags::new()),
            Some(Value::Array(list)) => list,
            Some(_) => return Err(wrong_type("Tags", "Array of Tag")),
        };
        if list.len() > 10 {
            let message = "Tags has more than 10 elements.";
            return Err(ApiError::new("InvalidParameterValue.LimitExceeded", message));
        }
        let pair = |tag: &Value| {
            let key = tag["Key"].as_str().filter(|key| !key.is_empty() && key.len() <= 127)?;
            let value = tag["Value"].as_str().unwrap_or_default();
            (value.len() <= 255).then(|| (key.to_owned(), value.to_owned()))
        };
        let tags: Option<Tags> = list.iter().map(pair).collect();
        tags.ok_or_else(|| ApiError::new("InvalidParameterValue.Tag", "A tag is not valid."))
    }

    /// The filters of a list, each of them one of `known` or a tag's.
    pub(super) fn filters(&self, known: &[&str]) -> Result<Vec<Filter>, ApiError> {
        let list = match self.0.get("Filters") {
            None | Some(Value::Null) => return Ok(Vec::new()),
            Some(Value::Array(list)) => list,
            Some(_) => return Err(wrong_type("Filters", "Array of Filter")),
        };
        if list.len() > 10 {
            let message = "Filters has more than 10 elements.";
            return Err(ApiError::new("InvalidParameterValue.LimitExceeded", message));
        }
        let filter = |filter: &Value| {
            let name = filter["Name"].as_str().ok_or_else(|| missing("Filters.Name"))?;
            let of_tags = name == "tag-key" || name == "tag-value" || name.starts_with("tag:");
            if !of_tags && !known.contains(&name) {
                let message = format!("The filter `{name}` is not supported.");
                return Err(ApiError::new("InvalidParameterValue.InvalidFilter", message));
            }
            let values = filter["Values"].as_array().ok_or_else(|| missing("Filters.Values"))?;
            let values: Vec<String> =
                values.iter().filter_map(Value::as_str).map(str::to_owned).collect();
            if values.len() > 5 {
                let message = "Filters.Values has more than 5 elements.";
                return Err(ApiError::new("InvalidParameterValue.LimitExceeded", message));
            }
            Ok((name.to_owned(), values))
        };
        list.iter().map(filter).collect()
    }

    /// The part of a list that `Offset` and `Limit` ask for, and its total.
    pub(super) fn page(
        &self,
        name: &str,
        all: Vec<Value>,
        page_size: usize,
    ) -> Result<Value, ApiError> {
        let offset = self.number("Offset")?.unwrap_or(0);
        let limit = self.number("Limit")?.unwrap_or(20);
        if limit == 0 || limit > 100 {
            let message = "The value of Limit must be from 1 to 100.";
            return Err(ApiError::new("InvalidParameterValue.OutOfRange", message));
        }
        let total = all.len();
        let page: Vec<Value> = all.into_iter().skip(offset).take(limit.min(page_size)).collect();
        Ok(json!({"TotalCount": total, name: page}))
    }
}

/// Whether tags pass a filter; `None` if the filter is not about tags.
pub(super) fn of_tags(tags: &Tags, (name, values): &Filter) -> Option<bool> {
    match name.as_str() {
        "tag-key" => Some(tags.keys().any(|key| values.contains(key))),
        "tag-value" => Some(tags.values().any(|value| values.contains(value))),
        name => {
            let value = tags.get(name.strip_prefix("tag:")?);
            Some(value.is_some_and(|value| values.contains(value)))
        }
    }
}

pub(super) fn missing(name: &str) -> ApiError {
    ApiError::new("MissingParameter", format!("The parameter `{name}` is missing."))
}

fn wrong_type(name: &str, kind: &str) -> ApiError {
    let message = format!("The parameter `{name}` is not of the type {kind}.");
    ApiError::new("InvalidParameter", message)
}
