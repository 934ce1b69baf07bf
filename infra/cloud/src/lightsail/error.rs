//! The service's errors, and reading a request's members.

use serde_json::Value;

use super::{Call, Tags};

/// An error as the service gives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiError {
    /// The error's type.
    pub kind: &'static str,
    /// The body's `code`, often more exact than the type.
    pub code: &'static str,
    /// The words.
    pub message: String,
}

impl ApiError {
    pub(crate) fn new(kind: &'static str, code: &'static str, message: impl Into<String>) -> Self {
        ApiError { kind, code: if code.is_empty() { kind } else { code }, message: message.into() }
    }

    pub(super) fn invalid(message: impl Into<String>) -> Self {
        Self::new("InvalidInputException", "", message)
    }

    pub(super) fn missing(kind: &str, name: &str) -> Self {
        let message = format!("The {kind} does not exist: {name}");
        Self::new("NotFoundException", "DoesNotExist", message)
    }
}

impl Call<'_> {
    pub(super) fn optional(&self, member: &str) -> Result<Option<&str>, ApiError> {
        match self.body.get(member) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(wrong_type(member)),
        }
    }

    pub(super) fn required(&self, member: &str) -> Result<&str, ApiError> {
        self.optional(member)?.ok_or_else(|| {
            ApiError::invalid(format!(
                "Value null at '{member}' failed to satisfy constraint: Member must not be null"
            ))
        })
    }

    pub(super) fn strings(&self, member: &str) -> Result<Vec<String>, ApiError> {
        let Some(value) = self.body.get(member) else {
            self.required(member)?;
            return Ok(Vec::new());
        };
        let list = value.as_array().ok_or_else(|| wrong_type(member))?;
        let text =
            |value: &Value| value.as_str().map(str::to_owned).ok_or_else(|| wrong_type(member));
        list.iter().map(text).collect()
    }

    pub(super) fn tags(&self) -> Result<Tags, ApiError> {
        let Some(value) = self.body.get("tags") else { return Ok(Tags::new()) };
        let list = value.as_array().ok_or_else(|| wrong_type("tags"))?;
        let mut tags = Tags::new();
        for tag in list {
            let tag = tag.as_object().ok_or_else(|| wrong_type("tags"))?;
            let text = |member: &str| match tag.get(member) {
                None | Some(Value::Null) => Ok(None),
                Some(Value::String(text)) => Ok(Some(text.clone())),
                Some(_) => Err(wrong_type("tags")),
            };
            let key = text("key")?.ok_or_else(|| ApiError::invalid("a tag needs a key"))?;
            let value = text("value")?;
            check_tag(&key, value.as_deref())?;
            if tags.insert(key.clone(), value).is_some() {
                return Err(ApiError::invalid(format!("the tag key {key} is there twice")));
            }
        }
        Ok(tags)
    }
}

pub(super) fn limit_tags(tags: &Tags) -> Result<(), ApiError> {
    if tags.len() > 50 {
        return Err(ApiError::invalid("a resource has at most 50 tags"));
    }
    Ok(())
}

fn check_tag(key: &str, value: Option<&str>) -> Result<(), ApiError> {
    let legal = |text: &str| text.chars().all(|c| c.is_alphanumeric() || " +-=._:/@".contains(c));
    let value = value.unwrap_or_default();
    if key.is_empty() || key.chars().count() > 128 || !legal(key) || key.starts_with("aws:") {
        return Err(ApiError::invalid(format!("`{key}` is not a valid tag key")));
    }
    if value.chars().count() > 256 || !legal(value) {
        return Err(ApiError::invalid(format!("`{value}` is not a valid tag value")));
    }
    Ok(())
}

fn wrong_type(member: &str) -> ApiError {
    ApiError::new("SerializationException", "", format!("'{member}' has the wrong type"))
}
