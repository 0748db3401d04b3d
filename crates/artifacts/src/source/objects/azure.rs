//! Azure Blob Storage.

use longshore_types::Secret;
use opendal::services::Azblob;
use reqsign_azure_storage::{Credential, ImdsCredentialProvider, StaticCredentialProvider};
use reqwest::Url;

use super::Built;
use super::options::{ObjectOptions, endpoint, label};
use super::place::Place;
use super::session::{Session, Shown};
use super::wire::Wire;
use crate::error::Error;
use crate::origin::Credentials;

const ACCOUNT: [&str; 3] = ["azure_storage_account", "azure_storage_account_name", "azure_storage_accountname"];
const KEY: [&str; 3] = ["azure_storage_key", "azure_storage_account_key", "azure_storage_access_key"];
const SAS: [&str; 2] = ["azure_sas_token", "azure_storage_sas_token"];
const CONNECTION: [&str; 2] = ["azure_storage_connection_string", "azure_connection_string"];
/// Hosts of the public cloud's accounts end so.
const PUBLIC: &str = ".blob.core.windows.net";

/// What all fetches of a process share.
#[derive(Debug)]
pub(super) struct Process(Option<Session<ImdsCredentialProvider>>);

impl Process {
    pub(super) fn new(options: &ObjectOptions) -> Self {
        Self(options.instance_credentials.then(|| Session::new(ImdsCredentialProvider::new())))
    }
}

/// What one set of credentials says.
#[derive(Default)]
struct Said {
    account: Option<String>,
    key: Option<Secret>,
    sas: Option<Secret>,
    endpoint: Option<Url>,
}

impl Said {
    fn of(credentials: &Credentials) -> Result<Self, Error> {
        let mut said = match credentials.get(&CONNECTION) {
            Some(text) => Self::connection(&text)?,
            None => Self::default(),
        };
        if let Some(account) = credentials.get(&ACCOUNT) {
            said.account = Some(label(ACCOUNT[0], account.expose())?);
        }
        said.key = credentials.get(&KEY).or(said.key);
        said.sas = credentials.get(&SAS).or(said.sas);
        Ok(said)
    }

    /// `AccountName=...;AccountKey=...;EndpointSuffix=...`, as the portal gives it out.
    fn connection(text: &Secret) -> Result<Self, Error> {
        let invalid =
            |problem: &str| Error::CredentialInvalid { name: CONNECTION[0].into(), problem: problem.to_owned() };
        let (mut said, mut suffix, mut protocol) = (Self::default(), None, "https");
        for part in text.expose().split(';').map(str::trim).filter(|part| !part.is_empty()) {
            let (name, value) = part.split_once('=').ok_or_else(|| invalid("is not made of name=value; parts"))?;
            match name.to_ascii_lowercase().as_str() {
                "accountname" => said.account = Some(label(CONNECTION[0], value)?),
                "accountkey" => said.key = Some(Secret::new(value)),
                "sharedaccesssignature" => said.sas = Some(Secret::new(value)),
                "blobendpoint" => said.endpoint = Some(endpoint(CONNECTION[0], value)?),
                "endpointsuffix" => suffix = Some(value.to_owned()),
                "defaultendpointsprotocol" if value == "http" => protocol = "http",
                _ => {}
            }
        }
        if let (None, Some(account), Some(suffix)) = (&said.endpoint, &said.account, suffix) {
            said.endpoint = Some(endpoint(CONNECTION[0], &format!("{protocol}://{account}.blob.{suffix}"))?);
        }
        Ok(said)
    }

    fn shows(&self) -> bool {
        self.key.is_some() || self.sas.is_some()
    }
}

/// Where a container is, and what is shown there.
struct Site {
    endpoint: String,
    said: Said,
    /// Whether this process has named the endpoint, and not the reference or its credentials.
    ours: bool,
}

impl Site {
    fn of(credentials: &Credentials, options: &ObjectOptions, place: &Place) -> Result<Self, Error> {
        let mut said = Said::of(credentials)?;
        let named = place.account.as_ref().map(|host| label("account", &host.account).map(|_| host)).transpose()?;
        let theirs = said.account.clone().or_else(|| named.map(|host| host.account.clone()));
        let account = theirs.clone().or_else(|| options.azure.account.clone());
        let ours = said.endpoint.is_none() && named.is_none() && options.azure.endpoint.is_some();
        let endpoint = match (said.endpoint.take(), named, &options.azure.endpoint) {
            (Some(url), _, _) => url.to_string(),
            (None, Some(host), _) => format!("https://{}", host.host),
            (None, None, Some(text)) => endpoint("endpoint", text)?.to_string(),
            (None, None, None) => {
                // Not a credential in itself, but it comes with them.
                let missing = || credentials.need(&ACCOUNT).err().unwrap_or(Error::Abandoned);
                let account = account.as_deref().ok_or_else(missing)?;
                format!("https://{}{PUBLIC}", label("account", account)?)
            }
        };
        // This process's own key is that of its own account.
        let own = options.azure.account.as_ref().is_some_and(|own| theirs.as_ref().is_none_or(|theirs| theirs == own));
        if !said.shows() && own && (ours || is_azures(&endpoint)) {
            let process = Said::of(&options.credentials)?;
            (said.key, said.sas) = (process.key, process.sas);
        }
        said.account = account;
        Ok(Self { endpoint: endpoint.trim_end_matches('/').to_owned(), said, ours })
    }
}

/// Whether an endpoint is Azure's own: by its host, since whoever gives credentials may write any path behind it.
fn is_azures(endpoint: &str) -> bool {
    let own = |url: Url| {
        url.scheme() == "https" && url.path() == "/" && url.host_str().is_some_and(|host| host.ends_with(PUBLIC))
    };
    Url::parse(endpoint).is_ok_and(own)
}

pub(super) fn open(
    credentials: &Credentials,
    options: &ObjectOptions,
    process: &Process,
    place: &Place,
    mut wire: Wire,
) -> Result<Built, Error> {
    let Site { endpoint, said, ours } = Site::of(credentials, options, place)?;
    let is_azure = is_azures(&endpoint);
    match Url::parse(&endpoint) {
        Ok(url) if ours => wire.trust(&url, &place.bucket),
        _ if is_azure => {}
        _ => wire.stay_outside(),
    }
    let shown: Option<Shown<Credential>> = match (&said.sas, &said.key, &said.account, &process.0) {
        (Some(sas), ..) => {
            let sas = sas.expose().trim_start_matches('?');
            Some(Session::new(StaticCredentialProvider::new_sas_token(sas)).chain())
        }
        (None, Some(key), Some(account), _) => {
            Some(Session::new(StaticCredentialProvider::new_shared_key(account, key.expose())).chain())
        }
        (None, Some(_), None, _) => return Err(credentials.need(&ACCOUNT).err().unwrap_or(Error::Abandoned)),
        // A machine's token is good for all of its accounts, so nobody but Azure may see it.
        (None, None, _, Some(instance)) if ours || is_azure => Some(instance.chain()),
        (None, None, ..) => None,
    };
    let why = shown.as_ref().map(|shown| shown.why.clone());
    let builder = Azblob::default().container(&place.bucket).endpoint(&endpoint);
    let builder = match shown {
        Some(shown) => builder.credential_provider_chain(shown.chain),
        None => builder.skip_signature(),
    };
    Ok(Built { operator: super::operator(builder, wire)?, identity: format!("{endpoint}\0{}", place.bucket), why })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credentials(entries: &[(&str, &str)]) -> Credentials {
        Credentials::new(entries.iter().map(|(name, value)| (*name, Secret::new(value))))
    }

    fn site(entries: &[(&str, &str)], options: &ObjectOptions, url: &str) -> Result<Site, Error> {
        Site::of(&credentials(entries), options, &Place::parse(&url.parse().unwrap()).unwrap())
    }

    #[test]
    fn the_account_comes_from_the_reference_its_credentials_or_the_process() {
        let none = ObjectOptions::default();
        let at = |entries: &[(&str, &str)], url| site(entries, &none, url).unwrap().endpoint;
        assert_eq!(at(&[("azure_storage_account", "acct")], "az://c/p"), "https://acct.blob.core.windows.net");
        assert_eq!(at(&[], "az://acct.blob.core.windows.net/c/p"), "https://acct.blob.core.windows.net");
        let connection =
            "DefaultEndpointsProtocol=https;AccountName=acct;AccountKey=a2V5;EndpointSuffix=core.chinacloudapi.cn";
        let named = [("azure_storage_connection_string", connection)];
        assert_eq!(at(&named, "az://c/p"), "https://acct.blob.core.chinacloudapi.cn");
        let missing = site(&[], &none, "az://c/p").err().unwrap();
        assert!(missing.to_string().contains("azure_storage_account"), "{missing}");
    }

    #[test]
    fn i8_the_processs_key_is_shown_to_its_own_account_only() {
        let own = credentials(&[("azure_storage_key", "a2V5")]);
        let mut options = ObjectOptions { credentials: own, ..Default::default() };
        options.azure.account = Some("own".into());
        let shows = |entries: &[(&str, &str)], url| site(entries, &options, url).unwrap().said.shows();
        assert!(shows(&[], "az://c/p"));
        assert!(shows(&[], "az://own.blob.core.windows.net/c/p"));
        assert!(!shows(&[], "az://other.blob.core.windows.net/c/p"));
        assert!(!shows(&[("azure_storage_account", "other")], "az://c/p"));
        for elsewhere in [
            "AccountName=own;BlobEndpoint=https://evil.example.com",
            // What a URL ends with is its path, which is anybody's.
            "AccountName=own;BlobEndpoint=https://evil.example.com/x.blob.core.windows.net",
            "AccountName=own;EndpointSuffix=evil.example.com/x.blob.core.windows.net",
            "AccountName=own;BlobEndpoint=http://own.blob.core.windows.net",
        ] {
            assert!(!shows(&[("azure_storage_connection_string", elsewhere)], "az://c/p"), "{elsewhere}");
        }
        for (endpoint, own) in [
            ("https://own.blob.core.windows.net", true),
            ("https://own.blob.core.windows.net/", true),
            ("https://evil.example.com/x.blob.core.windows.net", false),
            ("https://evil.example.com#.blob.core.windows.net", false),
            ("http://own.blob.core.windows.net", false),
        ] {
            assert_eq!(is_azures(endpoint), own, "{endpoint}");
        }
    }

    #[test]
    fn i8_a_connection_string_is_not_shown_by_what_is_wrong_with_it() {
        for bad in ["hunter2", "AccountName=Hunter2;", "BlobEndpoint=https://x/?sig=hunter2"] {
            let error = site(&[("azure_storage_connection_string", bad)], &ObjectOptions::default(), "az://c/p");
            let error = error.err().unwrap();
            assert_eq!(error.reason(), "CredentialInvalid", "{bad}");
            assert!(!format!("{error} {error:?}").to_lowercase().contains("hunter2"), "{error:?}");
        }
    }
}
