//! The clock's own endpoint, over which a running cloud is looked at and steered.
//!
//! `GET /` answers the simulated time, `POST /advance` moves it by the seconds in its body, and `POST /speed` makes it
//! run at so many simulated seconds a real second; with 0 it stands still. `GET /knobs` and `PUT /knobs` read and turn the knobs of the embedded Lightsail.
//! `GET /calls` answers how many calls of each operation there were and how many of them were throttled,
//! `DELETE /calls` counts from zero again. The same of another account is below `/accounts/<its number>`.
//! `/lighthouse/knobs` and `/lighthouse/calls` are those of the embedded Lighthouse.
//! `GET /notices` answers what was put on the event bus and published to the topic, the oldest first, and
//! `DELETE /notices` forgets it.

use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use jiff::SignedDuration;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use crate::accounts::Accounts;
use crate::clock::Clock;
use crate::events::Events;
use crate::http::{Shared, lock};
use crate::knobs::Knobs;
use crate::lighthouse;
use crate::lighthouse::knobs::LighthouseKnobs;

#[derive(Clone)]
struct Control {
    clock: Clock,
    accounts: Accounts,
    lighthouse: lighthouse::Shared,
    events: Events,
}

pub(crate) fn router(
    clock: &Clock,
    accounts: Accounts,
    lighthouse: lighthouse::Shared,
    events: Events,
) -> Router {
    let control = Control { clock: clock.clone(), accounts, lighthouse, events };
    let knobs = || get(read_knobs).put(write_knobs);
    let calls = || get(read_calls).delete(forget_calls);
    Router::new()
        .route("/advance", post(advance))
        .route("/speed", post(set_speed))
        .route("/knobs", knobs())
        .route("/calls", calls())
        .route("/accounts/{account}/knobs", knobs())
        .route("/accounts/{account}/calls", calls())
        .route("/lighthouse/knobs", get(read_lighthouse).put(write_lighthouse))
        .route("/lighthouse/calls", get(lighthouse_calls).delete(forget_lighthouse_calls))
        .route("/notices", get(read_notices).delete(forget_notices))
        .with_state(control)
        .merge(clock.router())
}

async fn advance(State(control): State<Control>, body: String) -> Response {
    let seconds: Option<f64> = body.trim().parse().ok();
    match seconds.and_then(|seconds| SignedDuration::try_from_secs_f64(seconds).ok()) {
        Some(step) => control.clock.advance(step).to_string().into_response(),
        None => (StatusCode::BAD_REQUEST, "the body is a number of seconds\n").into_response(),
    }
}

/// The account that the path names; the first one without.
type Account = Option<Path<String>>;

impl Control {
    fn lightsail(&self, account: Account) -> Result<Shared, (StatusCode, &'static str)> {
        let Some(Path(account)) = account else { return Ok(self.accounts.home()) };
        self.accounts.of(&account).ok_or((StatusCode::NOT_FOUND, "an account has 12 digits\n"))
    }
}

/// The speed of the body, at most a million.
async fn set_speed(State(control): State<Control>, body: String) -> Response {
    let speed: Option<f64> = body.trim().parse().ok();
    match speed.filter(|speed| (0.0..=1e6).contains(speed)) {
        Some(speed) => {
            control.clock.set_speed(speed);
            control.clock.now().to_string().into_response()
        }
        None => {
            let form =
                "the body is a number of simulated seconds a real second, from 0 to 1000000\n";
            (StatusCode::BAD_REQUEST, form).into_response()
        }
    }
}

async fn read_knobs(State(control): State<Control>, account: Account) -> Response {
    match control.lightsail(account) {
        Ok(lightsail) => axum::Json(&lock(&lightsail).knobs).into_response(),
        Err(refusal) => refusal.into_response(),
    }
}

/// Turns the knobs that the body names; the others stay.
async fn write_knobs(State(control): State<Control>, account: Account, body: String) -> Response {
    let lightsail = match control.lightsail(account) {
        Ok(lightsail) => lightsail,
        Err(refusal) => return refusal.into_response(),
    };
    turn(&mut lock(&lightsail).knobs, &body, Knobs::check)
}

/// Turns the knobs that a JSON object names, if all of them then make sense.
fn turn<K: Serialize + DeserializeOwned>(
    knobs: &mut K,
    body: &str,
    check: impl FnOnce(&K) -> Result<(), String>,
) -> Response {
    let turned = serde_json::from_str::<Map<String, Value>>(body).and_then(|new| {
        let mut all = serde_json::to_value(&*knobs)?;
        if let Value::Object(all) = &mut all {
            all.extend(new);
        }
        serde_json::from_value(all)
    });
    let turned = turned.map_err(|error| error.to_string());
    match turned.and_then(|turned: K| check(&turned).map(|()| turned)) {
        Ok(turned) => {
            *knobs = turned;
            axum::Json(&*knobs).into_response()
        }
        Err(error) => (StatusCode::BAD_REQUEST, format!("{error}\n")).into_response(),
    }
}

async fn read_lighthouse(State(control): State<Control>) -> Response {
    axum::Json(&lighthouse::wire::lock(&control.lighthouse).knobs).into_response()
}

async fn write_lighthouse(State(control): State<Control>, body: String) -> Response {
    let mut lighthouse = lighthouse::wire::lock(&control.lighthouse);
    turn(&mut lighthouse.knobs, &body, LighthouseKnobs::check)
}

async fn lighthouse_calls(State(control): State<Control>) -> Response {
    let lighthouse = lighthouse::wire::lock(&control.lighthouse);
    axum::Json(json!({"calls": lighthouse.calls, "throttled": lighthouse.throttled}))
        .into_response()
}

async fn forget_lighthouse_calls(State(control): State<Control>) -> StatusCode {
    let mut lighthouse = lighthouse::wire::lock(&control.lighthouse);
    lighthouse.calls.clear();
    lighthouse.throttled.clear();
    StatusCode::NO_CONTENT
}

async fn read_calls(State(control): State<Control>, account: Account) -> Response {
    let lightsail = match control.lightsail(account) {
        Ok(lightsail) => lightsail,
        Err(refusal) => return refusal.into_response(),
    };
    let lightsail = lock(&lightsail);
    let counts = json!({"calls": lightsail.calls, "throttled": lightsail.throttled});
    axum::Json(counts).into_response()
}

async fn forget_calls(State(control): State<Control>, account: Account) -> Response {
    let lightsail = match control.lightsail(account) {
        Ok(lightsail) => lightsail,
        Err(refusal) => return refusal.into_response(),
    };
    let mut lightsail = lock(&lightsail);
    lightsail.calls.clear();
    lightsail.throttled.clear();
    StatusCode::NO_CONTENT.into_response()
}

async fn read_notices(State(control): State<Control>) -> Response {
    axum::Json(control.events.notices()).into_response()
}

async fn forget_notices(State(control): State<Control>) -> StatusCode {
    control.events.forget_notices();
    StatusCode::NO_CONTENT
}
