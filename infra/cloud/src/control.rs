//! The clock's own endpoint, over which a running cloud is looked at and steered.
//!
//! `GET /` answers the simulated time (`SNAPKEEP_CLOCK_URL`), `POST /advance` moves a stepped
//! clock by the seconds in its body, `GET /knobs` and `PUT /knobs` read and turn the knobs of the
//! embedded Lightsail.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use jiff::SignedDuration;
use serde_json::{Map, Value};

use crate::clock::Clock;

/// Access to the knobs of the embedded Lightsail as a JSON object, wherever they are kept.
pub trait Knobs: Send + Sync {
    /// All of them.
    fn read(&self) -> Result<Value, String>;
    /// Replaces all of them; says what is wrong with `value` otherwise, with no effect.
    fn write(&self, value: Value) -> Result<(), String>;
}

#[derive(Clone)]
struct Control {
    clock: Clock,
    knobs: Arc<dyn Knobs>,
}

pub(crate) fn router(clock: &Clock, knobs: Arc<dyn Knobs>) -> Router {
    let control = Control { clock: clock.clone(), knobs };
    Router::new()
        .route("/advance", post(advance))
        .route("/knobs", get(read_knobs).put(write_knobs))
        .with_state(control)
        .merge(clock.router())
}

async fn advance(State(control): State<Control>, body: String) -> Response {
    if control.clock.speed() > 0.0 {
        let text = "the clock runs by itself; only a stepped one can be advanced\n";
        return (StatusCode::CONFLICT, text).into_response();
    }
    let seconds: Option<f64> = body.trim().parse().ok();
    match seconds.and_then(|seconds| SignedDuration::try_from_secs_f64(seconds).ok()) {
        Some(step) => control.clock.advance(step).to_string().into_response(),
        None => (StatusCode::BAD_REQUEST, "the body is a number of seconds\n").into_response(),
    }
}

async fn read_knobs(State(control): State<Control>) -> Response {
    match control.knobs.read() {
        Ok(knobs) => json(&knobs),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error).into_response(),
    }
}

async fn write_knobs(State(control): State<Control>, body: String) -> Response {
    let written = serde_json::from_str(&body).map_err(|error| error.to_string()).and_then(
        |turned: Map<String, Value>| {
            // What the request does not name stays as it is.
            let mut all = control.knobs.read()?;
            if let Some(all) = all.as_object_mut() {
                all.extend(turned);
            }
            control.knobs.write(all)
        },
    );
    match written {
        Ok(()) => read_knobs(State(control)).await,
        Err(error) => (StatusCode::BAD_REQUEST, format!("{error}\n")).into_response(),
    }
}

fn json(value: &Value) -> Response {
    let kind = [("content-type", "application/json")];
    (kind, value.to_string()).into_response()
}
