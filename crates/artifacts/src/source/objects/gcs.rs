//! Google Cloud Storage.

use longshore_types::Secret;
use opendal::services::Gcs;
use reqsign_google::{Credential, StaticCredentialProvider, VmMetadataCredentialProvider};
use serde::Deserialize;

use super::Built;
use super::options::{ObjectOptions, endpoint};
use super::place::Place;
use super::session::{Session, Shown};
use super::wire::Wire;
use crate::error::Error;
use crate::origin::Credentials;

const ACCOUNT: [&str; 3] = ["gcp_service_account_json", "gcp_service_account", "google_application_credentials_json"];
const GOOGLE: &str = "https://storage.googleapis.com";
/// We never write.
const SCOPE: &str = "https://www.googleapis.com/auth/devstorage.read_only";

/// What all fetches of a process share.
#[derive(Debug)]
pub(super) struct Process(Option<Session<VmMetadataCredentialProvider>>);

impl Process {
    pub(super) fn new(options: &ObjectOptions) -> Self {
        let provider = || VmMetadataCredentialProvider::new().with_scope(SCOPE);
        Self(options.instance_credentials.then(|| Session::new(provider())))
    }
}

pub(super) fn open(
    credentials: &Credentials,
    options: &ObjectOptions,
    process: &Process,
    place: &Place,
    mut wire: Wire,
) -> Result<Built, Error> {
    let site = match options.gcs.endpoint.as_deref() {
        None => GOOGLE.to_owned(),
        Some(text) => {
            let url = endpoint("endpoint", text)?;
            wire.trust(&url, &place.bucket);
            url.to_string().trim_end_matches('/').to_owned()
        }
    };
    let account = credentials.get(&ACCOUNT).or_else(|| options.credentials.get(&ACCOUNT));
    let shown: Option<Shown<Credential>> = match account {
        Some(account) => {
            admit(&account)?;
            Some(Session::new(StaticCredentialProvider::new(account.expose()).with_scope(SCOPE)).chain())
        }
        None => process.0.as_ref().map(Session::chain),
    };
    let why = shown.as_ref().map(|shown| shown.why.clone());
    let builder =
        Gcs::default().bucket(&place.bucket).endpoint(&site).scope(SCOPE).disable_config_load().disable_vm_metadata();
    let builder = match shown {
        Some(shown) => builder.credential_provider_chain(shown.chain),
        None => builder.skip_signature(),
    };
    Ok(Built { operator: super::operator(builder, wire)?, identity: format!("{site}\0{}", place.bucket), why })
}

/// Lets service accounts in, and nothing else. The other kinds name files to read, programs to run and hosts to send the
/// outcome to, which is nothing that a Secret may ask of us.
fn admit(account: &Secret) -> Result<(), Error> {
    #[derive(Deserialize)]
    struct Account {
        r#type: String,
        #[serde(default)]
        client_email: String,
        #[serde(default)]
        private_key: String,
    }
    let invalid = |problem: &str| Error::CredentialInvalid { name: ACCOUNT[0].into(), problem: problem.to_owned() };
    let account: Account =
        serde_json::from_str(account.expose()).map_err(|_| invalid("is not the JSON of a service account's key"))?;
    if account.r#type != "service_account" {
        return Err(invalid("is not of the type service_account, which is the only one that is taken"));
    }
    if account.client_email.is_empty() || !account.private_key.contains("PRIVATE KEY") {
        return Err(invalid("has no client_email or no private_key"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_service_accounts_key_is_taken() {
        let account = |text: &str| admit(&Secret::new(text));
        let key = r#"{"type":"service_account","client_email":"a@b","private_key":"-----BEGIN PRIVATE KEY-----"}"#;
        assert!(account(key).is_ok());
        for bad in [
            "hunter2",
            r#"{"type":"service_account","client_email":"hunter2"}"#,
            r#"{"type":"external_account","credential_source":{"executable":{"command":"hunter2"}}}"#,
            r#"{"type":"authorized_user","refresh_token":"hunter2"}"#,
        ] {
            let error = account(bad).unwrap_err();
            assert_eq!(error.reason(), "CredentialInvalid", "{bad}");
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
        }
    }
}
