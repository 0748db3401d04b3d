//! What is answered to one request.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use bytes::Bytes;
use http::header::{
    ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderMap, IF_MATCH, LAST_MODIFIED, LOCATION,
    RANGE, RETRY_AFTER,
};
use http::request::Parts;
use http::{Method, Response, StatusCode};
use percent_encoding::percent_decode_str;

use super::body::{Reply, Then};
use super::sign::{self, Refused};
use super::{Object, S3Key, Shared, State};

/// Keys in one page of a listing, as Amazon has it.
const PAGE: usize = 1000;

/// Answers `request`.
pub(super) fn answer(shared: &Shared, request: &Parts, body: &[u8]) -> Response<Reply> {
    let mut state = shared.state();
    if state.faults.slow_down > 0 {
        state.faults.slow_down -= 1;
        let mut response = refuse(shared, request, (503, "SlowDown"));
        let wait = state.faults.retry_after.map(Into::into);
        response.headers_mut().extend(wait.map(|wait| (RETRY_AFTER, wait)));
        return response;
    }
    if let Some(target) = &state.faults.redirect {
        let mut response = refuse(shared, request, (307, "TemporaryRedirect"));
        response.headers_mut().extend(target.parse().ok().map(|target| (LOCATION, target)));
        return response;
    }
    let mut query = pairs(request.uri.query().unwrap_or_default());
    query.extend(pairs(&String::from_utf8_lossy(body)));
    let result = match query.get("Action") {
        Some(action) if action == "AssumeRoleWithWebIdentity" => session(shared, &state, &query),
        _ => store(shared, &mut state, request, &query),
    };
    result.unwrap_or_else(|refused| refuse(shared, request, refused))
}

fn store(
    shared: &Shared,
    state: &mut State,
    request: &Parts,
    query: &BTreeMap<String, String>,
) -> Result<Response<Reply>, Refused> {
    let path = percent_decode_str(request.uri.path()).decode_utf8_lossy().into_owned();
    let (bucket, key) = path.trim_start_matches('/').split_once('/').unwrap_or((path.trim_start_matches('/'), ""));
    if !matches!(request.method, Method::GET | Method::HEAD) {
        return Err((405, "MethodNotAllowed"));
    }
    let may = allowed(shared, state, request)?;
    if key.is_empty() {
        return match may.is_none_or(|key| key.lists) {
            true => list(state, bucket, query),
            false => Err((403, "AccessDenied")),
        };
    }
    if may.is_some_and(|key| !key.reads) {
        return Err((403, "AccessDenied"));
    }
    let object = state.objects.get(bucket).ok_or((404, "NoSuchBucket"))?.get(key).ok_or((404, "NoSuchKey"))?.clone();
    read(state, request, (bucket, key), object)
}

/// The key that a request comes with; none where everybody is let in.
fn allowed<'s>(shared: &Shared, state: &'s State, request: &Parts) -> Result<Option<&'s S3Key>, Refused> {
    let Some(claimed) = sign::claimed(&request.headers) else {
        return if shared.public { Ok(None) } else { Err((403, "AccessDenied")) };
    };
    let key = state.keys.iter().find(|key| key.id == claimed).ok_or((403, "InvalidAccessKeyId"))?;
    sign::check(request, &key.secret, &shared.region)?;
    let token = request.headers.get("x-amz-security-token").and_then(|token| token.to_str().ok());
    if token != key.token.as_deref() {
        return Err((400, "InvalidToken"));
    }
    if state.faults.expired && token.is_some() {
        return Err((400, "ExpiredToken"));
    }
    Ok(Some(key))
}

fn read(
    state: &mut State,
    request: &Parts,
    (bucket, key): (&str, &str),
    object: Object,
) -> Result<Response<Reply>, Refused> {
    if let Some(page) = state.faults.page.as_ref().filter(|_| request.method == Method::GET) {
        return Ok(with(StatusCode::OK, &[(CONTENT_TYPE.as_str(), "text/html")], Reply::from(page.clone())));
    }
    let header = |name| request.headers.get(name).and_then(|value| value.to_str().ok());
    if header(IF_MATCH).is_some_and(|tag| tag != object.tag) && !state.faults.no_conditions {
        return Err((412, "PreconditionFailed"));
    }
    let size = object.bytes.len() as u64;
    let range = header(RANGE).filter(|_| !state.faults.no_ranges);
    let (start, end) = range.map_or(Ok((0, size)), |range| bounds(range, size).ok_or((416, "InvalidRange")))?;
    let (start, end) = (usize::try_from(start).unwrap_or(usize::MAX), usize::try_from(end).unwrap_or(usize::MAX));
    let mut bytes = object.bytes.slice(start..end);
    let length = bytes.len();
    let mut then = if state.faults.endless { Then::Zeros } else { Then::End };
    if request.method == Method::HEAD {
        bytes = Bytes::new();
        // No bytes come; the length stands there by itself.
        then = Then::Cut;
    } else if state.faults.cut > 0 && (state.faults.cut_after as usize) < length {
        state.faults.cut -= 1;
        bytes.truncate(state.faults.cut_after as usize);
        then = Then::Cut;
    }
    let mut headers = vec![
        (ACCEPT_RANGES.as_str(), "bytes".to_owned()),
        (CONTENT_TYPE.as_str(), "binary/octet-stream".to_owned()),
        (ETAG.as_str(), object.tag.clone()),
        (LAST_MODIFIED.as_str(), format!("Thu, 01 Jan 2026 {} GMT", time(object.modified))),
    ];
    if !state.faults.endless {
        headers.push((CONTENT_LENGTH.as_str(), length.to_string()));
    }
    let mut status = StatusCode::OK;
    if range.is_some() {
        status = StatusCode::PARTIAL_CONTENT;
        let last = end.saturating_sub(1);
        headers.push((CONTENT_RANGE.as_str(), format!("bytes {start}-{last}/{size}")));
    }
    let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let response = with(status, &headers, Reply::new(bytes, then));
    if request.method == Method::GET
        && let Some((_, after)) = state.faults.change.take_if(|(changed, _)| changed == key)
    {
        state.put(bucket, key, after);
    }
    Ok(response)
}

fn list(state: &State, bucket: &str, query: &BTreeMap<String, String>) -> Result<Response<Reply>, Refused> {
    let objects = state.objects.get(bucket).ok_or((404, "NoSuchBucket"))?;
    let text = |name: &str| query.get(name).map(String::as_str).unwrap_or_default();
    let (prefix, delimiter) = (text("prefix"), text("delimiter"));
    let after = text("start-after").max(text("continuation-token"));
    let most = text("max-keys").parse().unwrap_or(PAGE).min(PAGE).min(state.faults.page_size.unwrap_or(PAGE)).max(1);
    let (mut out, mut count, mut last, mut more) = (String::new(), 0, String::new(), false);
    for (key, object) in objects.range(prefix.to_owned()..).take_while(|(key, _)| key.starts_with(prefix)) {
        let rest = &key[prefix.len()..];
        let folder = rest.find(delimiter).filter(|_| !delimiter.is_empty()).map(|at| at + delimiter.len());
        let shown = folder.map_or(key.as_str(), |end| &key[..prefix.len() + end]);
        if shown <= after || shown == last {
            continue;
        }
        if count == most {
            more = true;
            break;
        }
        count += 1;
        shown.clone_into(&mut last);
        // Writing to a String cannot fail.
        let _ = match folder {
            Some(_) => write!(out, "<CommonPrefixes><Prefix>{}</Prefix></CommonPrefixes>", escaped(shown)),
            None => {
                let tag = (!state.faults.no_tags).then(|| format!("<ETag>{}</ETag>", escaped(&object.tag)));
                write!(
                    out,
                    "<Contents><Key>{}</Key><LastModified>2026-01-01T{}.000Z</LastModified>{}<Size>{}</Size>\
                     <StorageClass>STANDARD</StorageClass></Contents>",
                    escaped(shown),
                    time(object.modified),
                    tag.unwrap_or_default(),
                    object.bytes.len()
                )
            }
        };
    }
    let next = more.then(|| format!("<NextContinuationToken>{}</NextContinuationToken>", escaped(&last)));
    let document = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
         <Name>{bucket}</Name><Prefix>{}</Prefix><KeyCount>{count}</KeyCount><MaxKeys>{most}</MaxKeys>\
         <IsTruncated>{more}</IsTruncated>{}{out}</ListBucketResult>",
        escaped(prefix),
        next.unwrap_or_default()
    );
    Ok(with(StatusCode::OK, &[(CONTENT_TYPE.as_str(), "application/xml")], document.into()))
}

/// Gives out the first key for a cluster's token.
fn session(shared: &Shared, state: &State, query: &BTreeMap<String, String>) -> Result<Response<Reply>, Refused> {
    let token = query.get("WebIdentityToken");
    if token.is_none() || token != shared.web_identity.as_ref() {
        return Err((400, "InvalidIdentityToken"));
    }
    let key = state.keys.first().ok_or((403, "AccessDenied"))?;
    let document = format!(
        "<AssumeRoleWithWebIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\
         <AssumeRoleWithWebIdentityResult><Credentials><AccessKeyId>{}</AccessKeyId>\
         <SecretAccessKey>{}</SecretAccessKey><SessionToken>{}</SessionToken>\
         <Expiration>2100-01-01T00:00:00Z</Expiration></Credentials></AssumeRoleWithWebIdentityResult>\
         </AssumeRoleWithWebIdentityResponse>",
        escaped(&key.id),
        escaped(&key.secret),
        escaped(key.token.as_deref().unwrap_or_default())
    );
    Ok(with(StatusCode::OK, &[(CONTENT_TYPE.as_str(), "text/xml")], document.into()))
}

fn refuse(shared: &Shared, request: &Parts, (status, code): Refused) -> Response<Reply> {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let region = match code {
        "AuthorizationHeaderMalformed" => format!("<Region>{}</Region>", shared.region),
        _ => String::new(),
    };
    let document = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>As ordered.</Message>{region}\
         <RequestId>0</RequestId></Error>"
    );
    let body = if request.method == Method::HEAD { String::new() } else { document };
    with(status, &[(CONTENT_TYPE.as_str(), "application/xml")], body.into())
}

fn with(status: StatusCode, headers: &[(&str, &str)], body: Reply) -> Response<Reply> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let parsed = headers.iter().filter_map(|(name, value)| Some((name.parse().ok()?, value.parse().ok()?)));
    *response.headers_mut() = parsed.collect::<HeaderMap>();
    response
}

/// First byte and end of `bytes=5-9`, `bytes=5-` or `bytes=-5` within `size` bytes.
fn bounds(range: &str, size: u64) -> Option<(u64, u64)> {
    let (first, last) = range.strip_prefix("bytes=")?.split_once('-')?;
    let (start, end) = match (first, last) {
        ("", last) => (size.saturating_sub(last.parse().ok()?), size),
        (first, "") => (first.parse().ok()?, size),
        (first, last) => (first.parse().ok()?, size.min(last.parse::<u64>().ok()? + 1)),
    };
    (start < end).then_some((start, end))
}

fn pairs(query: &str) -> BTreeMap<String, String> {
    let decoded = |text: &str| percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned();
    let split = |pair: &str| pair.split_once('=').map(|(name, value)| (decoded(name), decoded(value)));
    query.split('&').filter_map(split).collect()
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// The store's own time of day.
fn time(clock: u32) -> String {
    format!("{:02}:{:02}:{:02}", clock / 3600 % 24, clock / 60 % 60, clock % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_stay_within_an_object() {
        assert_eq!(bounds("bytes=0-3", 10), Some((0, 4)));
        assert_eq!(bounds("bytes=4-", 10), Some((4, 10)));
        assert_eq!(bounds("bytes=-3", 10), Some((7, 10)));
        assert_eq!(bounds("bytes=8-99", 10), Some((8, 10)));
        for bad in ["bytes=10-", "bytes=a-b", "bytes=5-4", "items=0-1"] {
            assert_eq!(bounds(bad, 10), None, "{bad}");
        }
    }
}
