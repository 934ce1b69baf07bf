//! The signature TC3-HMAC-SHA256
//! (<https://www.tencentcloud.com/document/product/1103/49577>).

use std::fmt::Write;

use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use sha2::{Digest, Sha256};

/// A request to sign: always a POST to `/`.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The service's name, such as `lighthouse`.
    pub service: &'a str,
    /// The value of the header `Host`, with the port if the URL has one.
    pub host: &'a str,
    /// The value of the header `Content-Type`.
    pub content_type: &'a str,
    /// The body.
    pub body: &'a [u8],
    /// The value of the header `X-TC-Timestamp`.
    pub at: Timestamp,
}

/// The value of the header `Authorization`.
#[must_use]
pub fn authorization(request: &Request<'_>, secret_id: &str, secret_key: &str) -> String {
    let Request { service, .. } = request;
    let date = date(request.at);
    let signature = signature(request, secret_key);
    format!(
        "TC3-HMAC-SHA256 Credential={secret_id}/{date}/{service}/tc3_request, \
         SignedHeaders=content-type;host, Signature={signature}"
    )
}

/// The signature itself, in hex.
#[must_use]
pub fn signature(request: &Request<'_>, secret_key: &str) -> String {
    let Request { service, host, content_type, body, at } = request;
    let canonical = format!(
        "POST\n/\n\ncontent-type:{content_type}\nhost:{host}\n\ncontent-type;host\n{}",
        hex(&Sha256::digest(body))
    );
    let date = date(*at);
    let text = format!(
        "TC3-HMAC-SHA256\n{}\n{date}/{service}/tc3_request\n{}",
        at.as_second(),
        hex(&Sha256::digest(canonical))
    );
    let first = format!("TC3{secret_key}");
    let key = [date.as_str(), service, "tc3_request"]
        .iter()
        .fold(first.into_bytes(), |key, part| hmac(&key, part));
    hex(&hmac(&key, &text))
}

/// The day in UTC.
fn date(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d").to_string()
}

fn hmac(key: &[u8], text: &str) -> Vec<u8> {
    // HMAC takes a key of any length.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else { return Vec::new() };
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing into a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "Gu5t9xGARNpq86cd98joQYCN3EXAMPLE";

    fn at() -> Timestamp {
        Timestamp::from_second(1_551_113_065).unwrap()
    }

    #[test]
    fn the_vector_of_the_documentation() {
        let request = Request {
            service: "cvm",
            host: "cvm.tencentcloudapi.com",
            content_type: "application/json; charset=utf-8",
            body: br#"{"Limit": 1, "Filters": [{"Values": ["\u672a\u547d\u540d"], "Name": "instance-name"}]}"#,
            at: at(),
        };
        assert_eq!(
            authorization(&request, "AKIDEXAMPLE", SECRET),
            "TC3-HMAC-SHA256 Credential=AKIDEXAMPLE/2019-02-25/cvm/tc3_request, \
             SignedHeaders=content-type;host, \
             Signature=72e494ea809ad7a8c8f7a4507b9bddcbaa8e581f516e8da2f66e2c5a96525168"
        );
    }

    #[test]
    fn the_vector_of_lighthouse() {
        let request = Request {
            service: "lighthouse",
            host: "lighthouse.tencentcloudapi.com",
            content_type: "application/json",
            body: b"{}",
            at: at(),
        };
        assert_eq!(
            signature(&request, SECRET),
            "5b91cae8115d08b06ad3d2026733bbffeadf70c0a5476e5932cdd1f09d2de282"
        );
    }
}
