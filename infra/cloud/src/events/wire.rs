//! The wire of the bus and the topic: EventBridge's PutEvents (awsJson1_1) and SNS's Publish (the Query
//! protocol), both on `POST /` and signed in form.

use std::collections::BTreeMap;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, FromRequest, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value, json};

use super::{Event, Events, Mail};
use crate::clock::Clock;
use crate::http::{operation_of, read_json, refusal, scope_of};
use crate::knobs::ErrorForm;
use crate::lambda::new_request_id;
use crate::lightsail::ApiError;

const TARGET: &str = "AWSEvents.";
/// How many entries PutEvents takes.
const ENTRIES_MAX: usize = 10;
const SUBJECT_MAX: usize = 100;
/// The longest request: a message is at most 256 KB, and may grow threefold when it is encoded.
const BODY_BYTES_MAX: usize = 1024 * 1024;

#[derive(Clone)]
struct Service {
    events: Events,
    clock: Clock,
}

pub(crate) fn router(events: Events, clock: Clock) -> Router {
    Router::new()
        .route("/", post(handle))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(Service { events, clock })
}

async fn handle(State(service): State<Service>, request: Request) -> Response {
    let headers = request.headers().clone();
    let now = service.clock.now();
    if headers.contains_key("x-amz-target") {
        let body = match Bytes::from_request(request, &()).await {
            Ok(body) => body,
            Err(rejection) => return rejection.into_response(),
        };
        return match put_events(&service.events, now, &headers, &body) {
            Ok(answer) => json_of(Response::new(Body::from(answer.to_string()))),
            Err(error) => json_of(refusal(&error, ErrorForm::TypeOnly, 400)),
        };
    }
    let form = axum::Form::<BTreeMap<String, String>>::from_request(request, &()).await;
    let answer = match form {
        Ok(axum::Form(form)) => publish(&service.events, now, &headers, &form),
        Err(rejection) => Err(ApiError::new("MalformedQueryString", "", rejection.body_text())),
    };
    let request_id = new_request_id();
    let (status, body) = match answer {
        Ok(id) => {
            let body = format!(
                "<PublishResponse xmlns=\"http://sns.amazonaws.com/doc/2010-03-31/\"><PublishResult>\
                 <MessageId>{id}</MessageId></PublishResult><ResponseMetadata><RequestId>{request_id}\
                 </RequestId></ResponseMetadata></PublishResponse>"
            );
            (StatusCode::OK, body)
        }
        Err(error) => {
            let status = match error.kind {
                "MissingAuthenticationTokenException" | "InvalidSignatureException" => {
                    StatusCode::FORBIDDEN
                }
                _ => StatusCode::BAD_REQUEST,
            };
            let body = format!(
                "<ErrorResponse xmlns=\"http://sns.amazonaws.com/doc/2010-03-31/\"><Error>\
                 <Type>Sender</Type><Code>{}</Code><Message>{}</Message></Error>\
                 <RequestId>{request_id}</RequestId></ErrorResponse>",
                error.kind,
                escaped(&error.message)
            );
            (status, body)
        }
    };
    (status, [(header::CONTENT_TYPE, "text/xml")], body).into_response()
}

fn json_of(response: Response) -> Response {
    ([(header::CONTENT_TYPE, "application/x-amz-json-1.1")], response).into_response()
}

/// Text within XML.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn put_events(
    events: &Events,
    now: Timestamp,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<Value, ApiError> {
    let region = scope_of(headers, "events")?.region;
    let operation = operation_of(headers, TARGET)?;
    if operation != "PutEvents" {
        let message = format!("the embedded cloud does not have the operation {operation}");
        return Err(ApiError::new("UnknownOperationException", "", message));
    }
    let body = read_json(body)?;
    let Some(entries) = body.get("Entries").and_then(Value::as_array) else {
        let message = "1 validation error detected: Value at 'entries' failed to satisfy constraint: \
                       Member must not be null";
        return Err(ApiError::new("ValidationException", "", message));
    };
    if entries.is_empty() || entries.len() > ENTRIES_MAX {
        let message = format!(
            "1 validation error detected: Value at 'entries' failed to satisfy constraint: Member must \
             have length between 1 and {ENTRIES_MAX}"
        );
        return Err(ApiError::new("ValidationException", "", message));
    }
    let answers: Vec<Result<Event, Refused>> =
        entries.iter().map(|entry| read_entry(entry, &region)).collect();
    let failed = answers.iter().filter(|answer| answer.is_err()).count();
    let answer = |entry: Result<Event, Refused>| match entry {
        Ok(event) => json!({"EventId": events.put(now, event)}),
        Err((code, message)) => json!({"ErrorCode": code, "ErrorMessage": message}),
    };
    let entries: Vec<Value> = answers.into_iter().map(answer).collect();
    Ok(json!({"FailedEntryCount": failed, "Entries": entries}))
}

/// An entry's error code and message.
type Refused = (&'static str, String);

fn read_entry(entry: &Value, region: &str) -> Result<Event, Refused> {
    let text = |member: &str| {
        let text = entry.get(member).and_then(Value::as_str).filter(|text| !text.is_empty());
        text.map(str::to_owned).ok_or_else(|| {
            let message = format!(
                "Parameter {member} is not valid. Reason: {member} is a required argument."
            );
            ("InvalidArgument", message)
        })
    };
    let (source, detail_type, detail) = (text("Source")?, text("DetailType")?, text("Detail")?);
    if source.starts_with("aws.") {
        return Err(("NotAuthorizedForSource", "Not authorized for the source.".to_owned()));
    }
    let detail: Map<String, Value> = serde_json::from_str(&detail)
        .map_err(|_| ("MalformedDetail", "Detail is malformed.".to_owned()))?;
    let resources = entry.get("Resources").and_then(Value::as_array).into_iter().flatten();
    let resources = resources.filter_map(|arn| arn.as_str().map(str::to_owned)).collect();
    let time = entry.get("Time").and_then(Value::as_f64);
    let time = time.and_then(|seconds| SignedDuration::try_from_secs_f64(seconds).ok());
    let time = time.and_then(|since| Timestamp::from_duration(since).ok());
    Ok(Event { region: region.to_owned(), time, source, detail_type, resources, detail })
}

fn publish(
    events: &Events,
    now: Timestamp,
    headers: &HeaderMap,
    form: &BTreeMap<String, String>,
) -> Result<String, ApiError> {
    scope_of(headers, "sns")?;
    let given = |name: &str| form.get(name).map(String::as_str);
    let invalid =
        |what: &str| ApiError::new("InvalidParameter", "", format!("Invalid parameter: {what}"));
    if given("Action") != Some("Publish") {
        return Err(ApiError::new("InvalidAction", "", "the embedded cloud has Publish only"));
    }
    let topic = given("TopicArn").or(given("TargetArn")).unwrap_or_default();
    if !topic.starts_with("arn:aws:sns:") || topic.split(':').count() != 6 {
        let what = "TopicArn Reason: An ARN must have at least 6 elements";
        return Err(invalid(what));
    }
    let message = given("Message").filter(|text| !text.is_empty());
    let message = message.ok_or_else(|| invalid("Empty message"))?;
    let subject = given("Subject");
    let legal = |text: &str| {
        let printable = |c: char| (' '..='~').contains(&c);
        (1..=SUBJECT_MAX).contains(&text.len()) && text.chars().all(printable)
    };
    if subject.is_some_and(|text| !legal(text)) {
        return Err(invalid("Subject"));
    }
    let mut attributes = BTreeMap::new();
    for number in 1.. {
        let entry = |member: &str| given(&format!("MessageAttributes.entry.{number}.{member}"));
        let Some(name) = entry("Name") else { break };
        if let Some(value) = entry("Value.StringValue") {
            attributes.insert(name.to_owned(), value.to_owned());
        }
    }
    let mail = Mail {
        topic: topic.to_owned(),
        subject: subject.map(str::to_owned),
        message: message.to_owned(),
        attributes,
    };
    Ok(events.publish(now, &mail))
}
