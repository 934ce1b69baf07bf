//! Accounts besides the first, and the STS by which they are entered.
//!
//! `POST /sts` answers AssumeRole for the roles of the knob `roles`, whatever they may do: what comes
//! signed with the key that it gives out belongs to the role's account.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::http::{Shared, lock, scope_of};
use crate::knobs::Knobs;
use crate::lightsail::{ACCOUNT, Lightsail};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Form, Router};

/// How the access keys begin that STS gives out; the account follows.
const KEY: &str = "ASIA";

/// When a session ends. SDKs hold it against the real time, not ours: it never does.
const ENDS: &str = "2100-01-01T00:00:00Z";

/// The Lightsail of each account.
#[derive(Clone)]
pub struct Accounts {
    home: Shared,
    others: Arc<Mutex<BTreeMap<String, Shared>>>,
}

impl Accounts {
    /// With this first one.
    #[must_use]
    pub fn new(home: Shared) -> Self {
        Accounts { home, others: Arc::default() }
    }

    /// The Lightsail of another account, made when first asked for, with the first one's Regions.
    #[must_use]
    pub fn other(&self, account: &str) -> Shared {
        let mut others = self.others.lock().unwrap_or_else(PoisonError::into_inner);
        let make = || {
            let home = lock(&self.home);
            let (regions, unnamed_regions) =
                (home.knobs.regions.clone(), home.knobs.unnamed_regions.clone());
            let knobs = Knobs { regions, unnamed_regions, ..Knobs::default() };
            let lightsail = Lightsail::new(knobs);
            Arc::new(Mutex::new(lightsail.of_account(account)))
        };
        others.entry(account.to_owned()).or_insert_with(make).clone()
    }

    /// Takes up the Lightsail of another account, as it was before a restart.
    pub(crate) fn restore(&self, account: String, lightsail: Lightsail) {
        let mut others = self.others.lock().unwrap_or_else(PoisonError::into_inner);
        others.insert(account, Arc::new(Mutex::new(lightsail)));
    }

    /// The Lightsail of each account, by its number.
    pub(crate) fn all(&self) -> BTreeMap<String, Shared> {
        let mut all = self.others.lock().unwrap_or_else(PoisonError::into_inner).clone();
        all.insert(ACCOUNT.to_owned(), self.home());
        all
    }

    /// The first account's Lightsail.
    pub(crate) fn home(&self) -> Shared {
        self.home.clone()
    }

    /// The Lightsail of the account of this number, if it can be one.
    pub(crate) fn of(&self, account: &str) -> Option<Shared> {
        let of = || if account == ACCOUNT { self.home() } else { self.other(account) };
        is_account(account).then(of)
    }

    /// The Lightsail of whoever signs with this access key.
    pub(crate) fn of_caller(&self, access_key: &str) -> Shared {
        let account = access_key.strip_prefix(KEY).filter(|account| is_account(account));
        account.map_or_else(|| self.home(), |account| self.other(account))
    }
}

fn is_account(text: &str) -> bool {
    text.len() == 12 && text.bytes().all(|b| b.is_ascii_digit())
}

/// STS: AssumeRole, in the Query protocol.
pub(crate) fn router(accounts: Accounts) -> Router {
    let answer = assume_role;
    Router::new().route("/sts", post(answer)).route("/sts/", post(answer)).with_state(accounts)
}

async fn assume_role(
    State(accounts): State<Accounts>,
    headers: HeaderMap,
    Form(form): Form<BTreeMap<String, String>>,
) -> Response {
    let given = |name: &str| form.get(name).map_or("", String::as_str);
    let role = given("RoleArn");
    let refuse = |status: StatusCode, code: &str, message: &str| {
        let body = format!(
            "<ErrorResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><Error><Type>Sender</Type>\
             <Code>{code}</Code><Message>{message}</Message></Error></ErrorResponse>"
        );
        xml(status, body)
    };
    if let Err(error) = scope_of(&headers, "sts") {
        return refuse(StatusCode::FORBIDDEN, error.kind, &error.message);
    }
    if given("Action") != "AssumeRole" {
        return refuse(StatusCode::BAD_REQUEST, "InvalidAction", "only AssumeRole is here");
    }
    let asks_for = lock(&accounts.home).knobs.roles.get(role).cloned();
    if asks_for.as_deref() != Some(given("ExternalId")) {
        let message = "is not authorized to perform: sts:AssumeRole";
        return refuse(StatusCode::FORBIDDEN, "AccessDenied", message);
    }
    let account = role.split(':').nth(4).unwrap_or_default();
    let session = given("RoleSessionName");
    let body = format!(
        "<AssumeRoleResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><AssumeRoleResult>\
         <Credentials><AccessKeyId>{KEY}{account}</AccessKeyId><SecretAccessKey>embedded</SecretAccessKey>\
         <SessionToken>embedded</SessionToken><Expiration>{ENDS}</Expiration></Credentials>\
         <AssumedRoleUser><AssumedRoleId>AROAEMBEDDED:{session}</AssumedRoleId><Arn>{role}/{session}</Arn>\
         </AssumedRoleUser></AssumeRoleResult></AssumeRoleResponse>"
    );
    xml(StatusCode::OK, body)
}

fn xml(status: StatusCode, body: String) -> Response {
    (status, [(header::CONTENT_TYPE, "text/xml")], body).into_response()
}
